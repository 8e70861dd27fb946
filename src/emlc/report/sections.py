"""The sections of the report: the headline figures, tables and figures that each shows, with captions."""

import shlex
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from emlc.config.methods import method_class
from emlc.report import figures
from emlc.report.facts import Facts
from emlc.report.figures import Figure
from emlc.report.issues import LabelFacts
from emlc.report.tables import decision_table, environment_table, settings_tables
from emlc.report.tiles import Tile, tiles

_COMMON_PAIRS = 12
"""Number of most frequent corrections listed."""


@dataclass(frozen=True)
class Pair:
    """A frequent correction: indices of the given and the corrected class, and the number of samples."""

    given: int
    corrected: int
    samples: int


@dataclass(frozen=True)
class View:
    """What the template shows beside the facts themselves.

    Attributes:
        title: Name of the run.
        data: Name of its data set, or of the data file.
        tiles: Headline figures.
        student: Figures on the student, measured on held-out samples.
        training: Learning curves.
        noise: Matrices of label noise.
        retain: Histogram of retain weights, if there are any.
        map: The map of the samples.
        pairs: The most frequent corrections.
        per_class: The student's figures, one row per class.
        settings: Settings that differ from their default, and those that most users choose.
        other_settings: All other settings.
        environment: Samples, classes, noise, hardware and versions.
        decision: The threshold of label issues and its calibration.
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
        """All figures, in the order of the page."""
        return [*self.student, *self.training, *self.noise, *self.retain, *self.map]


def describe(facts: Facts) -> View:
    """Arrange the facts as the page shows them."""
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
        retain=[] if labels is None or labels.retain is None else [figures.retain_weights(labels.retain)],
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
    """Cut an absolute path to its name, as reports are shared with others; leave a relative one as it is."""
    return run.name if run.is_absolute() else str(run)


def _student_figures(facts: Facts) -> list[Figure]:
    if facts.evaluation is None:
        return []
    confusion = facts.evaluation.confusion.to_numpy()
    return [
        figures.matrix(
            "confusion",
            "Confusion",
            f"The {facts.evaluated} samples by label and predicted class. Counts; the colour is the share "
            "of the row.",
            confusion,
            facts.classes,
            ("label", "predicted"),
        ),
        figures.calibration(facts.evaluation.reliability),
    ]


def _training_figures(facts: Facts) -> list[Figure]:
    rows, settings = facts.chosen_and_last, facts.run.settings
    if facts.metrics is None or facts.metrics.empty:
        return []
    objective = method_class(settings.method).meta_objective(settings)
    chosen = None if rows is None else int(rows[0]["epoch"])
    return figures.learning_curves(facts.metrics, facts.steps, chosen, objective, noisy_test=facts.noisy_test)


def _noise_figures(facts: Facts) -> list[Figure]:
    labels, classes, learned, true = facts.labels, facts.classes, facts.run.transition, facts.true_noise
    shown = [] if labels is None else _correction_figures(labels, classes)
    if learned is not None:
        shown.append(figures.learned_noise(learned.to_numpy(), true, classes))
    if shown and true is not None:
        shown.append(
            figures.matrix(
                "true-transition",
                "Label noise, true",
                "The same from the true labels, for the samples that have one.",
                true,
                classes,
                ("true class", "given"),
            )
        )
    return shown


def _correction_figures(labels: LabelFacts, classes: tuple[str, ...]) -> list[Figure]:
    return [
        figures.matrix(
            "corrected",
            "Given → corrected",
            "The noisy samples by given and corrected class. Counts; the colour is the share of "
            "the row. Click a cell to show its samples in the gallery.",
            labels.corrected,
            classes,
            ("given", "corrected"),
        ),
        figures.matrix(
            "transition",
            "Label noise, estimated",
            "P(given | true class), in per cent: the share of the samples of a class that carry each label. "
            "The corrected label stands for the true class, so the estimate contains its errors.",
            labels.transition,
            classes,
            ("true class (estimated)", "given"),
        ),
    ]


def _map(facts: Facts) -> list[Figure]:
    if facts.points is None:
        return []
    records = [] if facts.gallery is None else facts.gallery.records
    in_gallery = {record["id"]: k for k, record in enumerate(records)}
    return [figures.feature_map(facts.points, facts.classes, in_gallery)]
