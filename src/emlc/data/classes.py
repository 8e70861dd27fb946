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
    """Labels as text, each distinct text once: a million labels are a million integers and a few texts.

    Attributes:
        codes: (n,) int64 indices into ``texts``; ``UNKNOWN`` where the value is missing or empty.
        texts: Distinct non-empty texts.
    """

    codes: NDArray[np.int64]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def decoded(self) -> NDArray[np.object_]:
        """(n,) texts as Python strings; the empty string where missing."""
        return np.array([*self.texts, ""], dtype=np.object_)[self.codes]  # UNKNOWN is -1, the last


def text_labels(values: ArrayLike, where: str) -> TextLabels:
    """Values (n,) as text: strings as they are, numbers in decimal, booleans as False and True.

    None, NaN and the empty string are missing values. Whole floats count as integers.

    Raises:
        InputError: If ``values`` is not one-dimensional or has fractional numbers.
    """
    if not isinstance(values, list | tuple | pd.Series):
        values = np.asarray(values)
        if values.ndim != 1:
            raise InputError(f"{where}: expected one label a sample, found an array of shape {values.shape}")
    codes, distinct = pd.factorize(pd.Series(values))
    if pd.api.types.is_float_dtype(distinct.dtype):
        for code in [k for k, value in enumerate(distinct) if not float(value).is_integer()][:1]:
            row = int(np.argmax(codes == code))
            value = distinct[code]
            raise InputError(f"{where}: labels must be strings or integers, but row {row} is {value}")
        texts = [str(int(value)) for value in distinct]
    else:
        # Not by iteration, which visits Arrow's strings one by one.
        texts = [str(value) for value in distinct.to_numpy(dtype=np.object_).tolist()]
    if "" in texts:
        empty = texts.index("")
        codes = np.where(codes == empty, UNKNOWN, codes - (codes > empty))
        texts.remove("")
    return TextLabels(np.asarray(codes, dtype=np.int64), tuple(texts))


def class_names(*texts: Iterable[str]) -> tuple[str, ...]:
    """The distinct non-empty label texts, sorted; by value if all are integers ("2" before "10")."""
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
    """Label texts as indices into ``classes``.

    A text is the class of that name. A whole number k is ``classes[k]``, unless there are classes
    that are called by numbers.

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
    of_text = [index.get(text, UNKNOWN) for text in labels.texts]
    codes = np.array([*of_text, UNKNOWN])[labels.codes]  # the last serves missing labels, whose code is -1
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
    """Names joined by commas, the first ``limit`` of them and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None


def _first(rows: NDArray[np.bool_], ids: NDArray[np.object_]) -> str:
    row, others = int(np.argmax(rows)), int(rows.sum()) - 1
    more = f" (as {others} other rows)" if others else ""
    return f"row {row} (id {str(ids[row])!r}){more} has"
