// The reviewer's decisions: kept in the browser, written to and read from decisions.csv.

const HEADER = ["id", "decision", "label", "given_label", "suggested_label"];
const KINDS = ["accept", "keep", "other", "skip"];

/** By id: { decision, label, given, suggested }, with classes by name, as the CSV file has them. */
class Decisions {
  constructor(identity) {
    this.key = `emlc-decisions-${identity}`;
    this.kept = stored.works;
    this.saved = true; // whether all of them are in a file, or in the browser
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
      this.entries.clear(); // not written by this page
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
    this.kept = stored.write(this.key, JSON.stringify(this.rows()));
    this.saved = this.kept;
  }

  rows() {
    return [...this.entries].map(([id, e]) => [id, e.decision, e.label, e.given, e.suggested]);
  }

  csv() {
    return csv.write([HEADER, ...this.rows()]);
  }

  /**
   * Take in a decisions.csv. Rows about another given label than the gallery's are left out: the file is
   * older than the data. Throws an Error that says what is wrong with a file that is none.
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
