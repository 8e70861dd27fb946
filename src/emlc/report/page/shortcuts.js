// Keyboard shortcuts of the review: each key, and what it does; review.html.j2 lists them for readers.

const SHORTCUTS = {
  a: (review) => review.act("accept"),
  k: (review) => review.act("keep"),
  o: (review) => review.act("other"),
  n: (review) => review.act("recheck"),
  e: (review) => review.act("exclude"),
  s: (review) => review.act("skip"),
  u: (review) => review.undo(),
  c: (review) => review.clear(),
  x: (review) => review.act("pick"),
  z: (review) => review.act("zoom"),
  l: (review) => report.server && review.act("similar"),
  Escape: (review) => review.deselect(),
  ArrowRight: (review) => review.moveBy(1),
  ArrowLeft: (review) => review.moveBy(-1),
  ArrowDown: (review) => review.moveBy(review.columns()),
  ArrowUp: (review) => review.moveBy(-review.columns()),
  PageDown: (review) => review.turnPages(1),
  PageUp: (review) => review.turnPages(-1),
  Home: (review) => review.moveTo(0),
  End: (review) => review.moveToEnd(),
  "/": (review) => review.search(),
  "?": (review) => review.help(),
};

for (const digit of "0123456789") SHORTCUTS[digit] = (review) => review.digit(digit);

// With Shift, what is moved over is selected.
const EXTENDS = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: (review) => review.columns(), ArrowUp: (review) => -review.columns() };

function listenToKeys(element, review) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const scrolls = event.key.length > 1 && event.target.matches(".words, .values-list");
    const extends_ = event.shiftKey && event.key in EXTENDS;
    const action = extends_ ? () => review.extend(EXTENDS[event.key](review)) : SHORTCUTS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action === undefined || scrolls) return;
    event.preventDefault();
    action(review);
  });
}
