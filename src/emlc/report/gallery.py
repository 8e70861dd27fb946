"""The samples most worth reviewing, with everything that a reviewer sees of them."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from emlc.data import Samples
from emlc.data.classes import UNKNOWN, class_codes
from emlc.report.thumbnails import thumbnails
from emlc.runtime.streams import RandomStream, generator

_UNCERTAIN = 0.1
"""Share of the gallery reserved for samples whose class is uncertain, whatever their label."""

_RANDOM = 0.2
"""Share of the gallery reserved for a random sample of all, where it cannot show all."""

_TOP = 5
"""Number of most probable classes shown; the given class is always shown too."""

_LEAST_SHOWN = 0.001
"""Least probability of a class among those shown."""

_SHOWN_VALUES = 12
"""Number of features shown of a sample that has many."""

_SHOWN_LETTERS = 40
"""Number of characters shown of a value in a table."""

_SHOWN_CHARACTERS = 2000
"""Number of characters shown of a text."""


@dataclass(frozen=True)
class Gallery:
    """Samples to review, as plain values for the page.

    Attributes:
        content: image | text | values | none: how samples are shown.
        columns: Names of the features shown.
        hidden_values: Number of features of each sample that are not shown.
        records: One record per sample, in the order of review: ``id``; ``given``, ``suggested`` and ``true``
            as class indices (None if there is none); ``issue``, ``quality``, ``retain``, ``confidence`` (the
            corrected label's probability), ``uncertain`` (chosen because its class is uncertain), ``place``
            (in the random order, from 0; None if it is not in the random sample), ``top`` (pairs of class
            index and probability), ``content``.
        suggests: Whether the samples come with suggestions and evidence; else only with their given label.
        cut_at: Number of characters up to which texts are shown and searched; None if that is all of them.
        rest: Number of noisy samples that are not shown.
        rest_wrong: How many of these are estimated to have a wrong label.
    """

    content: str
    columns: list[str]
    hidden_values: int
    records: list[dict[str, Any]]
    suggests: bool = True
    cut_at: int | None = None
    rest: int = 0
    rest_wrong: float = 0.0

    def with_rest(self, table: pd.DataFrame, rows: NDArray[np.int64]) -> "Gallery":
        """Return the gallery, which shows these rows of a label table, with what is known of the others."""
        quality = np.delete(table["label_quality"].to_numpy(dtype=np.float64), rows)
        return replace(self, rest=len(quality), rest_wrong=_short((1 - quality).sum()))


class Choice(NamedTuple):
    """The m rows of a label table that are reviewed.

    Attributes:
        rows: (m,) int64, most suspect first.
        uncertain: (m,) bool, whether a row was chosen because its class is uncertain.
        places: (m,) int64, places in the random order, from 0; ``UNKNOWN`` outside the random sample.
    """

    rows: NDArray[np.int64]
    uncertain: NDArray[np.bool_]
    places: NDArray[np.int64]


def choose(table: pd.DataFrame, size: int) -> Choice:
    """Choose rows of a label table to review, most suspect first.

    A fifth are drawn at random from all rows, so that they can be reviewed in a random order, too. Of the
    others most are the rows of lowest ``label_quality``; the last tenth, of those that remain, the rows of
    lowest ``corrected_probability``, whose class is uncertain.

    Args:
        table: A label table.
        size: Maximum number of rows; if there are no more, all are chosen, and are the random sample.
    """
    n, quality = len(table), table["label_quality"].to_numpy()
    order = generator(0, RandomStream.REVIEW_ORDER).permutation(n)
    drawn = order if n <= size else order[: int(size * _RANDOM)]
    places = np.full(n, UNKNOWN, dtype=np.int64)
    places[drawn] = np.arange(len(drawn))
    suspect = np.argsort(quality, kind="stable")
    free = suspect[places[suspect] == UNKNOWN]
    uncertain = int(size * _UNCERTAIN) if n > size else 0
    chosen, rest = np.split(free, [max(0, min(n, size) - len(drawn) - uncertain)])
    by_class = np.argsort(table["corrected_probability"].to_numpy()[rest], kind="stable")
    unsure = rest[by_class[:uncertain]]
    rows = np.concatenate([chosen, drawn, unsure])
    rows = rows[np.argsort(quality[rows], kind="stable")].astype(np.int64)
    return Choice(rows, np.isin(rows, unsure), places[rows])


def make_gallery(
    table: pd.DataFrame,
    choice: Choice,
    classes: tuple[str, ...],
    samples: Samples | None = None,
    columns: tuple[str, ...] = (),
    pictures: list[str] | None = None,
) -> Gallery:
    """Describe samples for review.

    Args:
        table: Their label table; probabilities of classes are shown if it has columns ``probability_CLASS``.
        choice: How they were chosen.
        classes: Names of the classes.
        samples: The same samples; without them only labels are shown.
        columns: Names of the features, if they have names.
        pictures: Addresses of their pictures; None: of images, thumbnails are embedded in the page.
    """
    given, corrected, true = (
        class_codes(table[name], classes).tolist() if name in table else [UNKNOWN] * len(table)
        for name in ("given_label", "corrected_label", "true_label")
    )
    names = [f"probability_{name}" for name in classes]
    probabilities = table[names].to_numpy(dtype=np.float64) if set(names) <= set(table) else None
    kind, value_names, hidden, contents = (
        _content(samples, len(table), columns) if pictures is None else ("image", [], 0, pictures)
    )
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
                "uncertain": bool(choice.uncertain[k]),
                "place": None if choice.places[k] == UNKNOWN else int(choice.places[k]),
                "top": [] if p is None else _top(p, given[k]),
                "content": contents[k],
            }
        )
    return Gallery(kind, value_names, hidden, records, cut_at=_cut_at(samples))


def plain_gallery(samples: Samples, contents: list[str] | None, columns: tuple[str, ...]) -> Gallery:
    """Describe samples that are to be labelled without any suggestion, in their order.

    Args:
        samples: n samples with given labels.
        contents: Their pictures as data URIs; None: texts or features, as the samples have them.
        columns: Names of the features, if they have names.
    """
    is_image = contents is not None
    kind, names, hidden, shown = (
        ("image", [], 0, contents or []) if is_image else _content(samples, len(samples), columns)
    )
    nothing: dict[str, Any] = {"suggested": None, "true": None, "issue": False, "uncertain": False, "top": []}
    numbers = {"quality": 1.0, "retain": 1.0, "confidence": 1.0}
    records = [
        {"id": str(sample_id), "given": int(given), "place": k, **nothing, **numbers, "content": content}
        for k, (sample_id, given, content) in enumerate(zip(samples.ids, samples.given, shown, strict=True))
    ]
    return Gallery(kind, names, hidden, records, suggests=False, cut_at=_cut_at(samples))


def _top(probabilities: NDArray[np.float64], given: int) -> list[tuple[int, float]]:
    order = np.argsort(-probabilities, kind="stable").tolist()
    shown = [c for c in order[:_TOP] if probabilities[c] >= _LEAST_SHOWN]
    return [(c, _short(probabilities[c])) for c in [*shown, *({given} - set(shown))]]


def _content(
    samples: Samples | None, n: int, columns: tuple[str, ...]
) -> tuple[str, list[str], int, list[Any]]:
    """Return the kind of content, the names of the features shown, how many are hidden, and n contents."""
    if samples is None:
        return "none", [], 0, [None] * n
    if samples.texts is not None:
        return "text", [], 0, [_shortened(text) for text in samples.texts.to_pylist()]
    if samples.pictures is not None:
        return "image", [], 0, thumbnails(samples)
    width = samples.input_shape[0] if samples.table is None else samples.table.num_columns
    shown = _SHOWN_VALUES if width > _SHOWN_VALUES + 4 else width
    names = list(columns[:shown]) or [str(k) for k in range(shown)]
    if samples.table is not None:
        rows = zip(*(samples.table[name].to_pylist() for name in names), strict=True)
        return "values", names, width - shown, [list(map(_shown_value, row)) for row in rows]
    values = samples.inputs[torch.arange(n)]
    contents = [[_shown_value(value) for value in row] for row in values[:, :shown].tolist()]
    return "values", names, width - shown, contents


def _shown_value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.5g}"
    text = str(value)
    return text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1] + "…"


def _cut_at(samples: Samples | None) -> int | None:
    if samples is None or samples.texts is None:
        return None
    longest = pc.max(pc.utf8_length(samples.texts)).as_py() or 0
    return _SHOWN_CHARACTERS if longest > _SHOWN_CHARACTERS else None


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _short(value: Any) -> float:
    return float(f"{value:.4g}")
