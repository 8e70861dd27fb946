"""Ids, classes and labels of samples: everything that is known about them except their inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emlc.data.classes import UNKNOWN, TextLabels, class_names, encode, shorten, text_labels
from emlc.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Ids, classes and labels of n samples: everything that is known about them except their inputs.

    Attributes:
        ids: (n,) unique Python strings; a sample keeps its id in every set that is drawn from these.
        classes: The C class names, as the user wrote them.
        labels: (n,) int64, given labels as indices into ``classes``; None for unlabelled data.
        true_labels: (n,) int64, -1 where the true label is not known; None if no true label is known.
        trusted: (n,) bool, marks the samples whose labels are trusted; None without such a mark.
        own_ids: True if the source names the ids, so that equal ids mean the same sample in every
            source; False for row numbers and for paths relative to a folder.
    """

    ids: NDArray[np.object_]
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    true_labels: NDArray[np.int64] | None = None
    trusted: NDArray[np.bool_] | None = None
    own_ids: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def given(self) -> NDArray[np.int64]:
        """The given labels, (n,) int64, for callers that need labels.

        Raises:
            InputError: If the samples have no labels.
        """
        if self.labels is None:
            ids = shorten(self.ids.tolist(), 3)
            raise InputError(f"labels: expected one for each of {len(self)} samples ({ids}), found none")
        return self.labels

    def annotations(self, rows: NDArray[Any] | slice = slice(None)) -> "Annotations":
        """Return the annotations of some samples, selected by a slice, indices or a boolean mask."""
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
    """Check the ids and labels of ``n`` samples, and encode the labels as class indices.

    Args:
        n: Number of samples.
        where: File or array, for messages.
        ids: (n,) ids, by default ``id_prefix`` and the row number.
        id_prefix: Start of the default ids.
        own_ids: Whether ``ids`` mean the same sample in every source.
        labels: (n,) strings, integers or booleans.
        true_labels: (n,) like ``labels``, with missing values where the true label is not known.
        trusted: (n,) booleans, 0 and 1, or the words true and false.
        classes: Class names, by default the sorted distinct labels and true labels.

    Raises:
        InputError: See :meth:`Samples.from_arrays`.
    """
    if n == 0:
        raise InputError(f"{where}: no samples")
    id_labels = None if ids is None else text_labels(ids, f"{where}: ids")
    texts, true_texts = (
        None if values is None else text_labels(values, where) for values in (labels, true_labels)
    )
    mask = None if trusted is None else _mask(trusted, where)
    for name, values in {
        "ids": id_labels,
        "labels": texts,
        "true labels": true_texts,
        "trusted": mask,
    }.items():
        if values is not None and len(values) != n:
            raise InputError(f"{where}: {n} samples but {len(values)} {name}")
    id_texts = _default_ids(n, id_prefix) if id_labels is None else _unique_ids(id_labels, where)
    texts_of_labels = [labels.texts for labels in (texts, true_texts) if labels is not None]
    names = tuple(classes) if classes else class_names(*texts_of_labels)
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


_TRUTH_VALUES = {"true": 1, "1": 1, "false": 0, "0": 0}


def _default_ids(n: int, prefix: str) -> NDArray[np.object_]:
    return np.array([f"{prefix}{row}" for row in range(n)], dtype=np.object_)


def _mask(values: ArrayLike, where: str) -> NDArray[np.bool_]:
    labels = text_labels(values, where)
    meanings = [_TRUTH_VALUES.get(text.lower(), UNKNOWN) for text in labels.texts]
    mask = np.array([*meanings, UNKNOWN])[labels.codes]  # missing values have code -1: the last entry
    for row in np.flatnonzero(mask == UNKNOWN)[:1]:
        raise InputError(
            f"{where}: row {row}: expected true or false (1 or 0) in the trusted column, "
            f"found {labels.decoded()[row]!r}"
        )
    return mask.astype(np.bool_)


def _unique_ids(labels: TextLabels, where: str) -> NDArray[np.object_]:
    for row in np.flatnonzero(labels.codes == UNKNOWN)[:1]:
        raise InputError(f"{where}: row {row} has no id")
    repeated = np.flatnonzero(np.bincount(labels.codes) > 1).tolist()
    if repeated:
        repeated.sort(key=lambda code: labels.texts[code])
        examples = [
            f"{labels.texts[code]!r} in rows {shorten(np.flatnonzero(labels.codes == code).tolist(), 5)}"
            for code in repeated[:5]
        ]
        raise InputError(f"{where}: {len(repeated)} ids occur more than once: {'; '.join(examples)}")
    return labels.decoded()


def _check_classes(classes: Sequence[str], where: str) -> None:
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    if repeated:
        raise InputError(
            f"{where}: class names must differ, but these occur more than once: {shorten(repeated)}"
        )
