"""The samples most worth a look, and all that a reviewer needs to see of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from emlc.data import Samples
from emlc.data.classes import UNKNOWN
from emlc.report.thumbnails import thumbnails

_UNCERTAIN = 0.1
"""Share of the gallery that goes to samples whose class is unsure, whatever their label."""

_TOP = 5  # classes shown with their probability, and the given one; but none so improbable:
_LEAST_SHOWN = 0.001
_SHOWN_VALUES = 12
_SHOWN_CHARACTERS = 2000


@dataclass(frozen=True)
class Gallery:
    """Samples to review, each as plain values for the page.

    Attributes:
        content: image | text | values | none: what there is to see of a sample.
        columns: Names of the values shown.
        hidden_values: How many values more each sample has.
        records: One a sample, in the order of review: ``id``; ``given``, ``suggested``, ``true`` as indices
            into the classes (None where there is none); ``issue``, ``quality``, ``retain``,
            ``confidence`` (the corrected label's probability), ``uncertain`` (chosen as such), ``top`` (pairs
            of class and probability), ``content``.
    """

    content: str
    columns: list[str]
    hidden_values: int
    records: list[dict[str, Any]]


def choose(table: pd.DataFrame, size: int) -> tuple[NDArray[np.int64], int]:
    """Rows of a label table to review, most suspect first.

    Nine tenths have the lowest ``label_quality``; the rest, of what is left, the lowest
    ``corrected_probability``: there it is unsure which class it is.

    Returns:
        The rows (m,), m <= size, and how many of them, at the end, were chosen as uncertain.
    """
    suspect = np.argsort(table["label_quality"].to_numpy(), kind="stable")
    if len(table) <= size:
        return suspect, 0
    uncertain = int(size * _UNCERTAIN)
    chosen, rest = np.split(suspect, [size - uncertain])
    order = np.argsort(table["corrected_probability"].to_numpy()[rest], kind="stable")
    return np.concatenate([chosen, rest[order[:uncertain]]]), uncertain


def make_gallery(
    table: pd.DataFrame,
    uncertain: int,
    classes: tuple[str, ...],
    samples: Samples | None = None,
    columns: tuple[str, ...] = (),
) -> Gallery:
    """Describe samples for review.

    Args:
        table: Their label table, with a column ``probability_CLASS`` a class where these are known.
        uncertain: How many, at the end, were chosen as uncertain.
        classes: Names of the classes.
        samples: The same samples; without, there is nothing to see.
        columns: Names of the features, where they have any.
    """
    given, corrected, true = (
        pd.Index(classes, dtype=object).get_indexer(pd.Index(table[name], dtype=object)).tolist()
        if name in table
        else [UNKNOWN] * len(table)
        for name in ("given_label", "corrected_label", "true_label")
    )
    names = [f"probability_{name}" for name in classes]
    probabilities = table[names].to_numpy(dtype=np.float64) if set(names) <= set(table) else None
    kind, value_names, hidden, contents = _content(samples, len(table), columns)
    records = []
    for k, row in enumerate(table.itertuples()):
        p = None if probabilities is None else probabilities[k]
        records.append(
            {
                "id": str(row.id),
                "given": given[k],
                "suggested": None if corrected[k] == given[k] else corrected[k],
                "true": None if true[k] == UNKNOWN else true[k],
                "issue": bool(row.is_label_issue),
                "quality": _short(row.label_quality),
                "retain": _short(row.retain_weight),
                "confidence": _short(row.corrected_probability),
                "uncertain": k >= len(table) - uncertain,
                "top": [] if p is None else _top(p, given[k]),
                "content": contents[k],
            }
        )
    return Gallery(kind, value_names, hidden, records)


def _top(probabilities: NDArray[np.float64], given: int) -> list[tuple[int, float]]:
    order = np.argsort(-probabilities, kind="stable").tolist()
    shown = [c for c in order[:_TOP] if probabilities[c] >= _LEAST_SHOWN]
    return [(c, _short(probabilities[c])) for c in [*shown, *({given} - set(shown))]]


def _content(
    samples: Samples | None, n: int, columns: tuple[str, ...]
) -> tuple[str, list[str], int, list[Any]]:
    """What there is to see: its kind, the names of values, how many are hidden, and n contents."""
    if samples is None:
        return "none", [], 0, [None] * n
    if samples.texts is not None:
        return "text", [], 0, [_shortened(text or "") for text in samples.texts.to_pylist()]
    if samples.inputs.ndim == 4:
        return "image", [], 0, thumbnails(samples)
    values = samples.inputs[torch.arange(n)]
    shown = _SHOWN_VALUES if values.shape[1] > _SHOWN_VALUES + 4 else values.shape[1]
    names = list(columns[:shown]) or [str(k) for k in range(shown)]
    contents = [[f"{value:.5g}" for value in row] for row in values[:, :shown].tolist()]
    return "values", names, values.shape[1] - shown, contents


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _short(value: Any) -> float:
    return float(f"{value:.4g}")
