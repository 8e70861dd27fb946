// One card per sample: its content, its labels, their probabilities, and the decision.

const VERDICTS = {
  accept: (label) => `accepted: ${label}`,
  keep: (label) => `kept: ${label}`,
  other: (label) => `other class: ${label}`,
  skip: () => "skipped",
};

const percent = (share) => (share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);
const fraction = (value) => (value < 0.001 ? "<0.001" : value.toFixed(3));

function content(record) {
  if (gallery.content === "image") {
    const image = element("img", { src: record.content, alt: `sample ${record.id}`, decoding: "async" });
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= 64));
    return image;
  }
  if (gallery.content === "text") return element("p", { className: "words" }, element("bdi", {}, record.content));
  if (gallery.content === "none") return null;
  const list = element("dl", { className: "values-list" });
  record.content.forEach((value, k) => {
    const name = gallery.columns[k];
    list.append(element("div", {}, element("dt", { title: name }, element("bdi", {}, name)), element("dd", {}, value)));
  });
  if (gallery.hidden_values > 0) {
    list.append(element("div", { className: "more" }, element("dt", {}, `and ${gallery.hidden_values.toLocaleString("en")} more`)));
  }
  return list;
}

function probabilities(record) {
  const list = element("ul", { className: "odds", "aria-label": "Most probable classes" });
  for (const [index, share] of record.top) {
    const fill = element("span");
    fill.style.width = `${100 * share}%`;
    const item = element(
      "li",
      {},
      element("bdi", { title: className(index) }, className(index)),
      element("span", { className: "share" }, percent(share)),
      element("span", { className: "track", "aria-hidden": "true" }, fill),
    );
    item.classList.toggle("is-given", index === record.given);
    item.classList.toggle("is-suggested", index === record.suggested);
    list.append(item);
  }
  return record.top.length > 0 ? list : null;
}

function change(record) {
  const given = element("bdi", { className: "given" }, className(record.given));
  if (record.suggested === null) return [given];
  const between = [element("span", { "aria-hidden": "true" }, " → "), element("span", { className: "hidden" }, ", suggested ")];
  return [given, ...between, element("bdi", { className: "suggested" }, className(record.suggested))];
}

function facts(record) {
  const list = element("dl", { className: "facts" });
  const add = (name, value) => list.append(element("div", {}, element("dt", {}, name), element("dd", {}, element("bdi", {}, value))));
  if (!gallery.suggests) return list;
  add("retain weight", fraction(record.retain));
  add("label quality", fraction(record.quality));
  if (!record.issue || record.uncertain) add("kind", [record.issue ? "issue" : "no issue", ...(record.uncertain ? ["uncertain"] : [])].join(", "));
  if (record.true !== null) add("true class", className(record.true));
  return list;
}

/** Make the card of a record; `act` is called with accept, keep, other or skip when a button is pressed. */
function makeCard(record, position, total, act) {
  const key = `card-${position}`;
  const card = element("article", { className: `card ${gallery.content}`, tabIndex: -1 });
  card.setAttribute("aria-posinset", position + 1);
  card.setAttribute("aria-setsize", total);
  card.setAttribute("aria-labelledby", `${key}-id ${key}-change ${key}-verdict`);
  const heading = element(
    "div",
    {},
    element("h3", { id: `${key}-id`, title: record.id }, element("bdi", {}, record.id)),
    element("p", { id: `${key}-change`, className: "change" }, element("span", { className: "hidden" }, "given "), ...change(record)),
  );
  const buttons = [
    ...(gallery.suggests ? [["accept", "Accept", "a"]] : []),
    ["keep", "Keep", "k"],
    ["other", "Other…", "o"],
    ["skip", "Skip", "s"],
  ].map(([kind, name, letter]) => {
    const button = element("button", { type: "button", tabIndex: -1 }, name, element("kbd", { "aria-hidden": "true" }, letter));
    button.dataset.kind = kind;
    button.disabled = kind === "accept" && record.suggested === null;
    button.addEventListener("click", () => act(kind));
    return button;
  });
  const verdict = element("p", { id: `${key}-verdict`, className: "verdict" });
  const evidence = element("div", { className: "evidence" }, facts(record), probabilities(record) ?? "");
  card.append(heading, element("div", { className: "body" }, content(record) ?? "", evidence), element("div", { className: "decide" }, ...buttons, verdict));
  return card;
}

/** Show a decision on its card, or with `entry` undefined that there is none. */
function showDecision(card, entry) {
  if (entry === undefined) delete card.dataset.decision;
  else card.dataset.decision = entry.decision;
  for (const button of card.querySelectorAll("[data-kind]")) {
    button.setAttribute("aria-pressed", String(button.dataset.kind === entry?.decision));
  }
  card.querySelector(".verdict").replaceChildren(
    ...(entry === undefined ? [] : [element("bdi", {}, VERDICTS[entry.decision](entry.label))]),
  );
}
