// The review: pages of cards, decisions on one sample or many, and loading and downloading decisions.csv.

const PAGE = 24;
const PRESENT = { accept: "accepted", keep: "kept", other: "got another class", skip: "skipped", recheck: "need another look", exclude: "excluded" };

function review() {
  const form = byId("filters");
  const cards = byId("cards");
  const storage = report.server ? new ServerStorage(report.identity) : new BrowserStorage(report.identity);
  const decisions = new Decisions(storage);
  const indexOf = new Map(gallery.records.map((record, k) => [record.id, k]));
  const history = []; // of each action [id, entry before it] of all samples that it changed, for undo
  const zoom = makeZoom();
  const selected = new Set(); // indices of records
  const sighted = new Set(); // ids of samples on whose cards others' decisions were shown
  let anchor = 0; // in matches, where a range begins
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
        const item = makeCard(gallery.records[index], at, matches.length, (kind, event) => {
          moveTo(at, { focus: false });
          act(kind, event);
        });
        item.addEventListener("focusin", () => moveTo(at, { focus: false }));
        return item;
      }),
    );
    makeScrollable(cards);
    byId("nothing").hidden = matches.length > 0;
    cards.hidden = matches.length === 0; // an empty feed is none
    showPager();
    showCards();
    markCurrent();
  }

  /** Bring decisions and selection of the cards that are shown up to date. */
  function showCards() {
    const start = pageOf(position) * PAGE;
    [...cards.children].forEach((item, k) => {
      const index = matches[start + k];
      const { id } = gallery.records[index];
      const entry = decisions.get(id);
      const others = entry !== undefined || resolving() ? decisions.others(id) : []; // who has not decided is not to be led
      if (others.length > 0) sighted.add(id);
      showDecision(item, entry, others);
      item.classList.toggle("is-selected", selected.has(index));
      item.querySelector(".pick").checked = selected.has(index);
    });
    byId("selection").hidden = selected.size === 0;
    byId("selection-text").textContent = `${selected.size.toLocaleString("en")} selected: keys and buttons act on all of them`;
    byId("select-all").textContent = `Select all ${matches.length.toLocaleString("en")} that match`;
  }

  /** Whether what is shown are disagreements, so that decisions settle them. */
  const resolving = () => criteria().decision === "disagree";

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
    const entries = gallery.records.map(({ id }) => decisions.get(id)).filter((entry) => entry !== undefined);
    const later = entries.filter(({ decision }) => UNSETTLED.includes(decision)).length;
    const decided = entries.length - later;
    const notShown = decisions.entries.size - entries.length;
    byId("progress").value = decided;
    byId("progress-text").textContent =
      `${decided.toLocaleString("en")} of ${gallery.records.length.toLocaleString("en")} decided${report.server ? " by you" : ""}${putOff(later)}` +
      (notShown > 0 ? `, and ${notShown.toLocaleString("en")} not shown here` : "");
    byId("undo").disabled = history.length === 0;
    byId("download").disabled = decisions.entries.size === 0 && !report.server;
    byId("storage-note").hidden = decisions.storage.works;
    byId("standing").textContent = standing(decisions);
    if (report.server) showServer();
  }

  function showServer() {
    const waiting = storage.queue.reduce((sum, action) => sum + action.decisions.length, 0);
    byId("server-note").hidden = storage.problem === "";
    byId("server-note").textContent = `${storage.problem} ${waiting.toLocaleString("en")} decisions wait in this browser, and are sent when it answers.`;
    byId("reviewer").textContent = storage.me === "" ? "Your name…" : `Reviewer: ${storage.me}`;
    const open = gallery.records.filter(({ id }) => decisions.disagree(id)).length;
    byId("disagreements").hidden = open === 0;
    byId("disagreements").textContent = `Disagreements: ${open.toLocaleString("en")}`;
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
    selected.clear();
    anchor = 0;
    byId("similar-note").hidden = similarTo === null;
    showQueue();
    matches = matching(criteria(), decisions);
    position = id === null ? 0 : Math.max(0, matches.indexOf(indexOf.get(id)));
    showPage();
  }

  /** Say what the order is for; in a random order there is nothing to sort by. */
  function showQueue() {
    if (!gallery.suggests) return;
    const { queue } = criteria();
    for (const option of form.elements.queue.options) byId(`queue-${option.value}`).hidden = option.value !== queue;
    for (const name of ["sort", "order"]) form.elements[name].disabled = queue === "random";
  }

  /** Take all filters back, but not the order of the review. */
  function reset() {
    const queue = form.elements.queue?.value;
    form.reset();
    if (queue !== undefined) form.elements.queue.value = queue;
  }

  function showAll() {
    reset();
    similarTo = null;
    filter({ keep: true });
  }

  function show(values) {
    form.reset();
    similarTo = null;
    for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
    filter();
    byId("filters").scrollIntoView({ block: "start" });
    if (matches.length > 0) card().focus({ preventScroll: true });
    say(`${matches.length.toLocaleString("en")} samples match.`);
  }

  // --- deciding

  /** The indices that an action is about: those selected, or the current one. */
  const targets = () => (selected.size > 0 ? [...selected] : [matches[position]]);

  /** Decide on all targets; `labelOf` returns [decision, label] of a record, or null to leave it as it is. */
  function decide(labelOf) {
    const found = targets().map((index) => [gallery.records[index], labelOf(gallery.records[index])]);
    const taken = found.filter(([, choice]) => choice !== null);
    const chosen = chosenBy(criteria(), selected.size > 0);
    const changes = taken.map(([one, [decision, label]]) => [one.id, { decision, label, given: className(one.given), suggested: className(one.suggested), chosen, resolves: resolving(), seen: sighted.has(one.id) }]);
    if (changes.length === 0) return say(`${found.length === 1 ? `${found[0][0].id}: there` : "There"} is no suggestion to accept.`);
    remember(changes.map(([id]) => id));
    decisions.set(changes);
    const many = selected.size > 0;
    selected.clear();
    showCards();
    showProgress();
    const focused = cards.contains(document.activeElement) || many;
    const next = nextOpen();
    const isDone = next === null && !isOpen(record().id);
    const done = resolving() ? " No disagreement is left." : " All that match are decided.";
    const end = `${byId("progress-text").textContent}.${isDone ? done : ""}`;
    const [[id, { decision, label }]] = changes;
    const left = found.length - taken.length;
    const words = many ? `${taken.length.toLocaleString("en")} samples ${PRESENT[decision]}${left > 0 ? `, ${left.toLocaleString("en")} without a suggestion are left as they were` : ""}` : `${id}: ${VERDICTS[decision](label)}`;
    say(`${words}. ${end}`);
    moveTo(next ?? position + 1, { focus: focused });
  }

  function act(kind, event) {
    const current = record();
    if (current === undefined) return undefined;
    if (kind === "pick") return pick(event);
    if (kind === "zoom") return ["image", "text"].includes(gallery.content) && zoom.open(current);
    if (kind === "similar") return context.show(current, storage, showSimilar);
    if (kind === "other") return other.open();
    return decide((one) => {
      if (kind === "accept" && one.suggested === null) return null;
      return [kind, { accept: className(one.suggested), keep: className(one.given) }[kind] ?? ""];
    });
  }

  /** Decide for a class: which decision that is depends on the sample's labels. */
  const decideFor = (index) => decide((one) => [index === one.suggested ? "accept" : index === one.given ? "keep" : "other", className(index)]);

  function digit(pressed) {
    const current = record();
    if (current === undefined) return;
    const index = classOfDigit(current, pressed);
    if (index === undefined) say(`The key ${pressed} stands for no class.`);
    else decideFor(index);
  }

  // --- selecting

  /** Select or deselect the current sample; with Shift all from the last one that was. */
  function pick(event) {
    const index = matches[position];
    if (event?.shiftKey) range(anchor, position);
    else if (selected.has(index)) selected.delete(index);
    else selected.add(index);
    if (!event?.shiftKey) anchor = position;
    showCards();
  }

  function range(from, to) {
    for (let at = Math.min(from, to); at <= Math.max(from, to); at += 1) selected.add(matches[at]);
  }

  function extend(steps) {
    if (selected.size === 0) anchor = position;
    moveTo(position + steps);
    range(anchor, position);
    showCards();
  }

  function select(indices) {
    for (const index of indices) selected.add(index);
    showCards();
    say(`${selected.size.toLocaleString("en")} samples selected.`);
  }

  function deselect() {
    selected.clear();
    showCards();
    card()?.focus();
  }

  function showSimilar(to, found) {
    reset();
    similarTo = new Map([[to.row, -1], ...found.map(([row], place) => [row, place])]);
    byId("similar-name").textContent = to.id;
    filter();
    if (matches.length > 0) card().focus();
  }

  /** Whether a sample is still to be decided on, or among disagreements to be settled. */
  function isOpen(id) {
    if (resolving()) return decisions.disagree(id);
    const entry = decisions.get(id);
    return entry === undefined || UNSETTLED.includes(entry.decision);
  }

  /** The place of the next open sample after the current one, null if none; those without a decision come before those put off. */
  function nextOpen() {
    const following = matches.map((_, step) => (position + 1 + step) % matches.length).slice(0, -1);
    const open = following.filter((at) => isOpen(record(at).id));
    return open.find((at) => resolving() || decisions.get(record(at).id) === undefined) ?? open[0] ?? null;
  }

  function remember(ids) {
    history.push(ids.map((id) => [id, decisions.get(id)]));
  }

  function undo() {
    const action = history.pop();
    if (action === undefined) return say("There is nothing to undo.");
    decisions.set(action);
    const [[id]] = action;
    let at = matches.indexOf(indexOf.get(id));
    if (at < 0) {
      showAll();
      at = matches.indexOf(indexOf.get(id));
    }
    if (at < 0 && form.elements.queue?.value === "random" && indexOf.has(id)) {
      form.elements.queue.value = "worst"; // the random order has a part of the samples
      filter();
      at = matches.indexOf(indexOf.get(id));
    }
    showProgress();
    if (at >= 0) moveTo(at);
    showCards();
    const what = action.length === 1 ? `${id}: the decision is undone` : `${action.length.toLocaleString("en")} decisions are undone`;
    return say(`${what}. ${byId("progress-text").textContent}.`);
  }

  function clear() {
    const ids = targets().map((index) => gallery.records[index].id).filter((id) => decisions.get(id) !== undefined);
    if (ids.length === 0) return say(`${record().id}: there is no decision to clear.`);
    remember(ids);
    decisions.set(ids.map((id) => [id, undefined]));
    selected.clear();
    showCards();
    showProgress();
    const what = ids.length === 1 ? `${ids[0]}: the decision is` : `${ids.length.toLocaleString("en")} decisions are`;
    return say(`${what} cleared. ${byId("progress-text").textContent}.`);
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
      decideFor(Number(option.dataset.index));
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
        const many = element("p", {}, `${selected.size.toLocaleString("en")} selected samples`);
        byId("other-sample").replaceChildren(...(selected.size > 0 ? [many] : [content(record()) ?? "", element("p", { className: "change" }, ...change(record()))]));
        dialog.showModal();
        makeScrollable(dialog);
        fill();
        name.focus();
      },
    };
  })();

  // --- keyboard shortcuts

  const help = () => byId("help").showModal();
  listenToKeys(cards, {
    ...{ act, undo, clear, columns, moveTo, help, digit, extend, deselect },
    moveBy: (steps) => moveTo(position + steps),
    turnPages: (pages) => moveTo((pageOf(position) + pages) * PAGE),
    moveToEnd: () => moveTo(matches.length - 1),
    search: () => form.elements.search.focus(),
  });

  // --- controls

  fillClasses(form.elements.given, "given");
  fillClasses(form.elements.suggested, "suggested");
  form.addEventListener("input", () => filter());
  form.elements.queue?.addEventListener("input", () => filter()); // it stands outside the form
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    card()?.focus();
  });
  for (const button of [byId("clear"), byId("clear-filters")]) button.addEventListener("click", showAll);
  byId("start").addEventListener("click", () => {
    const isNew = resolving() ? isOpen(record()?.id) : decisions.get(record()?.id) === undefined;
    moveTo(isNew ? position : (nextOpen() ?? position));
  });
  byId("undo").addEventListener("click", undo);
  byId("select-page").addEventListener("click", () => select(matches.slice(pageOf(position) * PAGE, (pageOf(position) + 1) * PAGE)));
  byId("select-all").addEventListener("click", () => select(matches));
  byId("deselect").addEventListener("click", deselect);
  for (const button of byId("selection").querySelectorAll("[data-all]")) button.addEventListener("click", () => act(button.dataset.all));
  byId("similar-clear").addEventListener("click", showAll);
  zoom.onClose(() => card()?.focus());
  byId("help-button").addEventListener("click", help);

  byId("download").addEventListener("click", () => {
    if (report.server) return element("a", { href: "decisions.csv", download: "decisions.csv" }).click();
    const url = URL.createObjectURL(new Blob([decisions.csv()], { type: "text/csv" }));
    element("a", { href: url, download: "decisions.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    decisions.saved = true;
    return say(`${decisions.entries.size.toLocaleString("en")} decisions downloaded.`);
  });
  byId("load").addEventListener("click", () => byId("load-file").click());
  byId("load-file").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (file === undefined) return;
    const text = await file.text();
    target.value = ""; // so that the same file can be loaded again
    try {
      const { changes, stale } = decisions.parse(text, (id) => {
        const index = indexOf.get(id);
        return index === undefined ? undefined : className(gallery.records[index].given);
      });
      const replaced = changes.filter(([id]) => decisions.get(id) !== undefined).length;
      if (changes.length > 0) remember(changes.map(([id]) => id));
      decisions.set(changes);
      const before = replaced > 0 ? ` ${replaced.toLocaleString("en")} took the place of decisions made before; undo takes it back.` : "";
      const left = stale > 0 ? ` ${stale} left out: ${report.server ? "they are not shown here, or " : ""}their given label has changed.` : "";
      say(`${changes.length.toLocaleString("en")} decisions loaded from ${file.name}.${before}${left}`);
    } catch (error) {
      say(`${file.name} was not loaded: ${error.message}`);
    }
    showProgress();
    filter({ keep: true });
  });
  /** Show the decisions of a reviewer who has got a name. */
  function arrive() {
    sighted.clear();
    decisions.reload();
    history.length = 0;
    showProgress();
    filter({ keep: true });
  }

  storage.listen((changed = true) => {
    if (changed) {
      decisions.reload();
      if (!report.server) history.length = 0; // another window reviews the same run
      showCards();
    }
    showProgress();
    if (report.server && storage.unfit !== null && storage.refused) people.ask(storage, arrive, storage.refused);
    if (storage.refused) say(storage.refused);
    storage.refused = "";
  });
  if (report.server) {
    byId("reviewer").addEventListener("click", () => people.ask(storage, arrive));
    byId("disagreements").addEventListener("click", () => show({ decision: "disagree" }));
    byId("agreement").addEventListener("toggle", ({ target }) => target.open && people.showAgreement(storage));
    if (storage.me === "") people.ask(storage, arrive);
  }
  addEventListener("beforeunload", (event) => {
    if (!decisions.saved) event.preventDefault();
  });

  // --- from elsewhere in the page

  for (const button of document.querySelectorAll("button.pair")) {
    button.addEventListener("click", () => show({ given: button.dataset.given, suggested: button.dataset.suggested, kind: "issue" }));
  }
  const isPhone = matchMedia("(max-width: 720px)").matches; // where the cards come first
  byId("filter-box").open = !isPhone;
  if (isPhone) byId("about").open = false;

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
