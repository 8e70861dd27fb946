"""Ids, classes and labels of samples: everything that is known about them except their inputs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emlc.config import DataSettings
from emlc.data.classes import (
    UNKNOWN,
    Numerals,
    TextLabels,
    class_codes,
    class_labels,
    class_names,
    decode,
    encode,
    shorten,
    text_labels,
)
from emlc.data.ids import default_ids, unique_ids
from emlc.data.marks import trusted_marks
from emlc.data.spellings import merged_names, tell_merged, tell_spellings
from emlc.errors import InputError, NoSamplesError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Ids, classes and labels of n samples: everything that is known about them except their inputs.

    Attributes:
        ids: (n,) unique Python strings; a sample keeps its id in every set that is drawn from these.
        classes: The C class names, as the user wrote them.
        labels: (n,) int64, given labels as indices into ``classes``; None for unlabelled data.
        true_labels: (n,) int64, -1 where the true label is not known; None if no true label is known.
        trusted: (n,) bool, marks the samples whose labels are trusted; None without such a mark.
        label_before_review: (n,) texts, of reviewed samples the label that they had been given, else empty;
            None if none is known.
        chosen_for_review: (n,) texts, of reviewed samples how they were chosen, else empty; None if none is
            known.
        own_ids: True if the source names the ids, so that equal ids mean the same sample in every
            source; False for row numbers and for paths relative to a folder.
        left_out: (n,) bool, marks the samples of a source that are not used, as the settings ask for; None
            if all are used. Their labels may be -1.
    """

    ids: NDArray[np.object_]
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    true_labels: NDArray[np.int64] | None = None
    trusted: NDArray[np.bool_] | None = None
    label_before_review: NDArray[np.object_] | None = None
    chosen_for_review: NDArray[np.object_] | None = None
    own_ids: bool = False
    left_out: NDArray[np.bool_] | None = None

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
            label_before_review=None if self.label_before_review is None else self.label_before_review[rows],
            chosen_for_review=None if self.chosen_for_review is None else self.chosen_for_review[rows],
            own_ids=self.own_ids,
        )

    @property
    def given_before(self) -> NDArray[np.int64]:
        """(n,) int64, of reviewed samples the class of the label that they had been given, -1 elsewhere."""
        if self.label_before_review is None:
            return np.full(len(self), UNKNOWN, dtype=np.int64)
        return class_codes(self.label_before_review, self.classes)

    def counts_before(self) -> NDArray[np.float64]:
        """Count the reviewed samples by label (rows) and the label that they had been given: (C, C)."""
        counts, before = np.zeros((len(self.classes),) * 2), self.given_before
        known = before != UNKNOWN
        np.add.at(counts, (self.given[known], before[known]), 1)
        return counts

    @property
    def in_use(self) -> NDArray[np.bool_]:
        """(n,) bool, true for the samples that are not left out."""
        return np.ones(len(self), dtype=np.bool_) if self.left_out is None else ~self.left_out


@dataclass(frozen=True, kw_only=True)
class IntegerNames:
    """Class names that integer labels of a file stand for, in the order of the integers from 0.

    Attributes:
        labels: Names for the given labels; empty: integers have no names.
        true_labels: Names for the true labels.
        numerals: Whether integers are indices or names where some of the names are integers.
    """

    labels: tuple[str, ...] = ()
    true_labels: tuple[str, ...] = ()
    numerals: Numerals = "names"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a source says of n samples, as it is written there: (n,) values each, None where it says nothing.

    Attributes:
        id: Strings or integers.
        label: Given labels: strings, integers or booleans.
        true_label: Likewise, with missing values where the true label is not known.
        trusted: Booleans, 0 and 1, or words such as yes and no; a missing value means no.
        label_before_review: Names of classes, with missing values where a sample was not reviewed.
        chosen_for_review: Texts, likewise.
    """

    id: ArrayLike | None = None
    label: ArrayLike | None = None
    true_label: ArrayLike | None = None
    trusted: ArrayLike | None = None
    label_before_review: ArrayLike | None = None
    chosen_for_review: ArrayLike | None = None


def annotate(
    n: int,
    written: Written,
    *,
    where: str,
    id_prefix: str = "",
    first_row: int = 0,
    own_ids: bool = True,
    classes: Sequence[str] | None = None,
    integer_names: IntegerNames | None = None,
    settings: DataSettings | None = None,
) -> Annotations:
    """Check the ids and labels of ``n`` samples, and encode the labels as class indices.

    Args:
        n: Number of samples.
        written: What the source says of them; ids are by default ``id_prefix`` and the row number.
        where: File or array, for messages.
        id_prefix: Start of the default ids.
        first_row: Number of the first row in the default ids.
        own_ids: Whether the ids of the source mean the same sample in every source.
        classes: Class names, by default those of the integers, else the sorted distinct labels and true
            labels.
        integer_names: Names of integer labels; by default integers are names themselves.
        settings: Which samples to leave out, and whether spellings are merged; by default none.

    Raises:
        InputError: See :meth:`Samples.from_arrays`.
    """
    if n == 0:
        raise InputError(f"{where}: no samples")
    settings = settings or DataSettings()
    names = integer_names or IntegerNames()
    ids = None if written.id is None else text_labels(written.id, f"{where}: ids")
    texts, true_texts = (
        None if values is None else decode(class_labels(values, where), own, names.numerals)
        for values, own in ((written.label, names.labels), (written.true_label, names.true_labels))
    )
    mask = None if written.trusted is None else trusted_marks(written.trusted, where)
    before, chosen = (
        None if values is None else text_labels(values, f"{where}: {name} column").decoded()
        for name, values in {
            "label_before_review": written.label_before_review,
            "chosen_for_review": written.chosen_for_review,
        }.items()
    )
    for name, values in {
        "ids": ids,
        "labels": texts,
        "true labels": true_texts,
        "trusted": mask,
        "labels before review": before,
        "ways of choice": chosen,
    }.items():
        if values is not None and len(values) != n:
            raise InputError(f"{where}: {n} samples but {len(values)} {name}")
    if ids is None:
        id_texts, left_out = default_ids(n, id_prefix, first_row), np.zeros(n, dtype=np.bool_)
    else:
        id_texts, left_out = unique_ids(ids, where, settings)
    declared = tuple(classes or dict.fromkeys((*names.labels, *names.true_labels)))
    for each in (classes or (), names.labels, names.true_labels):
        _check_classes(each, where)
    texts, true_texts = _spelled(texts, true_texts, declared, where, settings)
    all_classes = declared or class_names(*(part.texts for part in (texts, true_texts) if part is not None))
    codes, true_codes = (
        None
        if part is None
        else encode(
            part,
            all_classes,
            id_texts,
            where,
            may_be_missing=settings.drop_unlabelled or part is true_texts,
            may_be_unknown=settings.drop_untrusted_classes,
        )
        for part in (texts, true_texts)
    )
    if texts is not None and codes is not None:
        left_out |= _left_out(codes, texts, where)
    if left_out.all():
        raise NoSamplesError(f"{where}: no samples are left, of {n:,}")
    return Annotations(
        ids=id_texts,
        classes=all_classes,
        labels=codes,
        true_labels=true_codes,
        trusted=mask,
        label_before_review=before,
        chosen_for_review=chosen,
        own_ids=own_ids and ids is not None,
        left_out=left_out if left_out.any() else None,
    )


def _spelled(
    texts: TextLabels | None,
    true_texts: TextLabels | None,
    declared: tuple[str, ...],
    where: str,
    settings: DataSettings,
) -> tuple[TextLabels | None, TextLabels | None]:
    """Merge the spellings of class names if the settings say so, else tell of them."""
    counts = dict.fromkeys(declared, 0)
    for part in (texts, true_texts):
        for text, number in ({} if part is None else part.counts()).items():
            counts[text] = counts.get(text, 0) + number
    if not settings.merge_spellings:
        tell_spellings(counts, where)
        return texts, true_texts
    names = merged_names(counts, declared)
    tell_merged(counts, names, where)
    merged = [
        None if part is None else part.renamed([names.get(text, text) for text in part.texts])
        for part in (texts, true_texts)
    ]
    return merged[0], merged[1]


def _left_out(codes: NDArray[np.int64], texts: TextLabels, where: str) -> NDArray[np.bool_]:
    """Return (n,) which samples are without a known label, and tell how many there are."""
    missing = texts.codes == UNKNOWN
    outside = (codes == UNKNOWN) & ~missing
    if missing.any():
        _log.warning(f"{where}: left out {missing.sum():,} samples without a label")
    if outside.any():
        names = [texts.texts[code] for code in np.unique(texts.codes[outside])]
        _log.warning(f"{where}: left out {outside.sum():,} samples of unknown classes: {shorten(names)}")
    left_out: NDArray[np.bool_] = missing | outside
    return left_out


def _check_classes(classes: Sequence[str], where: str) -> None:
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    if repeated:
        raise InputError(
            f"{where}: class names must differ, but these occur more than once: {shorten(repeated)}"
        )
