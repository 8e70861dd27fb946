// How far the review has come, and how the estimated number of wrong labels compares with what was found.

const SPREAD = 2; // standard deviations that chance explains
const FEWEST = 10; // judged labels from which on the estimate is judged, too

/** Words for decisions that leave a sample undecided. */
const putOff = (count) => (count > 0 ? `, ${count.toLocaleString("en")} skipped or to be looked at again` : "");

/** Sum up estimated and found errors: see `standing`. */
function tally(decisions) {
  const sums = { decided: 0, putOff: 0, left: gallery.rest_wrong, judged: 0, found: 0, expected: 0, variance: 0 };
  for (const { id, quality } of gallery.records) {
    const entry = decisions.get(id);
    if (entry === undefined || UNSETTLED.includes(entry.decision)) sums.left += 1 - quality;
    if (entry !== undefined) sums[UNSETTLED.includes(entry.decision) ? "putOff" : "decided"] += 1;
    if (entry === undefined || WITHOUT_LABEL.includes(entry.decision)) continue;
    sums.judged += 1;
    sums.found += entry.label === entry.given ? 0 : 1;
    sums.expected += 1 - quality;
    sums.variance += quality * (1 - quality);
  }
  return sums;
}

/** Say where the review stands. */
function standing(decisions) {
  const number = (value) => Math.round(value).toLocaleString("en");
  const total = gallery.records.length + gallery.rest;
  const { decided, putOff: later, left, judged, found, expected, variance } = tally(decisions);
  const share = decided > 0 ? ` (${percent(decided / total)})` : "";
  const words = [`${number(decided)} of ${number(total)} noisy samples decided${report.server ? " by you" : ""}${share}${putOff(later)}.`];
  if (!gallery.suggests) return words[0];
  words.push(`Estimated number of wrong labels left: ${number(left)}.`);
  if (judged === 0) return words.join(" ");
  const most = SPREAD * Math.sqrt(variance) + 0.5; // a count is a whole number
  words.push(`Of ${number(judged)} judged ${judged === 1 ? "label" : "labels"}, ${number(found)} ${found === 1 ? "was" : "were"} wrong; the estimate had expected ${expected.toFixed(1)}\u00a0±\u00a0${Math.sqrt(variance).toFixed(1)}.`);
  if (judged >= FEWEST) words.push(Math.abs(found - expected) <= most ? "The difference may be chance." : found > expected ? "That is more than chance would give: more may be left than estimated." : "That is less than chance would give: fewer may be left than estimated.");
  return words.join(" ");
}
