// Shared by the other scripts: the data of the report, making elements, the browser's storage, and the theme.

const report = JSON.parse(document.getElementById("report-data").textContent);

const byId = (id) => document.getElementById(id);

/** Make an element with properties and children; strings become text, never markup. */
function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** The browser's storage, which browsers may deny to pages opened from a file. */
const stored = {
  works: (() => {
    try {
      localStorage.setItem("emlc-probe", "1");
      localStorage.removeItem("emlc-probe");
      return true;
    } catch {
      return false;
    }
  })(),
  read(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  },
  write(key, value) {
    try {
      localStorage.setItem(key, value);
      return true;
    } catch {
      return false; // denied, or full
    }
  },
  remove(key) {
    try {
      localStorage.removeItem(key);
    } catch {
      // there is nothing to remove
    }
  },
  keys() {
    try {
      return Object.keys(localStorage);
    } catch {
      return [];
    }
  },
};

const theme = {
  preference: matchMedia("(prefers-color-scheme: dark)"),
  listeners: [],
  get dark() {
    return document.documentElement.dataset.theme === "dark";
  },
  show(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    byId("theme").textContent = dark ? "Light theme" : "Dark theme";
    for (const listener of this.listeners) listener();
  },
};
const chosenTheme = () => stored.read("emlc-theme");
theme.show(chosenTheme() ? chosenTheme() === "dark" : theme.preference.matches);
theme.preference.addEventListener("change", () => chosenTheme() || theme.show(theme.preference.matches));
byId("theme").addEventListener("click", () => {
  theme.show(!theme.dark);
  stored.write("emlc-theme", theme.dark ? "dark" : "light");
});
