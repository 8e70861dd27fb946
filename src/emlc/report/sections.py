"""What the report says, section by section: headline figures, tables and figures, in words for people."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from emlc.report import figures
from emlc.report.facts import Facts
from emlc.report.figures import Figure
from emlc.report.tables import decision_table, environment_table, settings_tables
from emlc.report.tiles import Tile, tiles

_COMMON_PAIRS = 12


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
        data: Name of its data, or of their file.
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
        environment: Versions, hardware, seeds, minutes.
        decision: How the threshold of the issues came about.
        apply: The command that applies the review's decisions.
    """

    title: str
    data: str
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
    environment: pd.DataFrame
    decision: pd.DataFrame
    apply: str

    @property
    def figures(self) -> list[Figure]:
        """All figures."""
        return [*self.student, *self.training, *self.noise, *self.retain, *self.map]


def describe(facts: Facts) -> View:
    """Facts as the page shows them."""
    settings, others = settings_tables(facts.run.settings)
    data = facts.run.settings.data
    labels = facts.labels
    pairs = [] if labels is None else figures.largest_pairs(labels.corrected, _COMMON_PAIRS)
    return View(
        title=facts.run.folder.resolve().name,
        data="given from Python" if data is None else Path(data).name,
        tiles=tiles(facts),
        student=_student_figures(facts),
        training=_training_figures(facts),
        noise=_noise_figures(facts),
        retain=[] if labels is None else [figures.retain_weights(labels.retain)],
        map=_map(facts),
        pairs=[] if labels is None else [Pair(a, b, int(labels.corrected[a, b])) for a, b in pairs],
        per_class=None if facts.evaluation is None else facts.evaluation.per_class,
        settings=settings,
        other_settings=others,
        environment=environment_table(facts),
        decision=decision_table(facts.decision),
        apply=f"emlc apply {shlex.quote(_folder(facts.run.folder))} decisions.csv",
    )


def _folder(run: Path) -> str:
    """As it was given; the name alone of what others have in another place."""
    return run.name if run.is_absolute() else str(run)


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
    rows = facts.chosen_and_last
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
