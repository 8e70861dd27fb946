"""Label noise: transition matrices, and the injection of wrong labels.

A transition matrix ``T`` is (C, C) float64 with ``T[c, d]`` = P(given label d | true label c); its
rows sum to 1. Symmetric and asymmetric noise of rate epsilon have the form
``T = (1 - epsilon) I + epsilon K``: a fraction epsilon of the samples is redrawn from the kernel ``K``.
As ``K`` may return the true class, the actual rate lies below the nominal one.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emlc.config import NoiseSettings
from emlc.data.classes import UNKNOWN, shorten
from emlc.data.npz import read_npy
from emlc.errors import InputError

_log = logging.getLogger(__name__)

_ALIASES = {"plane": "airplane", "car": "automobile", "cra": "crab"}  # "cra": so spelt in a public CIFAR-100

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The 10 class names of CIFAR-10, in the order of their labels."""
_CIFAR10_MAP = {
    "truck": "automobile",
    "bird": "airplane",
    "deer": "horse",
    "cat": "dog",
    "dog": "cat",
}

_DIGITS = tuple("0123456789")
_DIGITS_MAP = {"2": "7", "3": "8", "5": "6", "6": "5", "7": "1"}

_CIFAR100_SUPER_CLASSES = (
    ("beaver", "dolphin", "otter", "seal", "whale"),
    ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    ("orchid", "poppy", "rose", "sunflower", "tulip"),
    ("bottle", "bowl", "can", "cup", "plate"),
    ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    ("clock", "keyboard", "lamp", "telephone", "television"),
    ("bed", "chair", "couch", "table", "wardrobe"),
    ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    ("bear", "leopard", "lion", "tiger", "wolf"),
    ("bridge", "castle", "house", "road", "skyscraper"),
    ("cloud", "forest", "mountain", "plain", "sea"),
    ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    ("fox", "porcupine", "possum", "raccoon", "skunk"),
    ("crab", "lobster", "snail", "spider", "worm"),
    ("baby", "boy", "girl", "man", "woman"),
    ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
)
_CIFAR100_MAP = {
    fine: group[(k + 1) % len(group)] for group in _CIFAR100_SUPER_CLASSES for k, fine in enumerate(group)
}
CIFAR100_CLASSES = tuple(sorted(_CIFAR100_MAP))
"""The 100 class names of CIFAR-100, in the order of their fine labels."""

_SIMILAR_CLASS = (  # (class names of a data set, the class that each of them is mistaken for)
    (frozenset(CIFAR10_CLASSES), _CIFAR10_MAP),
    (frozenset(_CIFAR100_MAP), _CIFAR100_MAP),
    (frozenset(_DIGITS), _DIGITS_MAP),
)


def from_settings(
    settings: NoiseSettings, classes: Sequence[str]
) -> tuple[NDArray[np.float64], float | None]:
    """Return the transition matrix that the settings ask for, and its nominal noise rate.

    Returns:
        (C, C) float64; epsilon in [0, 1], or None for a matrix file.

    Raises:
        InputError: If the rate, the classes or the matrix file are not valid.
    """
    if settings.noise == "symmetric":
        return symmetric(len(classes), settings.noise_rate), settings.noise_rate
    if settings.noise == "asymmetric":
        matrix = asymmetric(classes, settings.noise_rate)
        _log.info(f"asymmetric noise takes {_moves(classes, matrix)}")
        return matrix, settings.noise_rate
    if settings.noise_matrix is None:
        raise InputError("--noise matrix needs --noise_matrix FILE")
    return load_transition_matrix(settings.noise_matrix, classes), None


def symmetric(num_classes: int, rate: float) -> NDArray[np.float64]:
    """Return the transition matrix of a uniform redraw over all classes, the true one included.

    Returns:
        (C, C) float64, ``(1 - rate) I + rate / C``; its actual noise rate is ``rate (1 - 1/C)``.

    Raises:
        InputError: If ``rate`` is not in [0, 1].
    """
    _check_rate(rate)
    return (1 - rate) * np.eye(num_classes) + rate / num_classes


def asymmetric(classes: Sequence[str], rate: float) -> NDArray[np.float64]:
    """Return the transition matrix that moves each class to a similar one, chosen by class name.

    CIFAR-10: truck to automobile, bird to airplane, deer to horse, cat and dog to each other.
    CIFAR-100: the next class of the same super-class, circularly. Digits: 2 to 7, 3 to 8, 7 to 1,
    5 and 6 to each other. Classes without a similar one keep their label.

    Returns:
        (C, C) float64, in the order of ``classes``.

    Raises:
        InputError: If ``rate`` is not in [0, 1], or the class names belong to none of these data sets.
    """
    _check_rate(rate)
    names = [canonical_class(name) for name in classes]
    similar = next((mapping for known, mapping in _SIMILAR_CLASS if known == set(names)), None)
    if similar is None or len(set(names)) != len(names):
        raise InputError(
            "--noise asymmetric: expected the classes of CIFAR-10, CIFAR-100 or digits, found "
            f"{', '.join(list(classes)[:10])}{', ...' if len(classes) > 10 else ''}; "
            "for other data give --noise matrix and --noise_matrix FILE"
        )
    targets = [names.index(similar.get(name, name)) for name in names]
    identity = np.eye(len(names))
    return (1 - rate) * identity + rate * identity[targets]


def _moves(classes: Sequence[str], matrix: NDArray[np.float64]) -> str:
    """Return which labels a matrix changes, and to what; the digits may be anybody's classes 0 to 9."""
    moves = [f"{classes[y]} for {classes[k]}" for k, y in np.argwhere(matrix > 0) if k != y]
    return ", ".join(moves[:10]) + (f" and {len(moves) - 10} more" if len(moves) > 10 else "")


def load_transition_matrix(path: str | Path, classes: Sequence[str]) -> NDArray[np.float64]:
    """Read a transition matrix from a .csv or .npy file.

    The first line of a .csv file may be a header. If it has the class names, in any order, the rows and the
    columns of the file are in that order. If it has other numbers, or is blank, it says nothing: they are in
    the order of ``classes``, as without a header.

    Args:
        path: The file.
        classes: The C class names.

    Returns:
        (C, C) float64, in the order of ``classes``; rows are normalised to sum to 1 exactly.

    Raises:
        InputError: If the file cannot be read, is not C x C, or a row (numbered from 0) has entries
            outside [0, 1] or does not sum to 1 within 1e-6; or if a header has other names.
    """
    matrix, header = _read_matrix(Path(path))
    num_classes = len(classes)
    if matrix.shape != (num_classes, num_classes):
        shape = " x ".join(map(str, matrix.shape))
        raise InputError(f"{path}: expected a {num_classes} x {num_classes} transition matrix, found {shape}")
    sums = matrix.sum(axis=1)
    outside = ~np.all((matrix >= 0) & (matrix <= 1), axis=1)
    for row in np.flatnonzero(outside | ~np.isclose(sums, 1, rtol=0, atol=1e-6))[:1]:
        fault = f"{matrix[row].tolist()}" if outside[row] else f"a sum of {sums[row]:.8g}"
        raise InputError(f"{path}: row {row} must have entries in [0, 1] that sum to 1, found {fault}")
    order = _order_of(header, classes, path)
    return np.asarray(matrix / sums[:, None], dtype=np.float64)[np.ix_(order, order)]


def inject(
    labels: NDArray[np.int64],
    transition_matrix: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    draw: Literal["sample", "exact"] = "sample",
    rate: float | None = None,
) -> NDArray[np.int64]:
    """Replace labels by noisy ones.

    Args:
        labels: (n,) int64, true labels, each in [0, C).
        transition_matrix: (C, C) float64.
        rng: Source of randomness.
        draw: sample: each label is drawn independently from its row of the matrix. exact: with a
            ``rate``, exactly ``round(rate * n)`` samples, chosen over the whole set, are redrawn from
            the kernel ``K`` of ``T = (1 - rate) I + rate K``; without one, the counts of each class
            are ``n_c T[c]`` rounded by largest remainder.
        rate: The fraction of redrawn samples in ``transition_matrix``; used by exact draws only.

    Returns:
        (n,) int64, new array.
    """
    if draw == "sample":
        return _draw_independently(labels, transition_matrix, rng)
    if rate is None:
        return _draw_counts(labels, transition_matrix, rng)
    noisy = labels.copy()
    if rate > 0:
        chosen = rng.permutation(len(labels))[: round(rate * len(labels))]
        kernel = (transition_matrix - (1 - rate) * np.eye(len(transition_matrix))) / rate
        noisy[chosen] = _draw_independently(labels[chosen], kernel, rng)
    return noisy


def actual_rate(given: NDArray[np.int64], true: NDArray[np.int64] | None) -> float | None:
    """Return the fraction of wrong labels among samples with a known true label (not -1), or None."""
    if true is None or not (known := true >= 0).any():
        return None
    return float(np.mean(given[known] != true[known]))


def observed_transition(
    given: NDArray[np.int64], true: NDArray[np.int64], num_classes: int
) -> NDArray[np.float64]:
    """Count which labels the samples of each class carry, as shares.

    Args:
        given: (n,) given labels, each in [0, C).
        true: (n,) true labels; samples where they are not known, -1, are left out.
        num_classes: C.

    Returns:
        (C, C) float64, rows = true class; they sum to 1, but for those of classes without samples: NaN.
    """
    known = true != UNKNOWN
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (true[known], given[known]), 1)
    with np.errstate(invalid="ignore"):  # a class without samples: 0 / 0 is NaN
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def nominal_rate(labels: NDArray[np.int64], transition_matrix: NDArray[np.float64]) -> float:
    """Return the expected fraction of changed labels, the mean of ``1 - T[c, c]`` over labels c, (n,)."""
    return float(np.mean(1 - transition_matrix.diagonal()[labels]))


def canonical_class(name: str) -> str:
    """Return a class name of CIFAR in its usual spelling: "Car" is automobile, "apple tree" apple_tree."""
    name = name.strip().lower().replace(" ", "_")
    return _ALIASES.get(name, name)


def _check_rate(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise InputError(f"--noise_rate must be in [0, 1], found {rate}")


def _order_of(header: Sequence[str], classes: Sequence[str], path: str | Path) -> list[int]:
    """Return where each class is in the header, or in the classes if the header does not name them."""
    if sorted(header) == sorted(classes):
        return [header.index(name) for name in classes]
    numbers = pd.to_numeric(pd.Series(header, dtype=object), errors="coerce")
    names = [name for name, number in zip(header, numbers, strict=True) if name and np.isnan(number)]
    if names:
        raise InputError(
            f"{path}: expected a header of the classes {shorten(classes)}, or none, found {shorten(header)}"
        )
    return list(range(len(classes)))


def _read_matrix(path: Path) -> tuple[NDArray[np.float64], list[str]]:
    """Return the numbers of a file, and the cells of its header, if it has one."""
    try:
        if path.suffix == ".npy":
            return np.asarray(read_npy(path), dtype=np.float64), []
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)  # a class may be called NA
        numbers = cells.apply(pd.to_numeric, errors="coerce")
        has_header = len(cells) == cells.shape[1] + 1  # class names may be numbers too
        header = [str(cell).strip() for cell in cells.iloc[0]] if has_header else []
        return np.asarray(numbers, dtype=np.float64)[int(has_header) :], header
    except InputError:
        raise
    except (OSError, ValueError, TypeError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path}: cannot be read as a transition matrix: {error}") from error


def _draw_independently(
    labels: NDArray[np.int64], transition_matrix: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw one label per sample by inverting the distribution function of its row, class by class."""
    uniform = rng.random(len(labels))
    cumulative = transition_matrix.cumsum(axis=1)
    cumulative /= cumulative[:, -1:]  # rounding must not leave a gap below 1
    noisy = labels.copy()
    for c in np.unique(labels):
        of_class = labels == c
        noisy[of_class] = np.searchsorted(cumulative[c], uniform[of_class], side="right")
    return noisy


def _draw_counts(
    labels: NDArray[np.int64], transition_matrix: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    noisy = labels.copy()
    for c in np.unique(labels):
        rows = np.flatnonzero(labels == c)
        counts = _largest_remainder(len(rows) * transition_matrix[c])
        noisy[rng.permutation(rows)] = np.repeat(np.arange(len(counts)), counts)
    return noisy


def _largest_remainder(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round non-negative shares, (C,), to integers with the same (integer) sum."""
    counts = np.floor(shares + 1e-9).astype(np.int64)  # 0.3 * 10 is a hair below 3
    missing = round(float(shares.sum())) - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:missing]] += 1
    return counts
