// The reviewer's decisions: stored in the browser, written to and read from decisions.csv.

const HEADER = ["id", "decision", "label", "given_label", "suggested_label"];
const KINDS = ["accept", "keep", "other", "skip"];

/** Decisions by sample id: { decision, label, given, suggested }, with class names as in the CSV file. */
class Decisions {
  constructor(identity) {
    this.key = `emlc-decisions-${identity}`;
    this.stored = stored.works;
    this.saved = true; // whether all of them are stored in the browser or downloaded
    this.reload();
  }

  reload() {
    this.entries = new Map();
    try {
      const rows = JSON.parse(stored.read(this.key) ?? "[]");
      for (const [id, decision, label, given, suggested] of rows) {
        if (KINDS.includes(decision)) this.entries.set(id, { decision, label, given, suggested });
      }
    } catch {
      this.entries.clear(); // what is stored under the key was not written by this page
    }
  }

  get(id) {
    return this.entries.get(id);
  }

  set(id, entry) {
    if (entry === undefined) this.entries.delete(id);
    else this.entries.set(id, entry);
    this.store();
  }

  store() {
    this.stored = stored.write(this.key, JSON.stringify(this.rows()));
    this.saved = this.stored;
  }

  rows() {
    return [...this.entries].map(([id, e]) => [id, e.decision, e.label, e.given, e.suggested]);
  }

  csv() {
    return csv.write([HEADER, ...this.rows()]);
  }

  /**
   * Read a decisions.csv. Rows whose given label differs from the gallery's are left out: the data have
   * changed since. Throws an Error that names the row and what was expected if the file is no decisions.csv.
   */
  load(text, givenLabel) {
    const [header, ...rows] = csv.read(text);
    if (header === undefined || header.join() !== HEADER.join()) {
      throw new Error(`expected the columns ${HEADER.join(", ")}, found ${(header ?? ["nothing"]).join(", ")}`);
    }
    const classes = new Set(report.classes);
    rows.forEach((row, k) => {
      const [, decision, label, given, suggested] = row;
      const where = `row ${k + 1}`;
      if (row.length !== HEADER.length) throw new Error(`${where}: expected ${HEADER.length} cells, found ${row.length}`);
      if (!KINDS.includes(decision)) throw new Error(`${where}: decision: expected ${KINDS.join(", ")}, found ${decision}`);
      if (decision === "skip" ? label !== "" : !classes.has(label)) {
        throw new Error(`${where}: label: expected ${decision === "skip" ? "nothing" : "a class of this run"}, found ${label}`);
      }
      const settled = { accept: suggested, keep: given }[decision] ?? label;
      if (label !== settled) throw new Error(`${where}: ${decision} means the label ${settled}, found ${label}`);
    });
    const current = rows.filter(([id, , , given]) => [undefined, given].includes(givenLabel(id)));
    for (const [id, decision, label, given, suggested] of current) {
      this.entries.set(id, { decision, label, given, suggested });
    }
    this.store();
    return { loaded: current.length, stale: rows.length - current.length };
  }
}
