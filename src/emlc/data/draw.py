"""Choose which samples of one source are noisy, trusted or test samples, from their labels alone."""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emlc.config import DataSettings, NoiseSettings
from emlc.config.data import how_to_trust
from emlc.data.annotations import Annotations
from emlc.data.classes import UNKNOWN, shorten
from emlc.errors import InputError
from emlc.runtime.streams import RandomStream, derived_seed, generator

_log = logging.getLogger(__name__)

_HOLD_OUT_STREAMS = {"test": RandomStream.TEST_SET, "validation": RandomStream.VALIDATION_SET}
_DIGITS_TEST_FRACTION = 0.25


@dataclass(frozen=True)
class Rows:
    """Sorted, disjoint row numbers of one source: (n_noisy,), (n_trusted,) and (n_test,) int64."""

    noisy: NDArray[np.int64]
    trusted: NDArray[np.int64]
    test: NDArray[np.int64]


def draw_rows(
    data: Annotations,
    settings: DataSettings,
    noise: NoiseSettings,
    seed: int,
    *,
    has_trusted_source: bool = False,
    has_test_source: bool = False,
) -> Rows:
    """Divide the samples of the data: first the test set, then the trusted set, then the noisy rest.

    Args:
        data: Samples or source, with labels.
        settings: How many samples to draw for each set.
        noise: Noise to inject. If there is any and no true label is known, the given labels count as true.
        seed: Seed of the draws.
        has_trusted_source: Whether the trusted samples come from a source of their own.
        has_test_source: Whether the test samples come from a source of their own.

    Raises:
        InputError: If the trusted samples are named in no way or in several, true labels are needed but
            not known, or there are too few samples.
    """
    if data.labels is None:
        raise InputError("the data have no labels")
    _check_one_trusted(data, settings, has_trusted_source)
    truth = _known_truth(data, noise)
    in_use = data.in_use
    free = in_use if data.trusted is None else in_use & ~data.trusted
    if settings.test_fraction is not None and not has_test_source and truth is None:
        _log.warning(
            "note: --test_fraction draws test samples whose labels are as noisy as the others, so test "
            "accuracy is measured against noisy labels"
        )
    test = _draw_test(data.labels if truth is None else truth, free, settings, seed, has_test_source)
    free[test] = False
    if settings.trusted_per_class is not None:
        trusted = _draw_trusted(truth, free, data.classes, settings, seed)
    else:
        trusted = np.flatnonzero([] if data.trusted is None else data.trusted & data.in_use)
    free[trusted] = False
    noisy = np.flatnonzero(free)
    if settings.noisy_limit is not None and settings.noisy_limit < len(noisy):
        noisy = np.sort(generator(seed, RandomStream.NOISY_SET).permutation(noisy)[: settings.noisy_limit])
    if len(noisy) == 0:
        raise InputError("no noisy samples are left beside the trusted and test samples")
    return Rows(noisy, trusted, test)


def _check_one_trusted(data: Annotations, settings: DataSettings, has_trusted_source: bool) -> None:
    ways = {
        "--trusted": has_trusted_source,
        "--trusted_column": data.trusted is not None,
        "--trusted_per_class": settings.trusted_per_class is not None,
    }
    chosen = [name for name, is_chosen in ways.items() if is_chosen]
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none"
        hint = "" if chosen else f"; {how_to_trust(settings.data)}"
        raise InputError(f"give exactly one of {', '.join(ways)}; found {found}{hint}")


def _known_truth(data: Annotations, noise: NoiseSettings) -> NDArray[np.int64] | None:
    """Return the true labels (n,), -1 where not known; None if none is known."""
    if data.true_labels is None and noise.noise != "none":
        return data.labels
    return data.true_labels


def _draw_test(
    labels: NDArray[np.int64],
    free: NDArray[np.bool_],
    settings: DataSettings,
    seed: int,
    has_test_source: bool,
) -> NDArray[np.int64]:
    fraction = settings.test_fraction
    if has_test_source:
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
    """Draw a fraction of n samples, stratified by their labels (n,), and return their sorted indices.

    Raises:
        InputError: If a class is too small to be divided.
    """
    # Imported here: it takes more than a second, and using a trained run rarely needs it.
    from sklearn.model_selection import train_test_split

    state = derived_seed(seed, _HOLD_OUT_STREAMS[purpose])
    try:
        _, held_out = train_test_split(
            np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=state
        )
    except ValueError as error:
        raise InputError(
            f"--{purpose}_fraction {fraction}: {len(labels)} samples cannot be divided by class: {error}"
        ) from error
    return np.sort(held_out)


def _draw_trusted(
    truth: NDArray[np.int64] | None,
    free: NDArray[np.bool_],
    classes: tuple[str, ...],
    settings: DataSettings,
    seed: int,
) -> NDArray[np.int64]:
    if truth is None:
        raise InputError(
            "--trusted_per_class needs the true labels: it is for experiments on data where they are known "
            f"(name their column by --true_label_column). For your own data, {how_to_trust(settings.data)}"
        )
    per_class = settings.trusted_per_class or 0
    shuffled = generator(seed, RandomStream.TRUSTED_SET).permutation(np.flatnonzero(free))
    rows_by_class = [shuffled[truth[shuffled] == c] for c in range(len(classes))]
    scarce = [
        f"{name} ({len(rows)})"
        for name, rows in zip(classes, rows_by_class, strict=True)
        if len(rows) < per_class
    ]
    if scarce:
        raise InputError(
            f"--trusted_per_class {per_class}: these classes have fewer samples with a known true label: "
            f"{shorten(scarce)}"
        )
    return np.sort(np.concatenate([rows[:per_class] for rows in rows_by_class]))
