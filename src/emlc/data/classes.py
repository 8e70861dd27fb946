"""Class names and labels: any values become text, text becomes an index into the class names."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from emlc.errors import InputError

UNKNOWN = -1  # index of a true label that is not known
_LONGEST = 200  # characters of a name in a message

Numerals = Literal["indices", "names"]
"""What integer labels are where class names are integers themselves."""


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

    def renamed(self, texts: Sequence[str]) -> "TextLabels":
        """Return the labels with other texts, which may repeat; the empty string makes a label missing."""
        distinct = tuple(dict.fromkeys(text for text in texts if text))
        index = {text: code for code, text in enumerate(distinct)} | {"": UNKNOWN}
        codes = np.array([*(index[text] for text in texts), UNKNOWN], dtype=np.int64)[self.codes]
        return TextLabels(codes, distinct)

    def counts(self) -> dict[str, int]:
        """Return the number of labels of each text."""
        numbers = np.bincount(self.codes[self.codes != UNKNOWN], minlength=len(self.texts)).tolist()
        return dict(zip(self.texts, numbers, strict=True))


def text_labels(values: ArrayLike, where: str) -> TextLabels:
    """Convert values (n,) to text: strings as they are, numbers in decimal, booleans as False and True.

    None, NaN and the empty string are missing values. Whole floats count as integers; bytes are UTF-8.

    Raises:
        InputError: If ``values`` is not one-dimensional, or has fractional numbers, lists or other values
            that are no text.
    """
    if not isinstance(values, list | tuple | pd.Series):
        values = np.asarray(values)
        if values.ndim != 1:
            raise InputError(
                f"{where}: expected one label per sample, found an array of shape {values.shape}"
            )
    if isinstance(values, np.ndarray) and values.dtype.names is not None:
        raise InputError(_no_text(where, 0, values[0].item()))
    series = pd.Series(values)
    try:
        codes, distinct = pd.factorize(series)
    except TypeError as error:  # lists, arrays and dictionaries have no hash
        row = next(
            row for row, value in enumerate(series) if isinstance(value, list | dict | set | np.ndarray)
        )
        raise InputError(_no_text(where, row, series.iloc[row])) from error
    # Iterating over the index would visit Arrow's strings one by one.
    texts = distinct.to_numpy(dtype=np.object_).tolist()
    for code, value in enumerate(texts):
        if type(value) is not str:
            if (text := _text(value)) is None:
                raise InputError(_no_text(where, int(np.argmax(codes == code)), value))
            texts[code] = text
    labels = TextLabels(np.asarray(codes, dtype=np.int64), tuple(texts))
    return labels.renamed(texts) if "" in texts or len(set(texts)) < len(texts) else labels


def class_labels(values: ArrayLike, where: str) -> TextLabels:
    """Convert labels (n,) to text as :func:`text_labels` does, and whole numbers to integers.

    Where all of the texts are whole numbers, "1.0" becomes "1": programs that know no missing integers write
    them so. "01" stays as it is. A text of spaces is a missing label.

    Raises:
        InputError: See :func:`text_labels`.
    """
    labels = text_labels(values, where)
    if not all(map(str.strip, labels.texts)):
        labels = labels.renamed([text if text.strip() else "" for text in labels.texts])
    if all(re.fullmatch(r"-?[0-9]+(\.0*)?", text) for text in labels.texts):
        return labels.renamed([text.partition(".")[0] for text in labels.texts])
    return labels


def _text(value: Any) -> str | None:
    """Return a value as text; None if it is none."""
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    if isinstance(value, float | np.floating | Decimal):
        is_whole = np.isfinite(float(value)) and value == int(value)
        return str(int(value)) if is_whole else None
    if isinstance(value, datetime | date):
        return value.isoformat(" ").removesuffix(" 00:00:00") if isinstance(value, datetime) else str(value)
    if isinstance(value, list | tuple | dict | set | frozenset | np.ndarray):
        return None
    return str(value)


def _no_text(where: str, row: int, value: Any) -> str:
    if isinstance(value, float | np.floating | Decimal):
        return (
            f"{where}: expected strings or integers, but row {row} is {value}; to use fractions as names, "
            "write them as strings"
        )
    if isinstance(value, bytes | bytearray):
        return f"{where}: row {row}: expected a text in UTF-8, found the bytes {value!r:.60}"
    found = f"{value!r:.60}" if not isinstance(value, np.ndarray) else f"{value.tolist()!r:.60}"
    return (
        f"{where}: row {row}: expected one string or integer, found {type(value).__name__} {found}; a sample "
        "has one label and one id: make a column of them, such as the first element of each list"
    )


def class_names(*texts: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct non-empty label texts, sorted; by value if all are integers ("2" before "10")."""
    distinct = {str(text) for group in texts for text in group} - {""}
    if all(map(is_integer, distinct)):
        return tuple(sorted(distinct, key=lambda text: (int(text), text)))
    return tuple(sorted(distinct))


def decode(labels: TextLabels, names: Sequence[str], numerals: Numerals = "names") -> TextLabels:
    """Replace integer labels by the names that they are indices of.

    Args:
        labels: n labels. -1 stands for no label, unless it is a name.
        names: Class names in the order of their indices; without any, integers stay as they are.
        numerals: Whether integers are indices or names where some of the names are integers.

    Returns:
        n labels. What is neither a name nor an index stays as it is.
    """
    if not names:
        return labels
    known = set(names)
    are_names = numerals == "names" and any(map(is_integer, names))

    def name_of(text: str) -> str:
        if not is_integer(text) or (text in known and are_names):
            return text
        if text == "-1" and text not in known:
            return ""
        return text if are_names or not 0 <= int(text) < len(names) else names[int(text)]

    return labels.renamed([name_of(text) for text in labels.texts])


def encode(
    labels: TextLabels,
    classes: Sequence[str],
    ids: NDArray[np.object_],
    where: str,
    *,
    may_be_missing: bool = False,
    may_be_unknown: bool = False,
) -> NDArray[np.int64]:
    """Encode label texts as indices into ``classes``, by name.

    Args:
        labels: n labels.
        classes: Class names.
        ids: (n,) sample ids, for messages.
        where: File or array that the labels come from, for messages.
        may_be_missing: Encode a missing label as ``UNKNOWN`` instead of refusing it.
        may_be_unknown: Encode a label outside the classes as ``UNKNOWN`` instead of refusing it.

    Returns:
        (n,) int64.

    Raises:
        InputError: If a label is missing or outside the classes; names its row, id and the classes.
    """
    index = {name: k for k, name in enumerate(classes)}
    class_of_text = [index.get(text, UNKNOWN) for text in labels.texts]
    codes = np.array([*class_of_text, UNKNOWN])[labels.codes]  # missing labels have code -1: the last entry
    missing = labels.codes == UNKNOWN
    if not may_be_missing and missing.any():
        raise InputError(
            f"{where}: {_first(missing, ids)} no label; every sample needs one; --drop_unlabelled leaves "
            "such samples out"
        )
    outside = (codes == UNKNOWN) & ~missing
    if outside.any() and not may_be_unknown:
        label = labels.texts[labels.codes[np.argmax(outside)]]
        raise InputError(
            f"{where}: {_first(outside, ids)} the label {label!r}, "
            f"which is not among the {len(classes)} classes: {shorten(classes)}{_advice(labels, index)}"
        )
    return codes


def _advice(labels: TextLabels, classes: Sequence[str] | dict[str, int]) -> str:
    """Return what else to say of labels that are not among the classes: which, and the way out."""
    if all(map(is_integer, labels.texts)) and not any(map(is_integer, classes)):
        return (
            f". The labels are integers without names ({shorten(labels.texts, 5)}): --classes says, in their "
            "order from 0, which class each stands for, as does an array 'classes' in an .npz file; or write "
            "the names as labels"
        )
    unknown = {text: n for text, n in labels.counts().items() if text not in classes}
    counted = shorten([f"{text!r} ({n:,})" for text, n in unknown.items()], 10)
    return (
        f". Unknown: {counted}. --drop_untrusted_classes leaves samples of such classes out, "
        "--merge_spellings finds classes by another spelling of their name"
    )


def class_codes(names: Any, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the indices of class names (n,), int64; ``UNKNOWN`` for those that are missing, or none of them.

    Args:
        names: (n,) texts, such as a column of a table.
        classes: Class names, each once.
    """
    index: pd.Index[Any] = pd.Index(classes, dtype=object)
    return index.get_indexer(pd.Index(names, dtype=object)).astype(np.int64)


def shorten(names: Sequence[object], limit: int = 20) -> str:
    """Join the first ``limit`` names by commas, long ones cut, and say how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    texts = [text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..." for text in map(str, names[:limit])]
    return ", ".join(texts) + more


def is_integer(text: str) -> bool:
    """Return whether a text is an integer in decimal."""
    return re.fullmatch(r"-?[0-9]+", text) is not None


def _first(rows: NDArray[np.bool_], ids: NDArray[np.object_]) -> str:
    row, others = int(np.argmax(rows)), int(rows.sum()) - 1
    more = f" (like {others} other rows)" if others else ""
    return f"row {row} (id {str(ids[row])!r}){more} has"
