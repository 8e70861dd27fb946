// Which samples of the gallery are looked at, and in which order.

const UNNAMED = "-";

const gallery = report.gallery;
const className = (index) => (index === null || index < 0 ? "" : report.classes[index]);

const natural = new Intl.Collator("en", { numeric: true }).compare;
const ORDERS = {
  quality: (a, b) => a.quality - b.quality,
  retain: (a, b) => a.retain - b.retain,
  confidence: (a, b) => a.confidence - b.confidence,
  id: (a, b) => natural(a.id, b.id),
  given: (a, b) => a.given - b.given,
  suggested: (a, b) => (a.suggested ?? -1) - (b.suggested ?? -1),
};

/** The search that finds this id and no other. A search box holds no line breaks. */
const exactly = (id) => `"${id.replace(/[\r\n]/g, "")}"`;

/** Indices of the records that match the form's values, sorted. */
function matching(wanted, decisions) {
  const search = wanted.search.trim().toLowerCase();
  const one = gallery.records.some(({ id }) => wanted.search === exactly(id));
  const isText = gallery.content === "text";
  const fits = (record) => {
    if (wanted.given !== "" && record.given !== Number(wanted.given)) return false;
    if (wanted.suggested !== "" && record.suggested !== Number(wanted.suggested)) return false;
    if (wanted.kind === "issue" && !record.issue) return false;
    if (wanted.kind === "no-issue" && record.issue) return false;
    if (wanted.kind === "uncertain" && !record.uncertain) return false;
    const decision = decisions.get(record.id)?.decision;
    if (wanted.decision === "undecided" && decision !== undefined) return false;
    if (wanted.decision === "decided" && decision === undefined) return false;
    if (KINDS.includes(wanted.decision) && decision !== wanted.decision) return false;
    if (search === "") return true;
    if (one) return wanted.search === exactly(record.id);
    return record.id.toLowerCase().includes(search) || (isText && record.content.toLowerCase().includes(search));
  };
  const found = [];
  gallery.records.forEach((record, k) => fits(record) && found.push(k));
  const sign = wanted.order === "down" ? -1 : 1;
  const order = ORDERS[wanted.sort];
  return found.sort((a, b) => sign * order(gallery.records[a], gallery.records[b]) || a - b);
}

/** Fill a select with the classes that occur, and how often. */
function fillClasses(select, field) {
  const counts = new Map();
  for (const record of gallery.records) {
    if (record[field] !== null) counts.set(record[field], (counts.get(record[field]) ?? 0) + 1);
  }
  for (const index of [...counts.keys()].sort((a, b) => a - b)) {
    select.append(element("option", { value: String(index) }, `${className(index) || UNNAMED} (${counts.get(index)})`));
  }
}
