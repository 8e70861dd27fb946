// What a page does wrong by its readers: contrast, names, headings, tables; and how many texts were looked at.
() => {
  const problems = [];
  const say = (element, what) => problems.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
  const visible = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".hidden, .plot");
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !visible(element) || element.closest("script, style, :disabled")) continue;
    texts += 1;
    const one = luminance(numbers(getComputedStyle(element).color).slice(0, 3));
    const two = luminance(ground(element));
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) say(element, `contrast ${contrast.toFixed(2)}`);
  }
  const name = (element) => element.getAttribute("aria-label") || element.labels?.[0]?.innerText
    || [...(element.getAttribute("aria-labelledby") ?? "").split(" ")].map((id) => document.getElementById(id)?.textContent ?? "").join("").trim()
    || (element.matches("button, a, summary") && element.innerText.trim());
  for (const element of document.querySelectorAll("button, a, input, select, summary, dialog, section, figure, progress, [role]")) {
    if (!name(element) && !element.matches("[role=status], [role=option]")) say(element, "no name");
  }
  for (const image of document.querySelectorAll("img")) if (!image.alt) say(image, "no alt");
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption) say(table, "no caption");
    if (!table.querySelector("th[scope]")) say(table, "no headers");
  }
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const now = Number(heading.tagName[1]);
    if (now > level + 1) say(heading, "a level is left out");
    level = now;
  }
  for (const element of document.querySelectorAll("[aria-labelledby], [aria-controls]")) {
    for (const id of `${element.getAttribute("aria-labelledby") ?? ""} ${element.getAttribute("aria-controls") ?? ""}`.trim().split(" ")) {
      if (!document.getElementById(id)) say(element, `no element ${id}`);
    }
  }
  if (document.documentElement.scrollWidth > innerWidth) problems.push(`wider than the window: ${document.documentElement.scrollWidth}`);
  return [texts, problems];
}
