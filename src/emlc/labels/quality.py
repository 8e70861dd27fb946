"""The quality of corrected labels where the true labels are known, and cleanlab's on the same samples."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emlc.data import Samples
from emlc.data.classes import UNKNOWN, class_codes
from emlc.labels.decision import corrected_labels
from emlc.networks.inference import Predictions

Labels = NDArray[np.int64]

MOST_COMPARED = 10_000_000
"""Maximum number of probabilities for which cleanlab is run, as it needs all of them in memory."""

FIGURES = {
    "precision": "of the issues",
    "recall": "of the issues",
    "f1": "of the issues",
    "average_precision": "of the wrong labels, the lowest label quality first",
    "recovery": "share of corrected labels that are right",
    "wrong_recovery": "share of wrong labels that are corrected to the right one",
}
"""What each figure measures, by name; all are in [0, 1]."""


@dataclass(frozen=True)
class IssueCounts:
    """Counts of given and corrected labels; the shares are in [0, 1], or None if there is nothing to measure.

    Attributes:
        labels: Number of labels.
        wrong: Number of given labels that are wrong.
        issues: Number of labels that are corrected to another class.
        wrong_issues: Number of issues whose given label is wrong.
        recovered: Number of corrected labels that are right.
        wrong_recovered: Number of wrong given labels that are corrected to the right one.
    """

    labels: int
    wrong: int
    issues: int
    wrong_issues: int
    recovered: int
    wrong_recovered: int

    @classmethod
    def of(cls, given: Labels, truth: Labels, corrected: Labels) -> Self:
        """Count given, true and corrected labels (n,)."""
        wrong, issue, right = given != truth, given != corrected, corrected == truth
        return cls(
            labels=len(given),
            wrong=int(wrong.sum()),
            issues=int(issue.sum()),
            wrong_issues=int((wrong & issue).sum()),
            recovered=int(right.sum()),
            wrong_recovered=int(right[wrong].sum()),
        )

    @property
    def noise_rate(self) -> float | None:
        """Share of the given labels that are wrong."""
        return _share(self.wrong, self.labels)

    @property
    def precision(self) -> float | None:
        """Share of the issues whose given label is wrong."""
        return _share(self.wrong_issues, self.issues)

    @property
    def recall(self) -> float | None:
        """Share of the wrong labels that are issues."""
        return _share(self.wrong_issues, self.wrong)

    @property
    def f1(self) -> float | None:
        """F1 score of the issues; None without wrong labels."""
        return _share(2 * self.wrong_issues, self.issues + self.wrong) if self.wrong else None

    @property
    def recovery(self) -> float | None:
        """Share of the corrected labels that are right."""
        return _share(self.recovered, self.labels)

    @property
    def wrong_recovery(self) -> float | None:
        """Share of the wrong labels that are corrected to the right one."""
        return _share(self.wrong_recovered, self.wrong)


def issue_figures(
    given: Labels,
    truth: Labels,
    corrected: Labels,
    quality: NDArray[Any],
) -> dict[str, float | int | None]:
    """Measure corrected labels.

    Args:
        given: (n,) given labels.
        truth: (n,) true labels.
        corrected: (n,) corrected labels; those that differ from the given ones are the issues.
        quality: (n,) scores of the given labels; low is bad.

    Returns:
        The counts labels, wrong_labels and issues; noise_rate and :data:`FIGURES`, in [0, 1], or None where
        there is nothing to measure.
    """
    from sklearn.metrics import average_precision_score  # takes more than a second to import

    wrong, counts = given != truth, IssueCounts.of(given, truth, corrected)
    return {
        "labels": counts.labels,
        "wrong_labels": counts.wrong,
        "issues": counts.issues,
        "noise_rate": counts.noise_rate,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "average_precision": float(average_precision_score(wrong, -quality)) if wrong.any() else None,
        "recovery": counts.recovery,
        "wrong_recovery": counts.wrong_recovery,
    }


def cleanlab_figures(
    given: Labels, truth: Labels, probabilities: NDArray[Any]
) -> dict[str, float | int | None]:
    """Measure ``cleanlab.filter.find_label_issues`` for a classifier's probabilities (n, C).

    Where cleanlab finds an issue, the corrected label is the most probable other class.

    Raises:
        ImportError: cleanlab is not installed.
    """
    find, rank = import_module("cleanlab.filter"), import_module("cleanlab.rank")
    with warnings.catch_warnings():  # about rare or absent classes, which are normal here
        warnings.filterwarnings("ignore", category=UserWarning, module="cleanlab")
        issue = find.find_label_issues(given, probabilities, n_jobs=1)
        quality = rank.get_label_quality_scores(given, probabilities)
    return issue_figures(given, truth, corrected_labels(probabilities, given, issue), quality)


@dataclass
class QualityMeter:
    """A collector of what the figures need while a table is written; it keeps samples of known truth only.

    Attributes:
        total: Number of labels.
        issues: Number of labels that are issues.
    """

    total: int = 0
    issues: int = 0
    _columns: list[tuple[NDArray[Any], ...]] = field(default_factory=list)
    _probabilities: list[NDArray[Any]] = field(default_factory=list)
    _known: int = 0
    _classes: int = 0

    @property
    def _is_compared(self) -> bool:
        return self._known * self._classes <= MOST_COMPARED

    def add(self, samples: Samples, table: pd.DataFrame, predictions: Predictions) -> None:
        """Add a block of samples with its label table and the networks' predictions."""
        if samples.true_labels is None or samples.labels is None:
            self._count(table)
            return
        given, truth = samples.labels, samples.true_labels
        self._add(table, given, truth, samples.classes, predictions.student.numpy())

    def add_table(self, table: pd.DataFrame, classes: Sequence[str], student: NDArray[Any]) -> None:
        """Add a label table of n samples, with the student's class probabilities (n, C) of them."""
        if "true_label" not in table:
            self._count(table)
            return
        given, truth = (class_codes(table[name], classes) for name in ("given_label", "true_label"))
        self._add(table, given, truth, classes, student)

    def _count(self, table: pd.DataFrame) -> None:
        self.total += len(table)
        self.issues += int(table["is_label_issue"].sum())

    def _add(
        self,
        table: pd.DataFrame,
        given: Labels,
        truth: Labels,
        classes: Sequence[str],
        student: NDArray[Any],
    ) -> None:
        self._count(table)
        known = truth != UNKNOWN
        corrected = class_codes(table["corrected_label"], classes)
        columns = given, truth, corrected, table["label_quality"].to_numpy()
        self._columns.append(tuple(column[known] for column in columns))
        self._known += int(known.sum())
        self._classes = len(classes)
        if self._is_compared:
            self._probabilities.append(student[known])
        else:
            self._probabilities.clear()

    def figures(self) -> dict[str, dict[str, float | int | None] | None] | None:
        """Return the figures of "emlc" and of "cleanlab", or None if no true label is known.

        Those of cleanlab are None if it was not run: see :meth:`why_no_cleanlab`.
        """
        if not self._known:
            return None
        given, truth, corrected, quality = map(np.concatenate, zip(*self._columns, strict=True))
        cleanlab = None
        if self._is_compared:
            try:
                cleanlab = cleanlab_figures(given, truth, np.concatenate(self._probabilities))
            except (ImportError, ValueError):  # it refuses labels of one class
                cleanlab = None
        return {"emlc": issue_figures(given, truth, corrected, quality), "cleanlab": cleanlab}

    def why_no_cleanlab(self) -> str:
        """Return a line for the user that says why there are no figures of cleanlab."""
        if not self._is_compared:
            most = MOST_COMPARED // self._classes
            return f"the comparison with cleanlab takes up to {most:,} labels; these are {self._known:,}"
        try:
            import_module("cleanlab")
        except ImportError:
            return "to compare with cleanlab on the same samples: pip install cleanlab"
        return "cleanlab cannot judge these labels: it needs two classes"


def figures_rows(figures: Iterable[tuple[str, dict[str, float | int | None]]]) -> list[list[str]]:
    """Return one row of text per tool: its name and :data:`FIGURES` in per cent, or a dash."""
    return [[name, *(_per_cent(values[key]) for key in FIGURES)] for name, values in figures]


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
