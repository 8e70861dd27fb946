"""The label table: every sample with its given label, the corrected one, and the evidence.

Column names are cleanlab's wherever cleanlab has the column.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from emlc.data import Samples
from emlc.data.classes import UNKNOWN, class_codes, class_names
from emlc.errors import InputError
from emlc.labels.decision import Decision, corrected_labels
from emlc.networks.inference import Predictions

BLOCK = 16_384
"""Maximum number of rows of a table in memory at a time."""

CELLS = 2**20
"""Maximum number of class probabilities of these rows."""
_FEWEST = 256
"""Minimum number of rows, for any number of classes: with fewer the networks are slow."""

_TEXT = ("id", "given_label", "corrected_label")
_NUMBERS = ("corrected_probability", "retain_weight")


def label_table(
    samples: Samples, predictions: Predictions, decision: Decision, *, all_probabilities: bool = False
) -> pd.DataFrame:
    """Build the label table: one row per sample, in the order of ``samples``.

    Columns:
        id: id of the sample.
        given_label: class name of the given label.
        corrected_label: the given label, or the most probable other class where the given label is an issue.
        corrected_probability: its probability in the corrected soft label, in [0, 1].
        retain_weight: w in (0, 1), the teacher's weight of the given label (paper, Appendix D).
        predicted_label: the student's most probable class.
        label_quality: probability that the given label is right, in [0, 1]; low is bad.
        is_label_issue: whether the label quality is below the decision's threshold.
        true_label: only where the truth is known.
        probability_CLASS: with ``all_probabilities``, the corrected soft label.

    Args:
        samples: n labelled samples.
        predictions: The networks' predictions for these samples.
        decision: The decision calibrated for these networks.
        all_probabilities: Whether to add one column per class.
    """
    given = samples.given
    soft_labels = decision.soft_labels(predictions.prediction(), given)
    is_issue = soft_labels[np.arange(len(given)), given] < decision.threshold
    corrected = corrected_labels(soft_labels, given, is_issue)
    weights = predictions.retain_weight
    table = table_of_soft_labels(samples, soft_labels, corrected, predictions.student, weights)
    if all_probabilities:
        columns = _probability_columns(samples.classes)
        table = table.join(pd.DataFrame(soft_labels.astype(np.float32), columns=columns))
    return table


def table_of_soft_labels(
    samples: Samples,
    soft_labels: NDArray[Any],
    corrected: NDArray[np.int64],
    student: Tensor,
    retain_weights: Tensor | None,
) -> pd.DataFrame:
    """Build a label table from its columns; see :func:`label_table`.

    Args:
        samples: n labelled samples.
        soft_labels: (n, C) corrected soft labels.
        corrected: (n,) corrected labels; those that differ from the given ones are the issues.
        student: (n, C) the student's probabilities.
        retain_weights: (n,) retain weights, or None for a method that has none.
    """
    names, rows, given = pd.Index(samples.classes), np.arange(len(samples)), samples.given
    table = {
        "id": samples.ids,
        "given_label": names[given],
        "corrected_label": names[corrected],
        "corrected_probability": soft_labels[rows, corrected].astype(np.float32),
        "retain_weight": None if retain_weights is None else retain_weights.numpy().astype(np.float32),
        "predicted_label": names[student.argmax(dim=1).numpy()],
        "label_quality": soft_labels[rows, given].astype(np.float64),
        "is_label_issue": corrected != given,
        "true_label": true_label_names(samples),
    }
    return pd.DataFrame({name: column for name, column in table.items() if column is not None})


def true_label_names(samples: Samples) -> "pd.Index[str] | None":
    """Return the true labels by class name, missing where unknown; None if the samples have none."""
    if samples.true_labels is None:
        return None
    return pd.Index(samples.classes)[samples.true_labels].where(samples.true_labels != UNKNOWN)


def label_schema(
    classes: Sequence[str],
    *,
    true_labels: bool,
    all_probabilities: bool = False,
    retain_weights: bool = True,
) -> pa.Schema:
    """Return the column types of :func:`label_table`, since the first rows of a file may not show them."""
    numbers = _NUMBERS if retain_weights else _NUMBERS[:1]
    types = [
        *((name, pa.string()) for name in _TEXT),
        *((name, pa.float32()) for name in numbers),
        ("predicted_label", pa.string()),
        ("label_quality", pa.float64()),
        ("is_label_issue", pa.bool_()),
        *([("true_label", pa.string())] if true_labels else []),
        *((name, pa.float32()) for name in (_probability_columns(classes) if all_probabilities else [])),
    ]
    return pa.schema(types)


def blocks(samples: Samples) -> Iterator[Samples]:
    """Yield the samples, :data:`BLOCK` or fewer at a time; inputs are read when they are used."""
    rows = min(BLOCK, max(_FEWEST, CELLS // len(samples.classes)))
    for start in range(0, len(samples), rows):
        yield samples.take(np.arange(start, min(start + rows, len(samples))))


def to_cleanlab(labels: pd.DataFrame, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Convert a label table to the form of cleanlab's ``CleanLearning.get_label_issues``.

    ``CleanLearning(clf).fit(X, y, label_issues=to_cleanlab(labels))`` trains without the issues.

    Args:
        labels: A label table, from ``Run.correct_labels`` or as read from labels.csv or labels.parquet.
        classes: Class names in the order of the integer labels that cleanlab gets; by default all given and
            predicted labels in emlc's order of classes, in which numbers are sorted by value.

    Returns:
        One row per sample, in the same order: is_label_issue (bool), label_quality (float in [0, 1]),
        given_label and predicted_label (int, index of the class).

    Raises:
        InputError: a column is missing, or a label is not among ``classes``.
    """
    missing = [name for name in _CLEANLAB if name not in labels]
    if missing:
        raise InputError(f"labels: not a label table: no column {', '.join(missing)}")
    for name in ("given_label", "predicted_label"):
        if (absent := labels[name].isna().to_numpy()).any():
            raise InputError(
                f"labels: row {int(absent.argmax())}, column {name!r}: expected a class, found nothing; "
                "pandas takes classes such as NA for missing values, unless it reads the file with "
                "keep_default_na=False"
            )
    texts = {name: labels[name].astype(str) for name in ("given_label", "predicted_label")}
    if classes is None:
        classes = class_names(*texts.values())
    codes = {}
    for name, text in texts.items():
        codes[name] = class_codes(text, [str(c) for c in classes])
        if (unknown := codes[name] < 0).any():
            row = int(unknown.argmax())
            raise InputError(
                f"labels: row {row}, column {name!r}: {text.iloc[row]!r} is none of the classes "
                f"{', '.join(map(str, classes))}"
            )
    return pd.DataFrame(
        {
            "is_label_issue": _truth_values(labels["is_label_issue"]),
            "label_quality": labels["label_quality"].astype(float).to_numpy(),
            "given_label": codes["given_label"],
            "predicted_label": codes["predicted_label"],
        }
    )


def _truth_values(column: "pd.Series[Any]") -> NDArray[np.bool_]:
    """Convert a column to booleans, even if it was read as text."""
    meanings = column.astype(str).str.lower().map({"true": True, "false": False})
    if (unknown := meanings.isna().to_numpy()).any():
        row = int(unknown.argmax())
        raise InputError(
            f"labels: row {row}, column 'is_label_issue': expected True or False, found {column.iloc[row]!r}"
        )
    return meanings.to_numpy(dtype=np.bool_)


_CLEANLAB = ("is_label_issue", "label_quality", "given_label", "predicted_label")


def prediction_columns(classes: Sequence[str], *, all_probabilities: bool = False) -> list[str]:
    """Return the names of the columns of :func:`prediction_table`."""
    more = _probability_columns(classes) if all_probabilities else []
    return ["id", "predicted_label", "predicted_probability", *more]


def prediction_table(
    ids: NDArray[np.object_],
    classes: tuple[str, ...],
    probabilities: Tensor,
    *,
    all_probabilities: bool = False,
) -> pd.DataFrame:
    """Build the table of predictions, one row per sample, from ids (n,) and probabilities (n, C).

    Its columns are id, predicted_label and predicted_probability in [0, 1]; with ``all_probabilities`` also
    ``probability_CLASS`` for every class.
    """
    probability, predicted = probabilities.max(dim=1)
    table = pd.DataFrame(
        {
            "id": ids,
            "predicted_label": pd.Index(classes)[predicted.numpy()],
            "predicted_probability": probability.numpy(),
        }
    )
    if all_probabilities:
        columns = _probability_columns(classes)
        table = table.join(pd.DataFrame(probabilities.numpy(), columns=columns))
    return table


def _probability_columns(classes: Sequence[str]) -> list[str]:
    return [f"probability_{name}" for name in classes]
