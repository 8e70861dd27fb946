"""Bring the sets of a split to the same classes: those of the noisy and the trusted samples, by name."""

import logging
from collections import Counter
from collections.abc import Mapping

import numpy as np

from emlc.config import DataSettings
from emlc.data.classes import UNKNOWN, TextLabels, class_names, decode, is_integer, shorten
from emlc.data.samples import Samples
from emlc.data.spellings import find_spellings, merged_names, tell_merged, tell_spellings
from emlc.errors import InputError

_log = logging.getLogger(__name__)


def with_common_classes(
    parts: Mapping[str, Samples], declared: tuple[str, ...], settings: DataSettings
) -> dict[str, Samples]:
    """Return the sets with labels as indices into the same classes.

    Args:
        parts: Samples by role, with labels; among them the noisy and the trusted ones.
        declared: Class names in the order of integer labels; by default those of the noisy and trusted
            samples, sorted.
        settings: Whether spellings are merged, and whether samples of other classes are left out.

    Raises:
        InputError: If a label is not among the classes, or integers stand beside names.
    """
    parts = {role: _decoded(part, settings.classes or ()) for role, part in parts.items()}
    if not declared:
        _check_no_integers(parts)
    counts = _counts(parts, declared)
    if settings.merge_spellings:
        names = merged_names(counts, declared)
        tell_merged(counts, names, "all sets")
    else:
        names = {}
        _tell_across(parts, counts)
    used = declared or class_names(*(parts[role].classes for role in ("noisy", "trusted")))
    classes = tuple(dict.fromkeys(names.get(name, name) for name in used))
    if not declared:
        classes = class_names(classes)
    drop = settings.drop_untrusted_classes
    return {
        role: _known(
            part.with_classes(classes, f"the {role} samples", names=names, may_be_unknown=drop), role
        )
        for role, part in parts.items()
    }


def with_trusted_classes(parts: Mapping[str, Samples], *, drop: bool) -> dict[str, Samples]:
    """Return the sets, without the samples of classes that have no trusted sample if these are dropped.

    Raises:
        InputError: If a class has no trusted sample, and is not dropped.
    """
    classes = parts["trusted"].classes
    counts = np.bincount(parts["trusted"].given, minlength=len(classes))
    absent = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if not absent:
        return dict(parts)
    if not drop:
        samples = int(np.isin(parts["noisy"].given, [classes.index(name) for name in absent]).sum())
        raise InputError(
            f"{len(absent)} of {len(counts)} classes have no trusted sample: {shorten(absent)}; every class "
            f"needs at least one; {_merging(classes, absent)}--drop_untrusted_classes leaves these out, with "
            f"{samples:,} noisy samples"
        )
    kept = tuple(name for name in classes if name not in absent)
    _log.warning(f"left out classes without a trusted sample: {shorten(absent)}")
    return {
        role: _known(part.with_classes(kept, f"the {role} samples", may_be_unknown=True), role)
        for role, part in parts.items()
    }


def _merging(classes: tuple[str, ...], absent: list[str]) -> str:
    """Return what to do first if a class that is absent is another one in another spelling, else ""."""
    for spelling in find_spellings(dict.fromkeys(classes, 0)):
        if {spelling.name, *spelling.others} & {*absent}:
            names = f"{spelling.name!r} and {spelling.others[0]!r}"
            return f"--merge_spellings counts names as one that differ in spelling only, such as {names}; "
    return ""


def _decoded(samples: Samples, names: list[str] | tuple[()]) -> Samples:
    """Return samples whose classes are integers with the names that these stand for, if there are any."""
    texts = decode(TextLabels(np.arange(len(samples.classes)), samples.classes), names).decoded().tolist()
    if tuple(texts) == samples.classes:
        return samples
    renamed = dict(zip(samples.classes, texts, strict=True))
    return samples.with_classes(tuple(dict.fromkeys(texts)), "the samples", names=renamed)


def _known(samples: Samples, role: str) -> Samples:
    outside = samples.given == UNKNOWN
    if not outside.any():
        return samples
    if outside.all():
        raise InputError(f"all {role} samples are of classes without a trusted sample")
    _log.warning(f"left out {outside.sum():,} {role} samples of classes without a trusted sample")
    return samples.take(~outside)


def _counts(parts: Mapping[str, Samples], declared: tuple[str, ...]) -> Counter[str]:
    counts = Counter(dict.fromkeys(declared, 0))
    for part in parts.values():
        counts.update(TextLabels(part.given, part.classes).counts())
    return counts


def _tell_across(parts: Mapping[str, Samples], counts: Mapping[str, int]) -> None:
    """Tell of spellings that differ between sets; those within the noisy set have been told."""
    noisy = parts["noisy"].classes
    across = {
        name: counts[name]
        for spelling in find_spellings(counts)
        for name in (spelling.name, *spelling.others)
        if not {spelling.name, *spelling.others} <= {*noisy}
    }
    tell_spellings(across, "all sets")


def _check_no_integers(parts: Mapping[str, Samples]) -> None:
    """Raise an :class:`InputError` if the classes are integers in one set, and names in the noisy set."""
    noisy = parts["noisy"].classes
    for role, part in parts.items():
        are_integers = [[*map(is_integer, names)] for names in (noisy, part.classes)]
        is_mixed = any(all(a) and not any(b) for a, b in (are_integers, are_integers[::-1]))
        spellings = find_spellings(dict.fromkeys((*noisy, *part.classes), 0))  # 0 and False, for example
        if not is_mixed or spellings:
            continue
        integers, others = ("noisy", role) if all(are_integers[0]) else (role, "noisy")
        found, names = (parts[each].classes for each in (integers, others))
        raise InputError(
            f"the labels of the {integers} samples are integers ({shorten(found, 5)}), but those of the "
            f"{others} samples are names ({shorten(names, 5)}): --classes says, in their order from 0, which "
            "class each integer stands for; or write the names as labels"
        )
