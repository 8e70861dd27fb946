"""The headline figures at the top of the report."""

from dataclasses import dataclass

from emlc.report.facts import Facts


@dataclass(frozen=True)
class Tile:
    """A headline figure: its name, its value, and a remark."""

    name: str
    value: str
    remark: str = ""


_USED = {
    "test": "",
    "validation": ", on samples that chose the epoch",
    "trusted": ", on samples that training used",
}
"""What else the samples of each role served for."""


def tiles(facts: Facts) -> list[Tile]:
    """Return the headline figures, of those that are available."""
    return [
        *_accuracy_tile(facts),
        *_label_tiles(facts),
        *_training_tile(facts),
    ]


def _accuracy_tile(facts: Facts) -> list[Tile]:
    rows = facts.chosen_and_last
    if rows is None:
        return []
    chosen, last = rows
    for role in ("test", "validation", "trusted"):
        name = f"{role}_accuracy"
        if name in chosen:
            used = _USED[role]
            title = f"Accuracy on {role} samples"
            if role == "test" and facts.noisy_test:
                title, used = "Agreement with test labels", ", with labels as noisy as the others"
            return [
                Tile(
                    title,
                    f"{chosen[name]:.1f} %",
                    f"chosen epoch {chosen['epoch']:.0f}{used}; {last[name]:.1f} % after the last, "
                    f"{last['epoch']:.0f}",
                )
            ]
    return []


def _label_tiles(facts: Facts) -> list[Tile]:
    labels = facts.labels
    if labels is None:
        return []
    share = labels.issues / labels.samples
    truth = labels.truth
    remark = f"{100 * share:.1f} % of {labels.samples:,} noisy samples"
    if facts.decision is not None and facts.decision.noise_rate is not None:
        remark += f"; {100 * facts.decision.noise_rate:.1f} % are estimated to be wrong"
    tiles = [Tile("Label issues", f"{labels.issues:,}", remark)]
    if truth is not None:
        known = "" if truth.samples == labels.samples else f", for {truth.samples:,} with a known true label"
        tiles.append(
            Tile(
                "Corrected labels that are right",
                f"{100 * truth.corrected_right:.1f} %",
                f"{100 * truth.given_right:.1f} % of the given ones were{known}",
            )
        )
    return tiles


def _training_tile(facts: Facts) -> list[Tile]:
    last = None if facts.metrics is None or facts.metrics.empty else facts.metrics.iloc[-1]
    if last is None:
        return []
    minutes = last["seconds"] / 60
    device = facts.summary.get("device", "interrupted")
    return [
        Tile(
            "Training",
            f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h",
            f"{last['epoch']:.0f} epochs, {device}",
        )
    ]
