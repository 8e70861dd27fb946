"""Class names and labels: any values become text, text becomes an index into the class names."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from emlc.errors import InputError

UNKNOWN = -1  # index of a true label that is not known


@dataclass(frozen=True)
class TextLabels:
    """Labels as text, with each distinct text stored once: a million labels take a few texts and integers.

    Attributes:
        codes: (n,) int64 indices into ``texts``; ``UNKNOWN`` where the value is missing or empty.
        texts: Distinct non-empty texts.
    """

    codes: NDArray[np.int64]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def decoded(self) -> NDArray[np.object_]:
        """Return the texts, (n,) Python strings; the empty string where a label is missing."""
        return np.array([*self.texts, ""], dtype=np.object_)[self.codes]  # UNKNOWN is -1: the last entry


def text_labels(values: ArrayLike, where: str) -> TextLabels:
    """Convert values (n,) to text: strings as they are, numbers in decimal, booleans as False and True.

    None, NaN and the empty string are missing values. Whole floats count as integers.

    Raises:
        InputError: If ``values`` is not one-dimensional or has fractional numbers.
    """
    if not isinstance(values, list | tuple | pd.Series):
        values = np.asarray(values)
        if values.ndim != 1:
            raise InputError(
                f"{where}: expected one label per sample, found an array of shape {values.shape}"
            )
    codes, distinct = pd.factorize(pd.Series(values))
    if pd.api.types.is_float_dtype(distinct.dtype):
        for code in [k for k, value in enumerate(distinct) if not float(value).is_integer()][:1]:
            row = int(np.argmax(codes == code))
            value = distinct[code]
            raise InputError(f"{where}: labels must be strings or integers, but row {row} is {value}")
        texts = [str(int(value)) for value in distinct]
    else:
        # Iterating over the index would visit Arrow's strings one by one.
        texts = [str(value) for value in distinct.to_numpy(dtype=np.object_).tolist()]
    if "" in texts:
        empty = texts.index("")
        codes = np.where(codes == empty, UNKNOWN, codes - (codes > empty))
        texts.remove("")
    return TextLabels(np.asarray(codes, dtype=np.int64), tuple(texts))


def class_names(*texts: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct non-empty label texts, sorted; by value if all are integers ("2" before "10")."""
    distinct = {str(text) for group in texts for text in group} - {""}
    if all(map(_is_integer, distinct)):
        return tuple(sorted(distinct, key=lambda text: (int(text), text)))
    return tuple(sorted(distinct))


def encode(
    labels: TextLabels,
    classes: Sequence[str],
    ids: NDArray[np.object_],
    where: str,
    *,
    may_be_missing: bool = False,
) -> NDArray[np.int64]:
    """Encode label texts as indices into ``classes``.

    A text stands for the class of that name. A whole number k stands for ``classes[k]``, unless some class
    names are numbers themselves.

    Args:
        labels: n labels.
        classes: Class names.
        ids: (n,) sample ids, for messages.
        where: File or array that the labels come from, for messages.
        may_be_missing: Encode a missing label as ``UNKNOWN`` instead of refusing it.

    Returns:
        (n,) int64.

    Raises:
        InputError: If a label is missing or outside the classes; names its row, id and the classes.
    """
    index = {name: k for k, name in enumerate(classes)}
    if not any(map(_is_integer, classes)):
        index |= {str(k): k for k in range(len(classes))}
    class_of_text = [index.get(text, UNKNOWN) for text in labels.texts]
    codes = np.array([*class_of_text, UNKNOWN])[labels.codes]  # missing labels have code -1: the last entry
    missing = labels.codes == UNKNOWN
    if not may_be_missing and missing.any():
        raise InputError(f"{where}: {_first(missing, ids)} no label; every sample needs one")
    outside = (codes == UNKNOWN) & ~missing
    if outside.any():
        label = labels.texts[labels.codes[np.argmax(outside)]]
        raise InputError(
            f"{where}: {_first(outside, ids)} the label {label!r}, "
            f"which is not among the {len(classes)} classes: {shorten(classes)}"
        )
    return codes


def shorten(names: Sequence[object], limit: int = 20) -> str:
    """Join the first ``limit`` names by commas, and say how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None


def _first(rows: NDArray[np.bool_], ids: NDArray[np.object_]) -> str:
    row, others = int(np.argmax(rows)), int(rows.sum()) - 1
    more = f" (like {others} other rows)" if others else ""
    return f"row {row} (id {str(ids[row])!r}){more} has"
