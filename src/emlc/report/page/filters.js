// Filters and sorts the samples of the gallery.

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
  pair: (a, b) => (a.suggested === null) - (b.suggested === null) || pairSize(b) - pairSize(a) || a.given - b.given || (a.suggested ?? -1) - (b.suggested ?? -1),
  similar: (a, b) => similarTo.get(a.row) - similarTo.get(b.row),
  random: (a, b) => a.place - b.place,
};

const pairs = new Map(); // given and suggested class -> number of samples
const pairKey = ({ given, suggested }) => `${given} ${suggested}`;
const pairSize = (record) => pairs.get(pairKey(record));
for (const record of gallery?.records ?? []) pairs.set(pairKey(record), (pairs.get(pairKey(record)) ?? 0) + 1);

let similarTo = null; // row -> place among the samples that are similar to the one that was asked about

/** The search text that matches this id and no other; a search box cannot hold line breaks. */
const exactly = (id) => `"${id.replace(/[\r\n]/g, "")}"`;

/** How the samples that match the values of the form were chosen, which is kept with the decisions on them. */
function chosenBy({ search, given, suggested, kind, decision, queue, sort, order }, bySelection) {
  const isWhole = similarTo === null && [search, given, suggested, kind].every((value) => value === "") && ["", "undecided"].includes(decision);
  if (isWhole && (queue === "random" || !gallery.suggests)) return bySelection ? "picked" : "random";
  return isWhole && sort === "quality" && order === "up" ? "worst" : "picked";
}

/** Indices of the records that match the values of the form, sorted. */
function matching(criteria, decisions) {
  const search = criteria.search.trim().toLowerCase();
  const atRandom = criteria.queue === "random" && similarTo === null;
  const isExact = gallery.records.some(({ id }) => criteria.search === exactly(id));
  const isText = gallery.content === "text";
  const fits = (record) => {
    if (criteria.given !== "" && record.given !== Number(criteria.given)) return false;
    if (similarTo !== null && !similarTo.has(record.row)) return false;
    if (atRandom && record.place === null) return false;
    if (criteria.suggested !== "" && record.suggested !== Number(criteria.suggested)) return false;
    if (criteria.kind === "issue" && !record.issue) return false;
    if (criteria.kind === "no-issue" && record.issue) return false;
    if (criteria.kind === "uncertain" && !record.uncertain) return false;
    const decision = decisions.get(record.id)?.decision;
    if (criteria.decision === "undecided" && decision !== undefined) return false;
    if (criteria.decision === "decided" && decision === undefined) return false;
    if (criteria.decision === "disagree" && !decisions.disagree(record.id)) return false;
    if (criteria.decision === "others" && (decision !== undefined || decisions.others(record.id).length === 0)) return false;
    if (KINDS.includes(criteria.decision) && decision !== criteria.decision) return false;
    if (search === "") return true;
    if (isExact) return criteria.search === exactly(record.id);
    return record.id.toLowerCase().includes(search) || (isText && record.content.toLowerCase().includes(search));
  };
  const matches = [];
  gallery.records.forEach((record, k) => fits(record) && matches.push(k));
  const sign = criteria.order === "down" && !atRandom ? -1 : 1;
  const order = ORDERS[similarTo !== null ? "similar" : atRandom ? "random" : criteria.sort];
  return matches.sort((a, b) => sign * order(gallery.records[a], gallery.records[b]) || a - b);
}

/** Fill a select with the classes that occur and their numbers of samples. */
function fillClasses(select, field) {
  const counts = new Map();
  for (const record of gallery.records) {
    if (record[field] !== null) counts.set(record[field], (counts.get(record[field]) ?? 0) + 1);
  }
  for (const index of [...counts.keys()].sort((a, b) => a - b)) {
    select.append(element("option", { value: String(index) }, `${className(index) || UNNAMED} (${counts.get(index)})`));
  }
}
