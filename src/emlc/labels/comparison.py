"""A run beside its simple rivals, on samples that neither has learned from, and what follows from it.

Tests are exact and one-sided, at 5 %. A rival is better if the samples on which just one of the two is right
are more often right for the rival than chance would have it (McNemar's test), with Bonferroni's correction
for the number of rivals. The run is better if it beats every rival in this sense. It knows no better than
chance if as many predictions are right when the labels are shuffled; this holds for any shares of the
classes, so that always predicting a common class counts as knowing nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from emlc.errors import InputError
from emlc.labels.decision import Labels
from emlc.runtime.files import read_json, write_json
from emlc.runtime.streams import RandomStream, generator

Standing = Literal["better", "level", "worse", "chance"]
"""How a run stands beside its rivals; level: the samples do not tell."""

LEVEL = 0.05
"""Level of the tests."""

_SHUFFLES = 2000
_FACTOR = 2.0
"""How many times more or less a class has to have after correction to be reported."""
_FEWEST = 10
"""Number of samples that the share of a class has to change by to be reported."""
_SPREAD = 2.58
"""Standard errors of a share among the trusted samples that chance exceeds in 1 % of cases."""


@dataclass(frozen=True, kw_only=True)
class MovedClass:
    """A class whose share of the labels moves far by correction, and the trusted samples do not bear it out.

    Attributes:
        name: The class.
        given: Its share of the given labels, in [0, 1].
        corrected: Its share of the corrected labels.
        trusted: Its share of the trusted labels.
    """

    name: str
    given: float
    corrected: float
    trusted: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The figures of ``rivals.json``.

    Attributes:
        measured_on: test | validation: samples that took no part in training; the run's own student.
            trusted: the trusted samples by cross-fitting, of the run as well as of the rivals.
            none: see ``reason``.
        samples: Number of samples that the comparison is measured on.
        accuracy: Accuracy in per cent, of "emlc" and of every rival.
        most_common: Accuracy in per cent of always predicting the most common class.
        standing: How the run stands; None if nothing was measured.
        rival: The rival that the standing is about: of a worse run the one that is most surely better, else
            the one with the highest accuracy.
        reason: Why nothing was measured: several processes trained, which do not train again; or a class has
            a single trusted sample, which cannot be held out.
        single: That class.
        moved: Classes whose share of the labels moves far.
        seconds: Time that the comparison took.
    """

    measured_on: Literal["test", "validation", "trusted", "none"] = "none"
    samples: int = 0
    accuracy: dict[str, float] = field(default_factory=dict)
    most_common: float | None = None
    standing: Standing | None = None
    rival: str | None = None
    reason: Literal["processes", "class"] | None = None
    single: str | None = None
    moved: tuple[MovedClass, ...] = ()
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the comparison as JSON, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a comparison.

        Raises:
            InputError: the file cannot be read, or is no comparison.
        """
        values = read_json(path)
        try:
            moved = tuple(MovedClass(**each) for each in values["moved"])
            return cls(**values | {"moved": moved})
        except (TypeError, KeyError) as error:
            raise InputError(f"{path}: not the comparison of a run with its rivals: {error}") from error


def compare(predicted: Labels, rivals: Mapping[str, Labels], labels: Labels) -> dict[str, Any]:
    """Compare the predictions of a run (n,) and of its rivals with the labels (n,).

    Returns:
        The fields of :class:`Comparison` from ``samples`` to ``rival``.
    """
    right = {name: each == labels for name, each in {"emlc": predicted, **rivals}.items()}
    run = right.pop("emlc")
    accuracy = {"emlc": _percent(run)} | {name: _percent(each) for name, each in right.items()}
    standing = _standing(predicted, labels, run, right)
    if standing == "worse":
        rival = min(right, key=lambda name: superiority(right[name], run))
    else:
        rival = max(right, key=lambda name: accuracy[name])
    return {
        "samples": len(labels),
        "accuracy": accuracy,
        "most_common": round(100 * float(np.bincount(labels).max()) / len(labels), 2),
        "standing": standing,
        "rival": rival,
    }


def _standing(predicted: Labels, labels: Labels, run: Any, rivals: Mapping[str, Any]) -> Standing:
    if chance_of(predicted, labels) > LEVEL:
        return "chance"
    if any(superiority(each, run) <= LEVEL / len(rivals) for each in rivals.values()):
        return "worse"
    if all(superiority(run, each) <= LEVEL for each in rivals.values()):
        return "better"
    return "level"


def superiority(right: Any, others: Any) -> float:
    """Return the p-value of McNemar's exact test that ``right`` (n,) is true more often than ``others``."""
    from scipy.special import bdtrc  # takes half a second to import

    wins, losses = int((right & ~others).sum()), int((others & ~right).sum())
    return float(bdtrc(wins - 1, wins + losses, 0.5))


def chance_of(predicted: Labels, labels: Labels) -> float:
    """Return the p-value of as many right predictions (n,) if the labels (n,) are shuffled."""
    rng = generator(0, RandomStream.RIVAL_SHUFFLES)
    right = (predicted == labels).sum()
    shuffled = [(predicted == rng.permutation(labels)).sum() for _ in range(_SHUFFLES)]
    return float((1 + (np.array(shuffled) >= right).sum()) / (1 + _SHUFFLES))


def _percent(right: Any) -> float:
    return round(100 * float(right.mean()), 2)


def moved_classes(
    given: Labels, corrected: Labels, trusted: Labels, classes: tuple[str, ...]
) -> tuple[MovedClass, ...]:
    """Find classes whose share of the labels at least doubles or halves, by ten samples or more.

    Noise makes rare classes look more common than they are, so that a correction may well move them far. A
    class is left out if its corrected share lies between that of the given and that of the trusted labels,
    give or take what chance explains of the latter. Trusted samples that were drawn class by class, as many
    of each, say nothing of the shares: then a class is reported only if hardly anything is left of it, a
    tenth of its share among both, or if it takes over: more than half of all labels.

    Args:
        given: (n,) given labels.
        corrected: (n,) corrected labels.
        trusted: (m,) labels of the trusted samples.
        classes: Names of the classes.
    """
    C, n, m = len(classes), len(given), len(trusted)
    g, h, t = (np.bincount(each, minlength=C) / len(each) for each in (given, corrected, trusted))
    far = (np.maximum(h, 1 / n) / np.maximum(g, 1 / n) >= _FACTOR) | (h <= g / _FACTOR)
    far &= np.abs(h - g) * n >= _FEWEST
    counts = np.bincount(trusted, minlength=C)
    if counts.max() - counts.min() <= 1:
        odd = (h <= np.minimum(g, t) / 10) | (h > 0.5)
    else:
        p = (counts + 1) / (m + 2)  # a class without trusted samples has a spread, too
        error = _SPREAD * np.sqrt(p * (1 - p) / m)
        odd = (h < np.minimum(g, t - error)) | (h > np.maximum(g, t + error))
    found = np.flatnonzero(far & odd)
    return tuple(
        MovedClass(name=classes[c], given=float(g[c]), corrected=float(h[c]), trusted=float(t[c]))
        for c in found
    )
