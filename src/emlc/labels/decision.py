"""The decision when a label counts as wrong: a rule calibrated on the trusted samples, not set by hand.

The evidence for a label is its log-odds against the most probable other class, under the mean of the
student's and the teacher's prediction. The trusted samples calibrate it. Each of them is scored with its
right label, with wrong labels as the networks confuse the classes (in proportion to their prediction: a soft
version of the adversarial corruption that the gate learns from), and with random wrong labels. A multinomial
logistic regression on the evidence separates these three kinds of labels [1]; the shares of the kinds among
the noisy labels are estimated by expectation maximisation [2]. The result is the probability that a label is
right. A label is an issue where this probability is below the threshold with the best expected F1 score over
the noisy samples [3]. A kind of wrong labels that the evidence does not separate from right ones better than
chance [4] is left out; if both kinds are left out, no label is an issue.

[1] J. Platt, Probabilistic outputs for support vector machines, 1999.
[2] M. Saerens, P. Latinne, C. Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14, 2002.
[3] Z. Lipton, C. Elkan, B. Naryanaswamy, Optimal thresholding of classifiers to maximize F1 measure, 2014.
[4] J. Hanley, B. McNeil, The meaning and use of the area under a receiver operating characteristic (ROC)
    curve, Radiology 143, 1982.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emlc.errors import InputError
from emlc.runtime.files import read_json, write_json

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

KINDS = ("right", "confused", "random")
"""Kinds of labels: right; wrong, as the networks confuse the classes; wrong at random."""

CALIBRATED_ON = ("validation", "trusted")
"""Roles of the samples on which a decision may be calibrated."""

_LEAST = 1e-12
"""Lower bound on probabilities, so that log-odds are finite."""
_ONE_SIDED = 1.645
"""Standard errors above the mean that chance exceeds with a probability of 5 %."""
_STEP = 0.02
"""Resolution in log-odds of the logistic fit; rounding to it makes the fit's time independent of n."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A calibrated rule: it maps a label's log-odds to the probability that it is right, and to a decision.

    Attributes:
        threshold: Label quality in [0, 1] below which a label is an issue.
        noise_rate: Estimated share of wrong labels among the noisy samples, in [0, 1].
        expected_f1: Expected F1 score of the issues among the noisy samples, in [0, 1].
        slopes: Slopes of the logistic, one per kind in :data:`KINDS`.
        intercepts: Intercepts of the logistic, one per kind, for equal shares of the kinds.
        shares: Estimated share of each kind among the noisy labels; they sum to 1.
        calibrated_on: Role of the samples on which the decision is calibrated: "validation" or "trusted".
        trusted_samples: Number of samples on which the decision is calibrated.
        noisy_samples: Number of noisy samples from which the shares are estimated.
    """

    threshold: float
    noise_rate: float
    expected_f1: float
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    shares: tuple[float, ...]
    calibrated_on: str
    trusted_samples: int
    noisy_samples: int

    def label_quality(self, odds: Floats) -> Floats:
        """Compute the probability (n,) that labels are right, in [0, 1], from their log-odds (n,)."""
        return _kind_probabilities(odds, self.slopes, self.intercepts, np.array(self.shares))[:, 0]

    def soft_labels(self, prediction: Floats, labels: Labels) -> Floats:
        """Compute the corrected soft labels (n, C); their rows sum to 1.

        The given label gets its quality as probability; the other classes share the rest in proportion to
        the prediction.

        Args:
            prediction: (n, C) class probabilities, the mean of the student's and the teacher's.
            labels: (n,) given labels.
        """
        quality = self.label_quality(log_odds(prediction, labels))[:, None]
        is_given = _one_hot(labels, prediction.shape[1])
        others = np.where(is_given, 0, np.maximum(prediction, _LEAST))
        shares = others / np.maximum(others.sum(axis=1, keepdims=True), _LEAST)  # with one class the sum is 0
        return np.where(is_given, quality, (1 - quality) * shares)

    def save(self, path: Path) -> None:
        """Write ``decision.json``, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``decision.json``.

        Raises:
            InputError: If it cannot be read, or a value is missing or out of range.
        """
        values = read_json(path)
        missing = [field.name for field in fields(cls) if field.name not in values]
        if missing:
            raise InputError(f"{path}: not the decision of a run: it has no {', '.join(missing)}")
        for name in ("slopes", "intercepts", "shares"):
            values[name] = _numbers(values[name], len(KINDS), f"{path}: {name}")
        for name in ("threshold", "noise_rate", "expected_f1"):
            (values[name],) = _numbers([values[name]], 1, f"{path}: {name}")
        for name in ("threshold", "noise_rate", "expected_f1", "shares"):
            if not all(0 <= value <= 1 for value in np.atleast_1d(values[name])):
                raise InputError(f"{path}: {name}: expected values in [0, 1], found {values[name]}")
        if values["calibrated_on"] not in CALIBRATED_ON:
            raise InputError(
                f"{path}: calibrated_on: expected one of {', '.join(CALIBRATED_ON)}, "
                f"found {values['calibrated_on']!r}"
            )
        for name in ("trusted_samples", "noisy_samples"):
            if type(values[name]) is not int or values[name] < 0:
                raise InputError(f"{path}: {name}: expected a number of samples, found {values[name]!r}")
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def _numbers(values: Any, count: int, where: str) -> tuple[float, ...]:
    numbers = tuple(v for v in values if isinstance(v, int | float)) if isinstance(values, list) else ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(f"{where}: expected {count} finite number(s), found {values!r}")
    return tuple(float(number) for number in numbers)


def decide(
    trusted: Floats, trusted_labels: Labels, noisy_odds: Floats, *, calibrated_on: str = "trusted"
) -> Decision:
    """Calibrate the decision.

    Args:
        trusted: (m, C) the networks' mean prediction for trusted samples, preferably not trained on.
        trusted_labels: (m,) labels of the trusted samples.
        noisy_odds: (n,) :func:`log_odds` of noisy labels.
        calibrated_on: Role of the trusted samples, one of :data:`CALIBRATED_ON`.
    """
    odds, weights = corrupted_odds(trusted, trusted_labels)
    slopes, intercepts = fit_kinds(odds, weights)
    distinct = [True, *(tells_apart(odds, weights[:, 0], weights[:, k]) for k in range(1, len(KINDS)))]
    equal_shares = _normalized(np.array([distinct]))[0]
    shares = estimate_shares(_kind_probabilities(noisy_odds, slopes, intercepts, equal_shares))
    quality = _kind_probabilities(noisy_odds, slopes, intercepts, shares)[:, 0]
    threshold, expected_f1 = best_f1_threshold(quality)
    return Decision(
        threshold=threshold,
        noise_rate=float(1 - shares[0]),
        expected_f1=expected_f1,
        slopes=slopes,
        intercepts=intercepts,
        shares=tuple(shares.tolist()),
        calibrated_on=calibrated_on,
        trusted_samples=len(trusted),
        noisy_samples=len(noisy_odds),
    )


def log_odds(prediction: Floats, labels: Labels) -> Floats:
    """Compute log-odds (n,) of labels (n,) against the most probable other class.

    Args:
        prediction: (n, C) class probabilities.
        labels: (n,) labels.
    """
    others = np.where(_one_hot(labels, prediction.shape[1]), 0, prediction).max(axis=1)
    p_label = prediction[np.arange(len(labels)), labels]
    odds: Floats = np.log(np.maximum(p_label, _LEAST)) - np.log(np.maximum(others, _LEAST))
    return odds


def corrupted_odds(prediction: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Compute the distribution of the evidence for each kind of label.

    Args:
        prediction: (m, C) class probabilities of trusted samples.
        labels: (m,) right labels of these samples.

    Returns:
        Log-odds (m * C,) of every sample with every label, and their weights (m * C, 3) in each of
        :data:`KINDS`. The weights of one sample in one kind sum to 1.
    """
    m, C = prediction.shape
    # The best other class is the most probable class, and for that class itself the second most probable.
    largest = prediction.argmax(axis=1)[:, None]
    second = np.partition(prediction, -2, axis=1)[:, [-2]] if C > 1 else np.zeros((m, 1))
    others = np.repeat(np.take_along_axis(prediction, largest, axis=1), C, axis=1)
    np.put_along_axis(others, largest, second, axis=1)
    odds = np.log(np.maximum(prediction, _LEAST)) - np.log(np.maximum(others, _LEAST))
    right = _one_hot(labels, C).astype(np.float64)
    confused = (1 - right) * np.maximum(prediction, _LEAST)
    weights = np.stack([right, _normalized(confused), _normalized(1 - right)], axis=2)
    return odds.reshape(-1), weights.reshape(-1, len(KINDS))


def fit_kinds(odds: Floats, weights: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fit the slopes (K,) and intercepts (K,) of a logistic regression of the kind of label on its log-odds.

    Targets are not 1 and 0 but (m + 1) / (m + K) and 1 / (m + K) for m samples and K kinds, so that the fit
    stays finite where the kinds are far apart (Platt). The slope of a wrong kind is at most that of the right
    labels, so that more evidence never makes a label less probable.

    Args:
        odds: (n,) log-odds.
        weights: (n, K) weight of each label in each kind.
    """
    K = weights.shape[1]
    values, bins = np.unique(np.round(odds / _STEP), return_inverse=True)
    if len(values) < 2:
        return (0.0,) * K, (0.0,) * K
    masses = np.stack([np.bincount(bins, weights[:, k], len(values)) for k in range(K)], axis=1)
    m = np.maximum(masses.sum(axis=0), 1)
    soft = (masses / m) @ ((np.eye(K) * m + 1) / (m + K)[:, None])  # Platt's targets
    scale = float(values.std()) * _STEP
    from sklearn.linear_model import LogisticRegression  # takes more than a second to import

    fitted = LogisticRegression(C=np.inf, tol=1e-6, max_iter=1000).fit(
        np.tile(values * _STEP / scale, K)[:, None],
        np.repeat(np.arange(K), len(values)),
        soft.T.reshape(-1) * 100,
    )
    slopes = fitted.coef_[:, 0] / scale
    return tuple(np.minimum(slopes, slopes[0]).tolist()), tuple(fitted.intercept_.tolist())


def tells_apart(odds: Floats, right: Floats, wrong: Floats) -> bool:
    """Test whether right labels have more evidence than wrong labels (one-sided, at the 5 % level).

    The test compares the area under the ROC curve with 0.5, by its standard error (Hanley and McNeil, 1982).

    Args:
        odds: (n,) log-odds.
        right: (n,) weight of each as a right label.
        wrong: (n,) weight of each as a wrong label.
    """
    values, bins = np.unique(odds, return_inverse=True)
    a, b = (np.bincount(bins, weights, len(values)) for weights in (right, wrong))
    m = a.sum()
    if m == 0 or b.sum() == 0:
        return False
    below = b.cumsum() - b
    area = float(a @ (below + b / 2)) / (m * b.sum())
    variance = area * (1 - area)
    variance += (m - 1) * (area / (2 - area) + 2 * area**2 / (1 + area) - 2 * area**2)
    return bool(area - 0.5 > _ONE_SIDED * np.sqrt(max(variance, 0.0) / m**2))


def estimate_shares(probabilities: Floats) -> Floats:
    """Estimate the share (K,) of each kind, by expectation maximisation (Saerens et al. 2002).

    Args:
        probabilities: (n, K) of the kinds, for equal shares; 0 for kinds that are left out.
    """
    shares: Floats = _normalized((probabilities.sum(axis=0) > 0)[None].astype(np.float64))[0]
    for _ in range(1000):
        before, shares = shares, _normalized(probabilities * shares).mean(axis=0)
        if np.abs(shares - before).max() < 1e-6:
            break
    return shares


def best_f1_threshold(quality: Floats) -> tuple[float, float]:
    """Find the threshold on the label quality with the best expected F1 score; return it and the score.

    Flagging the k labels with the lowest quality has an expected F1 score of 2 S_k / (k + S_n), with S_k the
    sum of their probabilities of being wrong. The best threshold on that probability is half the best score
    (Lipton et al. 2014), and so does not depend on the quality of any single sample.

    If no label can be wrong the threshold is 0, and nothing is flagged.

    Args:
        quality: (n,) probabilities of being right.
    """
    wrong = np.sort(1 - quality)[::-1]
    if wrong.sum() == 0:
        return 0.0, 0.0
    flagged = np.arange(1, len(wrong) + 1)
    score = float((2 * wrong.cumsum() / (flagged + wrong.sum())).max())
    return 1 - score / 2, score


def _kind_probabilities(
    odds: Floats, slopes: tuple[float, ...], intercepts: tuple[float, ...], shares: Floats
) -> Floats:
    """Compute the probability (n, K) of each kind from log-odds (n,) and the shares (K,) of the kinds."""
    logits = odds[:, None] * np.array(slopes) + np.array(intercepts)
    return _normalized(shares * np.exp(logits - logits.max(axis=1, keepdims=True)))


def _one_hot(labels: Labels, num_classes: int) -> NDArray[np.bool_]:
    return np.asarray(labels[:, None] == np.arange(num_classes))


def _normalized(values: Floats) -> Floats:
    """Normalise rows to a sum of 1; rows of zeros stay."""
    normalized: Floats = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300)
    return normalized
