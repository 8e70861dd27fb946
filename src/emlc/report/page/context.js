// What a sample is like: trusted samples of its classes, near-duplicates, and all that are similar.

const context = {
  async show(record, storage, showSimilar) {
    const answer = await storage.fetch(`similar/${record.row}`);
    if (answer === null) return;
    byId("context-title").replaceChildren("Like ", element("bdi", {}, record.id));
    byId("context-sample").replaceChildren(content(record) ?? "", element("p", { className: "change" }, ...change(record)));
    byId("context-groups").replaceChildren(
      ...answer.trusted.map(({ label, samples }) => this.group(["trusted samples of class ", element("bdi", {}, label)], samples)),
      ...(answer.duplicates.length > 0 ? [this.group(["nearly the same"], this.known(answer.duplicates, record))] : []),
    );
    byId("context-all").textContent = `Show the ${answer.similar.length.toLocaleString("en")} most similar`;
    byId("context-all").onclick = () => {
      byId("context").close();
      showSimilar(record, answer.similar);
    };
    byId("context").showModal();
    makeScrollable(byId("context"));
    byId("context").scrollTop = 0; // the focus is on a button at the end
  },

  /** Records of rows that are shown in the gallery, with their similarity. */
  known(found) {
    const byRow = new Map(gallery.records.map((record) => [record.row, record]));
    return found.map(([row, similarity]) => ({ ...byRow.get(row), similarity }));
  },

  group(title, samples) {
    const items = samples.map((sample) =>
      element("li", {}, content(sample) ?? element("bdi", {}, sample.id), element("p", {}, element("bdi", { className: "given" }, className(sample.given)), ` · similarity ${Math.max(sample.similarity, 0).toFixed(2)}`)),
    );
    return element("div", {}, element("h4", {}, ...title), samples.length > 0 ? element("ul", { className: "context-samples" }, ...items) : element("p", {}, "There are none."));
  },
};
