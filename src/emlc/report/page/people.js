// The reviewers: who this one is, and how far all of them agree. Of a file opened offline there is one, without a name.

const people = {
  /** A name as it is stored, or "" if the server would not take it: empty, too long, or with control characters. */
  fit(typed) {
    const name = typed.trim().replace(/\s+/g, " ");
    const visible = name.replace(/[\u200c\u200d]/g, ""); // joiners, which Persian and other names are written with
    return /^[^\p{C}\p{Zl}\p{Zp}]+$/u.test(visible) && [...name].length <= 80 ? name : "";
  },

  complain(problem) {
    byId("who-problem").textContent = problem;
    byId("who-problem").hidden = problem === "";
  },

  /** Ask for the reviewer's name until there is one, and call `changed`. */
  ask(storage, changed, problem = "") {
    const name = byId("name");
    name.value = storage.me;
    this.complain(problem);
    if (!byId("who").open) byId("who").showModal();
    byId("who-form").onsubmit = (event) => {
      event.preventDefault();
      const fit = this.fit(name.value);
      this.complain(fit === "" ? "A name has 1 to 80 characters, and no control characters." : "");
      if (fit === "") return;
      storage.rename(fit);
      stored.write("emlc-reviewer", fit);
      byId("who").close();
      changed();
    };
    byId("who").oncancel = (event) => storage.isNamed || event.preventDefault();
    byId("who").onclose = () => storage.isNamed || byId("who").showModal(); // browsers may close it all the same
  },

  async showAgreement(storage) {
    const answer = await storage.fetch("agreement");
    if (answer === null) return;
    const kappa = (value) => (value === null ? "-" : value.toFixed(2));
    const heads = ["Reviewers", "Samples of both", "Agree", "Cohen’s κ", "κ by class"];
    const rows = answer.agreements.map(({ reviewers, samples, agree, kappa: whole, by_class }) => {
      const classes = Object.entries(by_class).map(([name, value]) => element("li", {}, element("bdi", {}, name), `: ${kappa(value)}`));
      const cells = [reviewers.join(", "), String(samples), percent(agree / samples), kappa(whole)];
      return element("tr", {}, ...cells.map((text, k) => element(k === 0 ? "th" : "td", k === 0 ? { scope: "row" } : {}, element("bdi", {}, text))), element("td", {}, element("ul", { className: "by-class" }, ...classes)));
    });
    byId("agreement-rows").replaceChildren(...rows);
    byId("agreement-head").replaceChildren(...heads.map((text) => element("th", { scope: "col" }, text)));
    byId("agreement-none").hidden = rows.length > 0;
    byId("agreement-table").hidden = rows.length === 0;
  },
};
