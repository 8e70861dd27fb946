"""Choose which samples of one source are noisy, trusted or test samples; from labels alone."""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emlc.config import DataSettings, NoiseSettings
from emlc.data.annotations import Annotations
from emlc.data.classes import UNKNOWN, shorten
from emlc.errors import InputError
from emlc.runtime.streams import RandomStream, derived_seed, generator

_log = logging.getLogger(__name__)

_HELD_OUT = {"test": RandomStream.TEST_SET, "validation": RandomStream.VALIDATION_SET}
_DIGITS_TEST_FRACTION = 0.25


@dataclass(frozen=True)
class Rows:
    """Sorted, disjoint row numbers, (n_noisy,), (n_trusted,), (n_test,) int64, of one source."""

    noisy: NDArray[np.int64]
    trusted: NDArray[np.int64]
    test: NDArray[np.int64]


def draw_rows(
    data: Annotations,
    settings: DataSettings,
    noise: NoiseSettings,
    seed: int,
    *,
    trusted_given: bool = False,
    test_given: bool = False,
) -> Rows:
    """Divide the samples of the data: first the test set, then the trusted set, then the noisy rest.

    Args:
        data: Samples or source, with labels.
        settings: How many to draw of each.
        noise: If noise is to be injected, the given labels are true ones.
        seed: Seed of the draws.
        trusted_given: Whether the trusted samples come from a source of their own.
        test_given: Whether the test samples do.

    Raises:
        InputError: If not exactly one thing says which samples are trusted, true labels are needed but
            not known, or there are too few samples.
    """
    if data.labels is None:
        raise InputError("the data have no labels")
    _check_one_trusted(data, settings, trusted_given)
    truth = _known_truth(data, noise)
    free = np.ones(len(data), dtype=np.bool_) if data.trusted is None else ~data.trusted
    if settings.test_fraction is not None and not test_given and truth is None:
        _log.warning(
            "note: --test_fraction draws test samples whose labels are as doubtful as the others, so test "
            "accuracy is measured against those"
        )
    test = _draw_test(data.labels if truth is None else truth, free, settings, seed, test_given)
    free[test] = False
    if settings.trusted_per_class is not None:
        trusted = _draw_trusted(truth, free, data.classes, settings.trusted_per_class, seed)
    else:
        trusted = np.flatnonzero([] if data.trusted is None else data.trusted)
    free[trusted] = False
    noisy = np.flatnonzero(free)
    if settings.noisy_limit is not None and settings.noisy_limit < len(noisy):
        noisy = np.sort(generator(seed, RandomStream.NOISY_SET).permutation(noisy)[: settings.noisy_limit])
    if len(noisy) == 0:
        raise InputError("no noisy samples are left beside the trusted and test samples")
    return Rows(noisy, trusted, test)


def _check_one_trusted(data: Annotations, settings: DataSettings, trusted_given: bool) -> None:
    ways = {
        "--trusted": trusted_given,
        "--trusted_column": data.trusted is not None,
        "--trusted_per_class": settings.trusted_per_class is not None,
    }
    found = [name for name, is_given in ways.items() if is_given]
    if len(found) != 1:
        raise InputError(f"give exactly one of {', '.join(ways)}; found {' and '.join(found) or 'none'}")


def _known_truth(data: Annotations, noise: NoiseSettings) -> NDArray[np.int64] | None:
    """(n,) true labels, -1 where not known, or None if none is known."""
    if data.true_labels is None and noise.noise != "none":
        return data.labels
    return data.true_labels


def _draw_test(
    labels: NDArray[np.int64], free: NDArray[np.bool_], settings: DataSettings, seed: int, test_given: bool
) -> NDArray[np.int64]:
    fraction = settings.test_fraction
    if test_given:
        if fraction is not None:
            raise InputError("--test and --test_fraction: give one of the two")
        return np.array([], dtype=np.int64)
    if fraction is None:
        if settings.data != "digits":
            return np.array([], dtype=np.int64)
        fraction = _DIGITS_TEST_FRACTION
    candidates = np.flatnonzero(free & (labels != UNKNOWN))
    return candidates[hold_out(labels[candidates], fraction, seed, "test")]


def hold_out(
    labels: NDArray[np.int64], fraction: float, seed: int, purpose: Literal["test", "validation"]
) -> NDArray[np.int64]:
    """Sorted indices of a fraction of some samples, stratified by their labels (n,).

    Raises:
        InputError: If a class is too small to be divided.
    """
    # Takes more than a second to import, which the use of a trained run most often does not need.
    from sklearn.model_selection import train_test_split

    state = derived_seed(seed, _HELD_OUT[purpose])
    try:
        _, held = train_test_split(
            np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=state
        )
    except ValueError as error:
        raise InputError(
            f"--{purpose}_fraction {fraction}: {len(labels)} samples cannot be divided by class: {error}"
        ) from error
    return np.sort(held)


def _draw_trusted(
    truth: NDArray[np.int64] | None,
    free: NDArray[np.bool_],
    classes: tuple[str, ...],
    per_class: int,
    seed: int,
) -> NDArray[np.int64]:
    if truth is None:
        raise InputError(
            "--trusted_per_class needs the true labels: name their column by --true_label_column, "
            "or say which samples are trusted by --trusted or --trusted_column"
        )
    shuffled = generator(seed, RandomStream.TRUSTED_SET).permutation(np.flatnonzero(free))
    of_class = [shuffled[truth[shuffled] == c] for c in range(len(classes))]
    scarce = [
        f"{name} ({len(rows)})" for name, rows in zip(classes, of_class, strict=True) if len(rows) < per_class
    ]
    if scarce:
        raise InputError(
            f"--trusted_per_class {per_class}: these classes have fewer samples with a known true label: "
            f"{shorten(scarce)}"
        )
    return np.sort(np.concatenate([rows[:per_class] for rows in of_class]))
