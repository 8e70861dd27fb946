// The review: pages of cards, decisions, and loading and downloading decisions.csv.

const PAGE = 24;

function review() {
  const form = byId("filters");
  const cards = byId("cards");
  const decisions = new Decisions(report.identity);
  const indexOf = new Map(gallery.records.map((record, k) => [record.id, k]));
  const history = []; // [id, entry before the decision], for undo
  let matches = [];
  let position = 0; // in matches

  const record = (at = position) => gallery.records[matches[at]];
  const pageOf = (at) => Math.floor(at / PAGE);
  const card = (at = position) => cards.children[at - pageOf(at) * PAGE];
  const criteria = () => Object.fromEntries(new FormData(form));

  // --- rendering

  function showPage() {
    const start = pageOf(position) * PAGE;
    const shown = matches.slice(start, start + PAGE);
    cards.replaceChildren(
      ...shown.map((index, k) => {
        const at = start + k;
        const item = makeCard(gallery.records[index], at, matches.length, (kind) => {
          moveTo(at, { focus: false });
          act(kind);
        });
        item.addEventListener("focusin", () => moveTo(at, { focus: false }));
        showDecision(item, decisions.get(gallery.records[index].id));
        return item;
      }),
    );
    byId("nothing").hidden = matches.length > 0;
    showPager();
    markCurrent();
  }

  function showPager() {
    const pages = Math.max(1, Math.ceil(matches.length / PAGE));
    const page = pageOf(position);
    for (const place of [byId("pages-top"), byId("pages-bottom")]) {
      const turn = (name, to, label) => {
        const button = element("button", { type: "button", disabled: to < 0 || to >= pages }, name);
        button.setAttribute("aria-label", label);
        button.addEventListener("click", () => turnTo(to, place.id, label));
        return button;
      };
      const words = `Page ${page + 1} of ${pages} · ${matches.length.toLocaleString("en")} of ${gallery.records.length.toLocaleString("en")} samples match`;
      place.replaceChildren(turn("‹ Previous", page - 1, "Previous page"), element("span", {}, words), turn("Next ›", page + 1, "Next page"));
      place.hidden = matches.length === 0 || (place.id === "pages-bottom" && pages === 1);
    }
  }

  function turnTo(page, place, label) {
    moveTo(page * PAGE, { focus: false });
    if (place === "pages-bottom") byId("pages-top").scrollIntoView({ block: "start" });
    byId(place).querySelector(`[aria-label="${label}"]:enabled`)?.focus({ preventScroll: place === "pages-bottom" });
  }

  function markCurrent() {
    [...cards.children].forEach((item, k) => {
      const current = k === position % PAGE;
      item.tabIndex = current ? 0 : -1;
      for (const button of item.querySelectorAll("button")) button.tabIndex = current ? 0 : -1;
    });
  }

  function showProgress() {
    const decided = gallery.records.filter(({ id }) => decisions.get(id) !== undefined).length;
    const notShown = decisions.entries.size - decided;
    byId("progress").value = decided;
    byId("progress-text").textContent =
      `${decided.toLocaleString("en")} of ${gallery.records.length.toLocaleString("en")} decided` +
      (notShown > 0 ? `, and ${notShown.toLocaleString("en")} not shown here` : "");
    byId("undo").disabled = history.length === 0;
    byId("download").disabled = decisions.entries.size === 0;
    byId("storage-note").hidden = decisions.stored;
  }

  function say(message) {
    byId("status").textContent = message;
  }

  // --- moving

  function moveTo(at, { focus = true } = {}) {
    if (matches.length === 0) return;
    const before = position;
    position = Math.min(Math.max(at, 0), matches.length - 1);
    if (pageOf(before) !== pageOf(position)) showPage();
    else if (before !== position) markCurrent();
    if (focus) card().focus();
  }

  function columns() {
    const top = cards.children[0].offsetTop;
    return [...cards.children].filter((item) => item.offsetTop === top).length;
  }

  function filter({ keep = false } = {}) {
    const id = keep && matches.length > 0 ? record().id : null;
    matches = matching(criteria(), decisions);
    position = id === null ? 0 : Math.max(0, matches.indexOf(indexOf.get(id)));
    showPage();
  }

  function showAll() {
    form.reset();
    filter({ keep: true });
  }

  function show(values) {
    form.reset();
    for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
    filter();
    byId("filters").scrollIntoView({ block: "start" });
    if (matches.length > 0) card().focus({ preventScroll: true });
    say(`${matches.length.toLocaleString("en")} samples match.`);
  }

  // --- deciding

  function decide(kind, label) {
    const current = record();
    remember(current.id);
    decisions.set(current.id, {
      decision: kind,
      label,
      given: className(current.given),
      suggested: className(current.suggested),
    });
    showDecision(card(), decisions.get(current.id));
    showProgress();
    const focused = cards.contains(document.activeElement);
    const next = nextUndecided();
    say(`${current.id}: ${VERDICTS[kind](label)}. ${byId("progress-text").textContent}.${next === null ? " All that match are decided." : ""}`);
    moveTo(next ?? position, { focus: focused });
  }

  function act(kind) {
    const current = record();
    if (current === undefined) return;
    if (kind === "other") return other.open(current);
    if (kind === "accept" && current.suggested === null) return say(`${current.id}: there is no suggestion to accept.`);
    decide(kind, { accept: className(current.suggested), keep: className(current.given), skip: "" }[kind]);
  }

  function nextUndecided() {
    for (let step = 1; step < matches.length; step += 1) {
      const at = (position + step) % matches.length;
      if (decisions.get(record(at).id) === undefined) return at;
    }
    return null;
  }

  function remember(id) {
    history.push([id, decisions.get(id)]);
  }

  function undo() {
    const [id, before] = history.pop() ?? [];
    if (id === undefined) return say("There is nothing to undo.");
    decisions.set(id, before);
    showProgress();
    let at = matches.indexOf(indexOf.get(id));
    if (at < 0) {
      showAll();
      at = matches.indexOf(indexOf.get(id));
    }
    moveTo(at);
    showDecision(card(), before);
    say(`${id}: the decision is undone. ${byId("progress-text").textContent}.`);
  }

  function clear() {
    const { id } = record();
    if (decisions.get(id) === undefined) return say(`${id}: there is no decision to clear.`);
    remember(id);
    decisions.set(id, undefined);
    showDecision(card(), undefined);
    showProgress();
    say(`${id}: the decision is cleared. ${byId("progress-text").textContent}.`);
  }

  // --- another class

  const other = (() => {
    const dialog = byId("other");
    const name = byId("other-name");
    const list = byId("other-classes");
    let active = 0;

    function fill() {
      const typed = name.value.trim().toLowerCase();
      const likely = record().top.map(([index]) => index);
      const rank = (index) => (likely.includes(index) ? likely.indexOf(index) : likely.length);
      const ranks = report.classes
        .map((label, index) => [label.toLowerCase().indexOf(typed), index])
        .filter(([place]) => place >= 0)
        .sort((a, b) => (a[0] > 0) - (b[0] > 0) || rank(a[1]) - rank(b[1]) || a[1] - b[1]);
      list.replaceChildren(
        ...ranks.slice(0, 200).map(([, index], k) => {
          const option = element("li", { role: "option", id: `other-${k}` }, element("bdi", {}, className(index)));
          option.dataset.index = index;
          option.addEventListener("click", () => choose(k));
          return option;
        }),
      );
      byId("other-none").hidden = ranks.length > 0;
      mark(0);
    }

    function mark(k) {
      active = Math.min(Math.max(k, 0), list.children.length - 1);
      [...list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === active)));
      name.setAttribute("aria-activedescendant", active < 0 ? "" : `other-${active}`);
      list.children[active]?.scrollIntoView({ block: "nearest" });
    }

    function choose(k) {
      const option = list.children[k];
      if (option === undefined) return;
      dialog.close();
      card().focus();
      const index = Number(option.dataset.index);
      const current = record();
      // The class determines the decision: typing the suggested class accepts it.
      const kind = index === current.suggested ? "accept" : index === current.given ? "keep" : "other";
      decide(kind, className(index));
    }

    name.addEventListener("input", fill);
    name.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") mark(active + 1);
      else if (event.key === "ArrowUp") mark(active - 1);
      else if (event.key === "Enter") choose(active);
      else return;
      event.preventDefault();
    });
    byId("other-cancel").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => card()?.focus());
    return {
      open() {
        name.value = "";
        // The dialog may cover the card.
        byId("other-sample").replaceChildren(content(record()) ?? "", element("p", { className: "change" }, ...change(record())));
        dialog.showModal();
        fill();
        name.focus();
      },
    };
  })();

  // --- keyboard shortcuts

  const help = () => byId("help").showModal();
  listenToKeys(cards, {
    ...{ act, undo, clear, columns, moveTo, help },
    moveBy: (steps) => moveTo(position + steps),
    turnPages: (pages) => moveTo((pageOf(position) + pages) * PAGE),
    moveToEnd: () => moveTo(matches.length - 1),
    search: () => form.elements.search.focus(),
  });

  // --- controls

  fillClasses(form.elements.given, "given");
  fillClasses(form.elements.suggested, "suggested");
  form.addEventListener("input", () => filter());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    card()?.focus();
  });
  for (const button of [byId("clear"), byId("clear-filters")]) button.addEventListener("click", showAll);
  byId("start").addEventListener("click", () => {
    const undecided = decisions.get(record()?.id) === undefined ? position : nextUndecided();
    moveTo(undecided ?? position);
  });
  byId("undo").addEventListener("click", undo);
  byId("help-button").addEventListener("click", help);

  byId("download").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([decisions.csv()], { type: "text/csv" }));
    element("a", { href: url, download: "decisions.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    decisions.saved = true;
    say(`${decisions.entries.size.toLocaleString("en")} decisions downloaded.`);
  });
  byId("load").addEventListener("click", () => byId("load-file").click());
  byId("load-file").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (file === undefined) return;
    const text = await file.text();
    target.value = ""; // so that the same file can be loaded again
    try {
      const { loaded, stale } = decisions.load(text, (id) => {
        const index = indexOf.get(id);
        return index === undefined ? undefined : className(gallery.records[index].given);
      });
      history.length = 0;
      const left = stale > 0 ? ` ${stale} left out: their given label has changed.` : "";
      say(`${loaded.toLocaleString("en")} decisions loaded from ${file.name}.${left}`);
    } catch (error) {
      say(`${file.name} was not loaded: ${error.message}`);
    }
    showProgress();
    filter({ keep: true });
  });
  addEventListener("storage", (event) => {
    if (event.key !== decisions.key) return; // the storage event means that another window reviews the same run
    decisions.reload();
    history.length = 0;
    showProgress();
    showPage();
  });
  addEventListener("beforeunload", (event) => {
    if (!decisions.saved) event.preventDefault();
  });

  // --- from elsewhere in the page

  for (const button of document.querySelectorAll("button.pair")) {
    button.addEventListener("click", () => show({ given: button.dataset.given, suggested: button.dataset.suggested, kind: "issue" }));
  }
  figures.onClick((key, point) => {
    if (key === "map" && typeof point.customdata === "number") return show({ search: exactly(gallery.records[point.customdata].id) });
    if (key !== "corrected") return undefined;
    const { classes } = report.figures.corrected.matrix;
    const given = String(classes[point.y]);
    const corrected = String(classes[point.x]);
    return show(given === corrected ? { given, kind: "no-issue" } : { given, suggested: corrected, kind: "issue" });
  });

  showProgress();
  filter();
}

if (gallery !== null) review();
