"""What is known of samples beside their inputs: ids, classes, labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emlc.data.classes import class_names, encode, label_texts, shorten
from emlc.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What is known of samples beside their inputs.

    Attributes:
        ids: (n,) unique strings.
        classes: Class names as the user wrote them.
        labels: (n,) int64, given labels as indices into ``classes``; None for unlabelled data.
        true_labels: (n,) int64, -1 where the true label is not known; None where none is.
        trusted: (n,) bool, marks the samples whose labels are trusted; None if nothing says so.
        own_ids: Whether the ids were given, and so mean the same sample in every source;
            False for row numbers and for paths relative to a folder.
    """

    ids: NDArray[np.str_]
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    true_labels: NDArray[np.int64] | None = None
    trusted: NDArray[np.bool_] | None = None
    own_ids: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def annotations(self, rows: NDArray[Any] | slice = slice(None)) -> "Annotations":
        """The annotations of some samples, by index or boolean mask."""
        return Annotations(
            ids=self.ids[rows],
            classes=self.classes,
            labels=None if self.labels is None else self.labels[rows],
            true_labels=None if self.true_labels is None else self.true_labels[rows],
            trusted=None if self.trusted is None else self.trusted[rows],
            own_ids=self.own_ids,
        )


def annotate(
    n: int,
    *,
    where: str,
    ids: ArrayLike | None = None,
    id_prefix: str = "",
    own_ids: bool = True,
    labels: ArrayLike | None = None,
    true_labels: ArrayLike | None = None,
    trusted: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
) -> Annotations:
    """Check and encode what is known of ``n`` samples.

    Args:
        n: Number of samples.
        where: File or array, for messages.
        ids: (n,) ids, by default ``id_prefix`` and the row number.
        id_prefix: Start of the default ids.
        own_ids: Whether ``ids`` mean the same sample in every source.
        labels: (n,) strings, integers or booleans.
        true_labels: (n,) like ``labels``, with missing values where not known.
        trusted: (n,) booleans, 0 and 1, or the words true and false.
        classes: Class names, by default the sorted distinct labels and true labels.

    Raises:
        InputError: See :meth:`Samples.from_arrays`.
    """
    if n == 0:
        raise InputError(f"{where}: no samples")
    default_ids = np.char.add(id_prefix, np.arange(n).astype(np.str_))
    id_texts = default_ids if ids is None else label_texts(ids, f"{where}: ids")
    texts, true_texts = (
        None if values is None else label_texts(values, where) for values in (labels, true_labels)
    )
    mask = None if trusted is None else _mask(trusted, where)
    for name, values in {
        "ids": id_texts,
        "labels": texts,
        "true labels": true_texts,
        "trusted": mask,
    }.items():
        if values is not None and len(values) != n:
            raise InputError(f"{where}: {n} samples but {len(values)} {name}")
    _check_unique(id_texts, where)
    names = tuple(classes) if classes else class_names(*(t for t in (texts, true_texts) if t is not None))
    _check_classes(names, where)
    return Annotations(
        ids=id_texts,
        classes=names,
        labels=None if texts is None else encode(texts, names, id_texts, where),
        true_labels=(
            None if true_texts is None else encode(true_texts, names, id_texts, where, may_be_missing=True)
        ),
        trusted=mask,
        own_ids=own_ids and ids is not None,
    )


def _mask(values: ArrayLike, where: str) -> NDArray[np.bool_]:
    texts = np.char.lower(label_texts(values, where))
    mask = np.isin(texts, ["true", "1"])
    for row in np.flatnonzero(~mask & ~np.isin(texts, ["false", "0"]))[:1]:
        raise InputError(
            f"{where}: row {row}: expected true or false (1 or 0) in the trusted column, "
            f"found {str(texts[row])!r}"
        )
    return mask


def _check_unique(ids: NDArray[np.str_], where: str) -> None:
    if (ids == "").any():
        raise InputError(f"{where}: row {int(np.argmax(ids == ''))} has no id")
    distinct, counts = np.unique(ids, return_counts=True)
    repeated = distinct[counts > 1]
    if len(repeated):
        found = [
            f"{str(name)!r} in rows {shorten(np.flatnonzero(ids == name).tolist(), 5)}"
            for name in repeated[:5]
        ]
        raise InputError(f"{where}: {len(repeated)} ids occur more than once: {'; '.join(found)}")


def _check_classes(classes: Sequence[str], where: str) -> None:
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    if repeated:
        raise InputError(
            f"{where}: class names must differ, but these occur more than once: {shorten(repeated)}"
        )
