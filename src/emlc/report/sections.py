"""What the report says, section by section: headline figures, tables and figures, in words for people."""

import shlex
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from emlc.config import DataSettings, Settings
from emlc.fit import chosen_epoch
from emlc.labels.decision import KINDS, Decision
from emlc.report import figures
from emlc.report.facts import Facts
from emlc.report.figures import Figure

_COMMON_PAIRS = 12


@dataclass(frozen=True)
class Tile:
    """A headline figure: what it is, its value, and a remark."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Pair:
    """A correction that occurs often: indices of the given and the corrected class, and how often."""

    given: int
    corrected: int
    samples: int


@dataclass(frozen=True)
class View:
    """All that the template shows beside the facts themselves.

    Attributes:
        title: Name of the run.
        tiles: Headline figures.
        student: Figures on the student, on the samples held out.
        training: Learning curves.
        noise: Matrices of label noise.
        retain: Histogram of retain weights.
        map: The map of the samples.
        pairs: The most frequent corrections.
        per_class: The student's figures a class.
        settings: Settings that are not at their default, and those that say what was run.
        other_settings: All others.
        surroundings: Versions, hardware, seeds, minutes.
        decision: How the threshold of the issues came about.
        apply: The command that applies the review's decisions.
    """

    title: str
    tiles: list[Tile]
    student: list[Figure]
    training: list[Figure]
    noise: list[Figure]
    retain: list[Figure]
    map: list[Figure]
    pairs: list[Pair]
    per_class: pd.DataFrame | None
    settings: pd.DataFrame
    other_settings: pd.DataFrame
    surroundings: pd.DataFrame
    decision: pd.DataFrame
    apply: str

    @property
    def figures(self) -> list[Figure]:
        """All figures."""
        return [*self.student, *self.training, *self.noise, *self.retain, *self.map]


def describe(facts: Facts) -> View:
    """Facts as the page shows them."""
    settings, others = _settings(facts.run.settings)
    labels = facts.labels
    pairs = [] if labels is None else figures.largest_pairs(labels.corrected, _COMMON_PAIRS)
    return View(
        title=facts.run.folder.resolve().name,
        tiles=_tiles(facts),
        student=_student_figures(facts),
        training=_training_figures(facts),
        noise=_noise_figures(facts),
        retain=[] if labels is None else [figures.retain_weights(labels.retain)],
        map=_map(facts),
        pairs=[] if labels is None else [Pair(a, b, int(labels.corrected[a, b])) for a, b in pairs],
        per_class=None if facts.evaluation is None else facts.evaluation.per_class,
        settings=settings,
        other_settings=others,
        surroundings=_surroundings(facts),
        decision=_decision(facts.decision),
        apply=f"emlc apply {shlex.quote(str(facts.run.folder))} decisions.csv",
    )


# --- headline figures ---------------------------------------------------------------------------


def _tiles(facts: Facts) -> list[Tile]:
    return [
        *_accuracy_tile(facts),
        *_label_tiles(facts),
        *_training_tile(facts),
    ]


def _accuracy_tile(facts: Facts) -> list[Tile]:
    rows = _chosen_and_last(facts)
    if rows is None:
        return []
    chosen, last = rows
    for role in ("test", "validation", "trusted"):
        name = f"{role}_accuracy"
        if name in chosen:
            used = "" if role == "test" else ", which training looked at"
            return [
                Tile(
                    f"Accuracy on {role} samples",
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
    if facts.decision is not None:
        remark += f"; {100 * facts.decision.noise_rate:.1f} % are estimated to be wrong"
    tiles = [Tile("Label issues", f"{labels.issues:,}", remark)]
    if truth is not None:
        known = "" if truth.samples == labels.samples else f", of {truth.samples:,} whose truth is known"
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


def _chosen_and_last(facts: Facts) -> tuple[dict[str, float], dict[str, float]] | None:
    if facts.metrics is None or facts.metrics.empty or "choice_accuracy" not in facts.metrics:
        return None
    history = [{str(k): v for k, v in row.items() if pd.notna(v)} for row in facts.metrics.to_dict("records")]
    chosen = chosen_epoch(history)
    return (history[chosen - 1], history[-1]) if chosen > 0 else None


# --- figures ------------------------------------------------------------------------------------


def _student_figures(facts: Facts) -> list[Figure]:
    if facts.evaluation is None:
        return []
    confusion = facts.evaluation.confusion.to_numpy()
    return [
        figures.matrix(
            "confusion",
            "Confusion",
            f"The {facts.evaluated} samples by their label and the student's class. Counts; the colour is "
            "the share of the row.",
            confusion,
            facts.classes,
            ("label", "predicted"),
        ),
        figures.calibration(facts.evaluation.reliability),
    ]


def _training_figures(facts: Facts) -> list[Figure]:
    rows = _chosen_and_last(facts)
    if facts.metrics is None or facts.metrics.empty:
        return []
    return figures.learning_curves(
        facts.metrics, facts.steps, None if rows is None else int(rows[0]["epoch"])
    )


def _noise_figures(facts: Facts) -> list[Figure]:
    labels, classes = facts.labels, facts.classes
    if labels is None:
        return []
    found = [
        figures.matrix(
            "corrected",
            "Given → corrected",
            "The noisy samples by their given and their corrected class. Counts; the colour is the share of "
            "the row. A click on a cell shows its samples in the gallery.",
            labels.corrected,
            classes,
            ("given", "corrected"),
        ),
        figures.matrix(
            "transition",
            "Label noise, estimated",
            "P(given | true class), in per cent: the share of the samples of a class that carry each label. "
            "The corrected label stands for the true class, so that its errors are in it.",
            labels.transition,
            classes,
            ("true class (estimated)", "given"),
        ),
    ]
    if labels.truth is not None:
        found.append(
            figures.matrix(
                "true-transition",
                "Label noise, true",
                f"The same from the true labels, of the {labels.truth.samples:,} samples that have one.",
                labels.truth.transition,
                classes,
                ("true class", "given"),
            )
        )
    return found


def _map(facts: Facts) -> list[Figure]:
    if facts.points is None:
        return []
    records = [] if facts.gallery is None else facts.gallery.records
    in_gallery = {record["id"]: k for k, record in enumerate(records)}
    return [figures.feature_map(facts.points, facts.classes, in_gallery)]


# --- tables -------------------------------------------------------------------------------------

_TELLING = {"data", "method", "epochs", "backbone", "look_ahead", "noise", "seed", "learning_rate"}


def _settings(settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The settings worth reading, and the rest."""
    defaults = {field.name: field.default for field in fields(Settings)}
    data = {field.name for field in fields(DataSettings)}
    rows = [(name, _value(value)) for name, value in settings.as_dict().items()]
    telling = [
        row[0] in _TELLING or (getattr(settings, row[0]) != defaults[row[0]] and row[0] != "output")
        for row in rows
    ]
    chosen = [row for row, tells in zip(rows, telling, strict=True) if tells]
    chosen.sort(key=lambda row: row[0] not in data)
    others = [row for row, tells in zip(rows, telling, strict=True) if not tells]
    return tuple(pd.DataFrame(part, columns=["setting", "value"], dtype=object) for part in (chosen, others))  # type: ignore[return-value]


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _surroundings(facts: Facts) -> pd.DataFrame:
    summary = facts.summary
    rows: list[tuple[str, Any]] = [(f"{role} samples", f"{n:,}") for role, n in facts.counts.items()]
    rows.append(("classes", len(facts.classes)))
    rows.append(("input", " x ".join(map(str, facts.run.schema.input_shape))))
    for name in ("nominal", "actual"):
        rate = summary.get(f"noise_rate_{name}")
        if rate is not None:
            rows.append((f"noise rate, {name}", f"{100 * rate:.1f} %"))
    for name in ("device", "processes", "threads", "precision", "finished"):
        if name in summary:
            rows.append((name, summary[name]))
    rows += [(f"version of {name}", text) for name, text in summary.get("versions", {}).items()]
    return pd.DataFrame(rows, columns=["what", "value"], dtype=object)


def _decision(decision: Decision | None) -> pd.DataFrame:
    rows: list[tuple[str, str]] = []
    if decision is not None:
        rows = [
            ("threshold on the label quality", f"{decision.threshold:.3f}"),
            ("F1 score of the issues that it promises", f"{decision.expected_f1:.3f}"),
            ("share of wrong labels, estimated", f"{100 * decision.noise_rate:.1f} %"),
            *(
                (f"share of {kind} labels, estimated", f"{100 * share:.1f} %")
                for kind, share in zip(KINDS, decision.shares, strict=True)
            ),
            ("calibrated on", f"{decision.trusted_samples:,} {decision.calibrated_on} samples"),
            ("adapted to", f"{decision.noisy_samples:,} noisy samples"),
        ]
    return pd.DataFrame(rows, columns=["figure", "value"], dtype=object)
