// One card per sample: its content, its labels, their probabilities, and the decision.

const VERDICTS = {
  accept: (label) => `accepted: ${label}`,
  keep: (label) => `kept: ${label}`,
  other: (label) => `other class: ${label}`,
  skip: () => "skipped",
  recheck: () => "needs another look",
  exclude: () => "excluded",
};

const FEW_CLASSES = 10; // each of so many classes has a digit of its own: 1 to 9, and 0
const DIGIT_NAMES = report.classes.every((name) => /^\d$/.test(name)); // then that digit is the name

/** The digit that chooses a class: its own, or of many classes its place among the card's most probable ones. */
function digitOf(record, index) {
  if (DIGIT_NAMES) return report.classes[index];
  if (report.classes.length <= FEW_CLASSES) return String((index + 1) % 10);
  const place = record.top.findIndex(([shown]) => shown === index);
  return place < 0 || place > 8 ? null : String(place + 1);
}

/** The class that a digit chooses, undefined if none. */
function classOfDigit(record, digit) {
  const place = DIGIT_NAMES ? report.classes.indexOf(digit) : (Number(digit) + 9) % 10;
  return report.classes.length <= FEW_CLASSES ? (place in report.classes ? place : undefined) : record.top[place]?.[0];
}

const percent = (share) => (share === 0 ? "0 %" : share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);
const fraction = (value) => (value < 0.001 ? "<0.001" : value.toFixed(3));

const EXPLAINED = {
  "retain weight": "How far the teacher keeps the given label: 1 keeps it, 0 replaces it",
  "label quality": "The estimated probability that the given label is right",
  kind: "An issue is a label that counts as wrong; uncertain: no class is probable",
  "true class": "Known in experiments only",
};

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

/** Let the keyboard reach contents that scroll; not all browsers do so by themselves. */
function makeScrollable(root) {
  for (const shown of root.querySelectorAll(".words, .values-list")) {
    if (shown.scrollHeight > shown.clientHeight) shown.tabIndex = 0;
  }
}

function probabilities(record) {
  const list = element("ul", { className: "odds", "aria-label": "Most probable classes" });
  for (const [index, share] of record.top) {
    const fill = element("span");
    fill.style.width = `${100 * share}%`;
    const digit = digitOf(record, index);
    const item = element(
      "li",
      {},
      element("span", { className: "class" }, digit === null ? null : element("kbd", { "aria-hidden": "true" }, digit), element("bdi", { title: className(index) }, className(index))),
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
  const add = (name, value) => list.append(element("div", {}, element("dt", { title: EXPLAINED[name] }, name), element("dd", {}, element("bdi", {}, value))));
  if (!gallery.suggests) return list;
  add("retain weight", fraction(record.retain));
  add("label quality", fraction(record.quality));
  if (!record.issue || record.uncertain) add("kind", [record.issue ? "issue" : "no issue", ...(record.uncertain ? ["uncertain"] : [])].join(", "));
  if (record.true !== null) add("true class", className(record.true));
  return list;
}

const BUTTONS = [
  ["accept", "Accept", "a"],
  ["keep", "Keep", "k"],
  ["other", "Other…", "o"],
  ["recheck", "Look again", "n"],
  ["exclude", "Exclude", "e"],
  ["skip", "Skip", "s"],
];

/** Make the card of a record; `act` is called with the name of the button that is pressed, and its event. */
function makeCard(record, position, total, act) {
  const key = `card-${position}`;
  const card = element("article", { className: `card ${gallery.content}`, tabIndex: -1 });
  card.setAttribute("aria-posinset", position + 1);
  card.setAttribute("aria-setsize", total);
  card.setAttribute("aria-labelledby", `${key}-id ${key}-change ${key}-verdict`);
  const pick = element("input", { type: "checkbox", className: "pick", tabIndex: -1 });
  pick.setAttribute("aria-label", `Select sample ${record.id}`);
  pick.addEventListener("click", (event) => act("pick", event));
  const heading = element(
    "div",
    { className: "heading" },
    element("h3", { id: `${key}-id`, title: record.id }, element("bdi", {}, record.id)),
    pick,
    element("p", { id: `${key}-change`, className: "change" }, element("span", { className: "hidden" }, "given "), ...change(record)),
  );
  const button = (kind, name, letter) => {
    const made = element("button", { type: "button", tabIndex: -1 }, name, element("kbd", { "aria-hidden": "true" }, letter));
    made.addEventListener("click", (event) => act(kind, event));
    return made;
  };
  const buttons = BUTTONS.filter(([kind]) => gallery.suggests || kind !== "accept").map(([kind, name, letter]) => {
    const made = button(kind, name, letter);
    made.dataset.kind = kind;
    made.disabled = kind === "accept" && record.suggested === null;
    return made;
  });
  if (report.server) buttons.push(button("similar", "Like this…", "l"));
  const verdict = element("p", { id: `${key}-verdict`, className: "verdict" });
  const evidence = element("div", { className: "evidence" }, facts(record), probabilities(record) ?? "");
  const shown = content(record) ?? "";
  if (gallery.content === "image") {
    shown.classList.add("enlarges");
    shown.title = "Enlarge (z)";
    shown.addEventListener("click", (event) => act("zoom", event));
  }
  card.append(heading, element("div", { className: "body" }, shown, evidence), element("div", { className: "decide" }, ...buttons, verdict, element("p", { className: "others" })));
  return card;
}

/** Show a decision on its card, or with `entry` undefined that there is none, and what others decided. */
function showDecision(card, entry, others) {
  const words = others.map(([reviewer, other]) => element("span", {}, element("bdi", {}, reviewer), ": ", element("bdi", {}, VERDICTS[other.decision](other.label))));
  card.querySelector(".others").replaceChildren(...words);
  if (entry === undefined) delete card.dataset.decision;
  else card.dataset.decision = entry.decision;
  for (const button of card.querySelectorAll("[data-kind]")) {
    button.setAttribute("aria-pressed", String(button.dataset.kind === entry?.decision));
  }
  card.querySelector(".verdict").replaceChildren(
    ...(entry === undefined ? [] : [element("bdi", {}, VERDICTS[entry.decision](entry.label))]),
  );
}
