"""Class names and labels: any values become text, text becomes an index into the class names."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from emlc.errors import InputError

UNKNOWN = -1  # index of a true label that is not known


def label_texts(values: ArrayLike, where: str) -> NDArray[np.str_]:
    """Labels as text, (n,): strings as they are, numbers in decimal, booleans as False and True.

    A missing value (None, NaN) becomes the empty string. Whole floats count as integers.

    Raises:
        InputError: If ``values`` is not one-dimensional or has fractional numbers.
    """
    # Of a list of strings with a NaN among them, numpy would make the string "nan".
    array = pd.Series(values).to_numpy() if isinstance(values, list | tuple) else np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"{where}: expected one label a sample, found an array of shape {array.shape}")
    if array.dtype.kind in "biuU":
        return array.astype(np.str_)
    missing = np.asarray(pd.isna(array), dtype=np.bool_)
    if array.dtype.kind == "f":
        whole = np.where(missing, 0, array)
        for row in np.flatnonzero(whole != np.round(whole))[:1]:
            raise InputError(f"{where}: labels must be strings or integers, but row {row} is {array[row]}")
        return np.where(missing, "", whole.astype(np.int64).astype(np.str_))
    return np.array(["" if gap else str(value) for value, gap in zip(array, missing, strict=True)], np.str_)


def class_names(*texts: Iterable[str]) -> tuple[str, ...]:
    """The distinct non-empty label texts, sorted; by value if all are integers ("2" before "10")."""
    distinct = {str(text) for group in texts for text in group} - {""}
    if all(map(_is_integer, distinct)):
        return tuple(sorted(distinct, key=lambda text: (int(text), text)))
    return tuple(sorted(distinct))


def encode(
    texts: NDArray[np.str_],
    classes: Sequence[str],
    ids: NDArray[np.str_],
    where: str,
    *,
    may_be_missing: bool = False,
) -> NDArray[np.int64]:
    """Label texts as indices into ``classes``.

    A text is the class of that name. A whole number k is ``classes[k]``, unless there are classes
    that are called by numbers.

    Args:
        texts: (n,) labels; the empty string is a missing label.
        classes: Class names.
        ids: (n,) sample ids, for messages.
        where: File or array that the labels come from, for messages.
        may_be_missing: Encode a missing label as ``UNKNOWN`` instead of refusing it.

    Returns:
        (n,) int64.

    Raises:
        InputError: If a label is missing or outside the classes; names its row, id and the classes.
    """
    distinct, inverse = np.unique(texts, return_inverse=True)
    index = {name: k for k, name in enumerate(classes)}
    if not any(map(_is_integer, classes)):
        index |= {str(k): k for k in range(len(classes))}
    codes = np.array([index.get(str(text), UNKNOWN) for text in distinct], dtype=np.int64)[inverse]
    missing = texts == ""
    if not may_be_missing and missing.any():
        raise InputError(f"{where}: {_first(missing, ids)} no label; every sample needs one")
    outside = (codes == UNKNOWN) & ~missing
    if outside.any():
        label = texts[np.argmax(outside)]
        raise InputError(
            f"{where}: {_first(outside, ids)} the label {str(label)!r}, "
            f"which is not among the {len(classes)} classes: {shorten(classes)}"
        )
    return codes


def shorten(names: Sequence[object], limit: int = 20) -> str:
    """Names joined by commas, the first ``limit`` of them and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None


def _first(rows: NDArray[np.bool_], ids: NDArray[np.str_]) -> str:
    row, others = int(np.argmax(rows)), int(rows.sum()) - 1
    more = f" (as {others} other rows)" if others else ""
    return f"row {row} (id {str(ids[row])!r}){more} has"
