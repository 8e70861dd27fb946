"""The decision when a label counts as wrong: a posterior of the true class, and a threshold on it.

The networks' prediction, softened and reweighted to the classes of the noisy samples, and the noise of the
labels give, by Bayes' rule, the probability of each class for a sample with its given label:
``q(y | x, y~) = p(y | x) T(y~ | y) / sum_c p(c | x) T(y~ | c)``. How these are estimated, from
evidence that the networks have not learned from, :mod:`emlc.labels.evidence` says. A label is an issue where
its probability is below the threshold with the best expected F1 score over the noisy samples (Z. Lipton,
C. Elkan, B. Naryanaswamy, Optimal thresholding of classifiers to maximize F1 measure, 2014), or below 1/2,
where that leaves clearly more labels right.
"""

import sys
from abc import ABC, abstractmethod
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from emlc.errors import InputError
from emlc.runtime.files import read_json, write_json

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

CALIBRATED_ON = ("validation", "trusted")
"""Roles of the samples on which a decision may be calibrated."""

LEAST = 1e-12
"""Lower bound on probabilities, so that their logarithms are finite."""


@dataclass(frozen=True, kw_only=True)
class Decision(ABC):
    """A calibrated rule: it maps a prediction and a given label to the probability of every class.

    Attributes:
        threshold: Label quality in [0, 1] below which a label is an issue; 0 where no label is one.
        noise_rate: Estimated share of wrong labels among the noisy samples, in [0, 1]; None if unknown.
        expected_f1: Expected F1 score of the issues among the noisy samples, in [0, 1]; None if unknown.
        calibrated_on: Role of the samples on which the decision is calibrated: "validation" or "trusted".
        trusted_samples: Number of samples on which the decision is calibrated.
        noisy_samples: Number of noisy samples to which it is adapted.
    """

    kind: ClassVar[str]
    threshold: float
    noise_rate: float | None
    expected_f1: float | None
    calibrated_on: str
    trusted_samples: int
    noisy_samples: int

    @abstractmethod
    def soft_labels(self, prediction: Floats, labels: Labels) -> Floats:
        """Compute the corrected soft labels (n, C); their rows sum to 1.

        Args:
            prediction: (n, C) class probabilities, the mean of the student's and the teacher's.
            labels: (n,) given labels.
        """

    def label_quality(self, prediction: Floats, labels: Labels) -> Floats:
        """Compute the probability (n,) that given labels are right; arguments as of :meth:`soft_labels`."""
        return self.soft_labels(prediction, labels)[np.arange(len(labels)), labels]

    def save(self, path: Path) -> None:
        """Write ``decision.json``, atomically."""
        write_json(path, {"kind": self.kind} | asdict(self))

    @staticmethod
    def load(path: Path) -> "Decision":
        """Read ``decision.json``, of this or an earlier version.

        Raises:
            InputError: If it cannot be read, or a value is missing or out of range.
        """
        values = read_json(path)
        kind = values.get("kind", KindsDecision.kind)  # the first files do not tell
        kinds = {cls.kind: cls for cls in (PosteriorDecision, KindsDecision)}
        if not isinstance(kind, str) or kind not in kinds:
            raise InputError(f"{path}: kind: expected one of {', '.join(kinds)}, found {kind!r}")
        cls = kinds[kind]
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]
        if missing:
            raise InputError(f"{path}: not the decision of a run: it has no {', '.join(missing)}")
        _check(values, path)
        return cls(**cls.numbers(values, path) | {name: values[name] for name in _COMMON})

    @classmethod
    @abstractmethod
    def numbers(cls, values: dict[str, Any], path: Path) -> dict[str, Any]:
        """Check the parameters of this kind of decision, and return them."""


_COMMON = tuple(field.name for field in fields(Decision))


@dataclass(frozen=True, kw_only=True)
class PosteriorDecision(Decision):
    """Bayes' rule: see the module.

    Attributes:
        exponent: Power of the prediction, above 0: below 1 it is softened, being too sure of itself.
        class_weights: C factors of the prediction's classes, which bring them to their shares.
        transition: T (C, C), rows: true class, columns: given label; rows sum to 1.
        transition_power: Power of T, in [0, 1]: below 1 a given label tells less than T says, as errors
            come where the prediction is in doubt, too.
    """

    kind: ClassVar[str] = "posterior"
    exponent: float
    class_weights: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    transition_power: float = 1.0

    def soft_labels(self, prediction: Floats, labels: Labels) -> Floats:
        p = weighted(prediction, self.exponent, np.array(self.class_weights))
        return bayes(p, np.array(self.transition) ** self.transition_power, labels)

    @classmethod
    def numbers(cls, values: dict[str, Any], path: Path) -> dict[str, Any]:
        rows = values["transition"]
        if not isinstance(rows, list) or not rows:
            raise InputError(f"{path}: transition: expected C rows, found {rows!r}")
        (exponent,) = _numbers([values["exponent"]], 1, f"{path}: exponent")
        weights = _numbers(values["class_weights"], len(rows), f"{path}: class_weights")
        if exponent <= 0:
            raise InputError(f"{path}: exponent: expected a number above 0, found {exponent}")
        if min(weights) <= 0:
            raise InputError(f"{path}: class_weights: expected numbers above 0, found {weights}")
        transition = tuple(_shares(row, len(rows), f"{path}: transition") for row in rows)
        power = values.get("transition_power", 1.0)  # files of earlier versions have none
        (power,) = _shares([power], 1, f"{path}: transition_power")
        return {
            "exponent": exponent,
            "class_weights": weights,
            "transition": transition,
            "transition_power": power,
        }


@dataclass(frozen=True, kw_only=True)
class KindsDecision(Decision):
    """The rule of earlier versions, as read from their runs: a logistic of the label's log-odds.

    Attributes:
        slopes: Slopes of the logistic, one per kind of label: right, wrong as the networks confuse the
            classes, and wrong at random.
        intercepts: Intercepts of the logistic, one per kind, for equal shares of the kinds.
        shares: Estimated share of each kind among the noisy labels; they sum to 1.
    """

    kind: ClassVar[str] = "kinds"
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    shares: tuple[float, ...]

    def soft_labels(self, prediction: Floats, labels: Labels) -> Floats:
        """The given label gets its quality; the other classes share the rest as they are predicted."""
        logits = log_odds(prediction, labels)[:, None] * np.array(self.slopes) + np.array(self.intercepts)
        kinds = np.array(self.shares) * np.exp(logits - logits.max(axis=1, keepdims=True))
        quality = normalized(kinds)[:, :1]
        is_given = _one_hot(labels, prediction.shape[1])
        others = normalized(np.where(is_given, 0, np.maximum(prediction, LEAST)))
        return np.where(is_given, quality, (1 - quality) * others)

    @classmethod
    def numbers(cls, values: dict[str, Any], path: Path) -> dict[str, Any]:
        numbers = {n: _numbers(values[n], 3, f"{path}: {n}") for n in ("slopes", "intercepts")}
        return numbers | {"shares": _shares(values["shares"], 3, f"{path}: shares")}


def _check(values: dict[str, Any], path: Path) -> None:
    """Check what decisions of all kinds have."""
    may_be_none = ("noise_rate", "expected_f1")
    for name in ("threshold", *may_be_none):
        if values[name] is not None or name not in may_be_none:
            (values[name],) = _shares([values[name]], 1, f"{path}: {name}")
    if values["calibrated_on"] not in CALIBRATED_ON:
        raise InputError(
            f"{path}: calibrated_on: expected one of {', '.join(CALIBRATED_ON)}, "
            f"found {values['calibrated_on']!r}"
        )
    for name in ("trusted_samples", "noisy_samples"):
        if type(values[name]) is not int or values[name] < 0:
            raise InputError(f"{path}: {name}: expected a number of samples, found {values[name]!r}")


def _numbers(values: Any, count: int, where: str) -> tuple[float, ...]:
    numbers = tuple(v for v in values if isinstance(v, int | float)) if isinstance(values, list) else ()
    if len(numbers) != count or not all(abs(n) <= sys.float_info.max for n in numbers):
        raise InputError(f"{where}: expected {count} finite number(s), found {values!r}")
    return tuple(float(number) for number in numbers)


def _shares(values: Any, count: int, where: str) -> tuple[float, ...]:
    numbers = _numbers(values, count, where)
    if not all(0 <= number <= 1 for number in numbers):
        raise InputError(f"{where}: expected values in [0, 1], found {values}")
    return numbers


def weighted(prediction: Floats, exponent: float, class_weights: Floats) -> Floats:
    """Raise class probabilities (n, C) to a power, multiply the classes by weights (C,), and normalise."""
    logits = exponent * np.log(np.maximum(prediction, LEAST)) + np.log(class_weights)
    return normalized(np.exp(logits - logits.max(axis=1, keepdims=True)))


def bayes(p: Floats, T: Floats, labels: Labels) -> Floats:
    """Compute ``q(y | x, y~)`` (n, C) from ``p(y | x)`` (n, C), ``T`` (C, C) and given labels (n,)."""
    return normalized(np.maximum(p, LEAST) * np.maximum(T, LEAST)[:, labels].T)


def corrected_labels(soft_labels: Floats, labels: Labels, is_issue: NDArray[np.bool_]) -> Labels:
    """Return the most probable other class (n,) of issues, and the given label of other samples.

    Args:
        soft_labels: (n, C) class probabilities.
        labels: (n,) given labels.
        is_issue: (n,) which of them are issues; of a single class none is.
    """
    if soft_labels.shape[1] == 1:
        return labels
    others = soft_labels.copy()
    others[np.arange(len(labels)), labels] = -1
    return np.where(is_issue, others.argmax(axis=1), labels)


def log_odds(prediction: Floats, labels: Labels) -> Floats:
    """Compute log-odds (n,) of labels (n,) against the most probable other class.

    Args:
        prediction: (n, C) class probabilities.
        labels: (n,) labels.
    """
    others = np.where(_one_hot(labels, prediction.shape[1]), 0, prediction).max(axis=1)
    p_label = prediction[np.arange(len(labels)), labels]
    odds: Floats = np.log(np.maximum(p_label, LEAST)) - np.log(np.maximum(others, LEAST))
    return odds


def best_f1_threshold(quality: Floats) -> float:
    """Find the threshold on the label quality with the best expected F1 score: 1/2 or more, or 0.

    Flagging the k labels with the lowest quality has an expected F1 score of 2 S_k / (k + S_n), with S_k the
    sum of their probabilities of being wrong. The best threshold on that probability is half the best score
    (Lipton et al. 2014), and so does not depend on the quality of any single sample.

    If no label can be wrong the threshold is 0, and nothing is flagged.

    Args:
        quality: (n,) probabilities of being right.
    """
    wrong = np.sort(1 - quality)[::-1]
    if wrong.sum() == 0:
        return 0.0
    flagged = np.arange(1, len(wrong) + 1)
    score = float((2 * wrong.cumsum() / (flagged + wrong.sum())).max())
    return 1 - score / 2


def expected_f1(quality: Floats, threshold: float) -> float:
    """Compute the expected F1 score, in [0, 1], of labels with a quality (n,) below a threshold."""
    wrong, flagged = 1 - quality, quality < threshold
    return float(2 * wrong[flagged].sum() / max(flagged.sum() + wrong.sum(), LEAST))


def normalized(values: Floats) -> Floats:
    """Normalise rows to a sum of 1; rows of zeros stay."""
    sums: Floats = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300)
    return sums


def _one_hot(labels: Labels, num_classes: int) -> NDArray[np.bool_]:
    return np.asarray(labels[:, None] == np.arange(num_classes))
