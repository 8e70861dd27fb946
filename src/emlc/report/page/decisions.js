// The reviewer's decisions, those of others, and decisions.csv.

const HEADER = ["id", "decision", "label", "given_label", "suggested_label"];
const CHOSEN = "chosen"; // a column that a file may lack
const ORDERS_OF_REVIEW = ["worst", "random", "picked"];
const KINDS = ["accept", "keep", "other", "skip", "recheck", "exclude"];
const UNSETTLED = ["skip", "recheck"];
const WITHOUT_LABEL = ["skip", "recheck", "exclude"];

/**
 * Decisions by sample id: { decision, label, given, suggested, chosen }, with class names as in the CSV file.
 * For the server, `resolves` tells whether one settles a disagreement, and `seen` whether others' decisions had
 * been shown before, or it was loaded: then it is not independent.
 */
class Decisions {
  constructor(storage) {
    this.storage = storage;
    this.saved = true; // whether all of them are stored or downloaded
    this.reload();
  }

  reload() {
    this.all = this.storage.read();
    if (!this.all.has(this.storage.me)) this.all.set(this.storage.me, new Map());
    this.entries = this.all.get(this.storage.me);
  }

  get(id) {
    return this.entries.get(id);
  }

  /** Set entries, [id, entry or undefined] each, in one action. */
  set(changes) {
    const stale = changes.map(([id, entry]) => [id, entry, this.entries.get(id)]);
    for (const [id, entry] of changes) {
      if (entry === undefined) this.entries.delete(id);
      else this.entries.set(id, { ...entry, number: Infinity });
    }
    this.saved = this.storage.write(this.entries, stale.filter(([, entry, before]) => (entry ?? before) !== undefined));
  }

  /** What others decided on a sample: [reviewer, entry] each. */
  others(id) {
    return [...this.all].filter(([reviewer, entries]) => reviewer !== this.storage.me && entries.has(id)).map(([reviewer, entries]) => [reviewer, entries.get(id)]);
  }

  /** Whether reviewers settled a sample differently, and nobody has resolved it. */
  disagree(id) {
    if (this.all.size < 2) return false;
    const settled = [...this.all.values()].map((entries) => entries.get(id)).filter((entry) => entry !== undefined && !UNSETTLED.includes(entry.decision));
    settled.sort((one, other) => (one.number === other.number ? 0 : one.number - other.number)); // those not sent yet have Infinity
    const since = settled.slice(Math.max(0, settled.findLastIndex((entry) => entry.resolves)));
    return new Set(since.map((entry) => JSON.stringify([entry.decision === "exclude", entry.label]))).size > 1;
  }

  csv() {
    return csv.write([[...HEADER, CHOSEN], ...[...this.entries].map(([id, e]) => [id, e.decision, e.label, e.given, e.suggested, e.chosen ?? ""])]);
  }

  /**
   * Read a decisions.csv, with its columns in any order: entries as `set` takes them, and the number of rows
   * that are left out. These are rows whose given label differs from the gallery's: the data have changed
   * since. Throws an Error that names the row and what was expected if the file is no decisions.csv.
   */
  parse(text, givenLabel) {
    const [header, ...cells] = csv.read(text);
    if (header === undefined || HEADER.some((name) => !header.includes(name))) {
      throw new Error(`expected the columns ${HEADER.join(", ")}, found ${(header ?? ["nothing"]).join(", ")}`);
    }
    const twice = [...HEADER, CHOSEN].filter((name) => header.indexOf(name) !== header.lastIndexOf(name));
    if (twice.length > 0) throw new Error(`columns occur more than once: ${twice.join(", ")}`);
    const places = [...HEADER, CHOSEN].map((name) => header.indexOf(name));
    const classes = new Set(report.classes);
    const rows = cells.map((row, k) => {
      if (row.length !== header.length) throw new Error(`row ${k + 1}: expected ${header.length} cells, found ${row.length}`);
      return places.map((place) => (place < 0 ? "" : row[place]));
    });
    rows.forEach(([, decision, label, given, suggested, chosen], k) => {
      const where = `row ${k + 1}`;
      if (!["", ...ORDERS_OF_REVIEW].includes(chosen)) throw new Error(`${where}: ${CHOSEN}: expected ${ORDERS_OF_REVIEW.join(", ")} or nothing, found ${chosen}`);
      if (!KINDS.includes(decision)) throw new Error(`${where}: decision: expected ${KINDS.join(", ")}, found ${decision}`);
      const hasLabel = !WITHOUT_LABEL.includes(decision);
      if (hasLabel ? !classes.has(label) : label !== "") {
        throw new Error(`${where}: label: expected ${hasLabel ? "a class of this run" : "nothing"}, found ${label}`);
      }
      const settled = { accept: suggested, keep: given }[decision] ?? label;
      if (label !== settled) throw new Error(`${where}: ${decision} means the label ${settled}, found ${label}`);
    });
    // A file's page has a part of the samples, and keeps decisions on others; the server has all.
    const fits = ([id, , , given]) => [...(report.server ? [] : [undefined]), given].includes(givenLabel(id));
    const current = rows.filter(fits);
    const changes = current.map(([id, decision, label, given, suggested, chosen]) => [id, { decision, label, given, suggested, chosen, seen: true }]);
    return { changes, stale: rows.length - current.length };
  }
}
