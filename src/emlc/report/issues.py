"""Summary of a label table: issues, how labels change, and the estimated label noise."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emlc.data.classes import UNKNOWN, class_codes
from emlc.data.noise import observed_transition
from emlc.labels.quality import IssueCounts

RETAIN_BINS = 40
"""Number of bins of the histogram of retain weights."""


@dataclass(frozen=True)
class Truth:
    """How good given and corrected labels are, over the samples whose true label is known.

    Attributes:
        samples: Number of these samples.
        given_right: Share of given labels that are right, in [0, 1].
        corrected_right: Share of corrected labels that are right, in [0, 1].
        issue_precision: Share of the label issues whose given label is wrong; NaN without issues.
        issue_recall: Share of the wrong given labels that are label issues; NaN without wrong labels.
        transition: (C, C) float64 transition matrix P(given | true class), rows = true class; NaN in rows of
            absent classes.
    """

    samples: int
    given_right: float
    corrected_right: float
    issue_precision: float
    issue_recall: float
    transition: NDArray[np.float64]


@dataclass(frozen=True)
class LabelFacts:
    """Summary of a label table of n samples in C classes.

    Attributes:
        samples: Number of samples, n.
        issues: Number of label issues.
        corrected: (C, C) int64, number of samples by given class (rows) and corrected class (columns).
        transition: (C, C) float64, estimated transition matrix P(given | true class), in which the corrected
            label stands for the true class. Rows sum to 1; NaN in rows of classes that no sample is corrected
            to.
        retain: Histogram of the retain weights in ``RETAIN_BINS`` equal bins of [0, 1]: columns from, to, and
            samples, or right and wrong where true labels are known. None if the method has none.
        truth: Comparison with the true labels; None if none is known.
    """

    samples: int
    issues: int
    corrected: NDArray[np.int64]
    transition: NDArray[np.float64]
    retain: pd.DataFrame | None
    truth: Truth | None


def label_facts(table: pd.DataFrame, classes: tuple[str, ...]) -> LabelFacts:
    """Summarise a label table; see :class:`LabelFacts`."""
    given, corrected = (class_codes(table[name], classes) for name in ("given_label", "corrected_label"))
    true = np.full(len(table), UNKNOWN)
    if "true_label" in table:
        true = class_codes(table["true_label"], classes)
    retain = None
    if "retain_weight" in table:
        retain = _retain_weights(table["retain_weight"].to_numpy(dtype=np.float64), given, true)
    return LabelFacts(
        samples=len(table),
        issues=int(table["is_label_issue"].sum()),
        corrected=_counts(given, corrected, len(classes)),
        transition=observed_transition(given, corrected, len(classes)),
        retain=retain,
        truth=_truth(given, corrected, true, len(classes)),
    )


def _truth(
    given: NDArray[np.int64],
    corrected: NDArray[np.int64],
    true: NDArray[np.int64],
    num_classes: int,
) -> Truth | None:
    known = true != UNKNOWN
    if not known.any():
        return None
    given, corrected, true = given[known], corrected[known], true[known]
    counts = IssueCounts.of(given, true, corrected)
    return Truth(
        samples=counts.labels,
        given_right=1 - counts.wrong / counts.labels,
        corrected_right=counts.recovered / counts.labels,
        issue_precision=float("nan") if counts.precision is None else counts.precision,
        issue_recall=float("nan") if counts.recall is None else counts.recall,
        transition=observed_transition(given, true, num_classes),
    )


def _counts(rows: NDArray[np.int64], columns: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    return np.bincount(rows * num_classes + columns, minlength=num_classes**2).reshape(num_classes, -1)


def _retain_weights(
    weights: NDArray[np.float64], given: NDArray[np.int64], true: NDArray[np.int64]
) -> pd.DataFrame:
    known = true != UNKNOWN
    groups = {"right": known & (given == true), "wrong": known & (given != true)}
    if not known.any():
        groups = {"samples": np.ones(len(weights), dtype=np.bool_)}
    edges = np.linspace(0, 1, RETAIN_BINS + 1)
    columns = {name: np.histogram(weights[rows], edges)[0] for name, rows in groups.items()}
    return pd.DataFrame({"from": edges[:-1], "to": edges[1:], **columns})
