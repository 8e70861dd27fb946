// Keyboard shortcuts of the review: each key, and what it does; review.html.j2 lists them for readers.

const SHORTCUTS = {
  a: (review) => review.act("accept"),
  k: (review) => review.act("keep"),
  o: (review) => review.act("other"),
  s: (review) => review.act("skip"),
  u: (review) => review.undo(),
  c: (review) => review.clear(),
  n: (review) => review.moveBy(1),
  p: (review) => review.moveBy(-1),
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

function listenToKeys(element, review) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const scrolls = event.key.length > 1 && event.target.matches(".words, .values-list");
    const action = SHORTCUTS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action === undefined || scrolls) return;
    event.preventDefault();
    action(review);
  });
}
