"""When a label counts as wrong: a rule that is calibrated on the trusted samples, not set by hand.

The evidence about a label is its log-odds against the best other class, in the mean of the student's and
the teacher's prediction. Trusted samples show what it is worth. Each is judged with its right label, with
wrong labels as the networks confuse the classes (in proportion to their prediction: the adversarial
corruption that the gate learns from, softened), and with wrong labels at random. A logistic tells the
three kinds apart by their evidence [1], and the shares of the kinds among the noisy labels follow by
expectation maximisation [2]. That gives the probability that a label is right. A label is an issue where
this is below the threshold that promises the best F1 score over the noisy samples [3]. A kind of wrong labels
that the evidence does not tell from right ones beyond chance [4] is left out; if that is both kinds, no
label is an issue.

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
"""Kinds of labels: right ones, and wrong ones as the networks confuse the classes, and at random."""

CALIBRATED_ON = ("validation", "trusted")
"""Roles of the samples that a decision may be calibrated on."""

_LEAST = 1e-12
"""Probabilities below count as this, so that log-odds are finite."""
_ONE_SIDED = 1.645
"""Standard errors that chance exceeds once in twenty times."""
_STEP = 0.02
"""Log-odds are rounded to multiples of this for the fit, which is then as quick for any number of them."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Turns log-odds of labels into the probability that they are right, and that into a decision.

    Attributes:
        threshold: A label whose quality is below is an issue.
        noise_rate: Estimated share of wrong labels among the noisy samples, in [0, 1].
        expected_f1: F1 score of the issues that the threshold promises there, in [0, 1].
        slopes: Of the logistic, for each of :data:`KINDS`.
        intercepts: Likewise, for as many labels of each kind.
        shares: Estimated share of each kind among the noisy labels; they sum to 1.
        calibrated_on: "validation" or "trusted": the samples it is calibrated on.
        trusted_samples: How many these are.
        noisy_samples: How many noisy samples the shares are estimated from.
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
        """Probability (n,) that labels are right, in [0, 1], from their log-odds (n,)."""
        return _kinds(odds, self.slopes, self.intercepts, np.array(self.shares))[:, 0]

    def soft_labels(self, prediction: Floats, labels: Labels) -> Floats:
        """The corrected soft labels (n, C), whose rows sum to 1.

        The given label has its quality, and the other classes share the rest as the prediction has it.

        Args:
            prediction: (n, C) class probabilities, the mean of the student's and the teacher's.
            labels: (n,) given labels.
        """
        quality = self.label_quality(log_odds(prediction, labels))[:, None]
        given = _one_hot(labels, prediction.shape[1])
        others = np.where(given, 0, np.maximum(prediction, _LEAST))
        shares = others / np.maximum(others.sum(axis=1, keepdims=True), _LEAST)  # one class has no others
        return np.where(given, quality, (1 - quality) * shares)

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
        trusted: (m, C) the networks' mean prediction for trusted samples, at best not trained on.
        trusted_labels: (m,) their labels.
        noisy_odds: (n,) :func:`log_odds` of noisy labels.
        calibrated_on: What the trusted samples are called.
    """
    odds, weights = corrupted_odds(trusted, trusted_labels)
    slopes, intercepts = fit_kinds(odds, weights)
    distinct = [True, *(tells_apart(odds, weights[:, 0], weights[:, k]) for k in range(1, len(KINDS)))]
    shares = estimate_shares(_kinds(noisy_odds, slopes, intercepts, _normalized(np.array([distinct]))[0]))
    quality = _kinds(noisy_odds, slopes, intercepts, shares)[:, 0]
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
    """Log-odds (n,) of labels (n,) against the best other class, under class probabilities (n, C)."""
    others = np.where(_one_hot(labels, prediction.shape[1]), 0, prediction).max(axis=1)
    given = prediction[np.arange(len(labels)), labels]
    odds: Floats = np.log(np.maximum(given, _LEAST)) - np.log(np.maximum(others, _LEAST))
    return odds


def corrupted_odds(prediction: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """What the evidence looks like for each kind of label.

    Args:
        prediction: (m, C) class probabilities of trusted samples.
        labels: (m,) their right labels.

    Returns:
        Log-odds (m * C,) of every sample with every label, and weights (m * C, 3): how much each counts
        for each of :data:`KINDS`. Those of a sample and a kind sum to 1.
    """
    m, C = prediction.shape
    # The best other class is the most probable one, but for that one itself, whose best other is the second.
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
    """Slopes and intercepts of a logistic that tells the kinds of labels apart by their log-odds.

    Targets are not 1 and 0 but (m + 1) / (m + K) and 1 / (m + K) for m samples and K kinds, so that it
    stays finite where the kinds are far apart (Platt). No wrong kind's slope exceeds that of the right
    labels: more evidence never makes a label less probable.

    Args:
        odds: (n,) log-odds.
        weights: (n, K) how much each counts for each kind.
    """
    K = weights.shape[1]
    values, places = np.unique(np.round(odds / _STEP), return_inverse=True)
    if len(values) < 2:
        return (0.0,) * K, (0.0,) * K
    masses = np.stack([np.bincount(places, weights[:, k], len(values)) for k in range(K)], axis=1)
    m = np.maximum(masses.sum(axis=0), 1)
    soft = (masses / m) @ ((np.eye(K) * m + 1) / (m + K)[:, None])  # a sample's label leaks to other kinds
    spread = float(values.std()) * _STEP
    from sklearn.linear_model import LogisticRegression  # takes more than a second to import

    fitted = LogisticRegression(C=np.inf, tol=1e-6, max_iter=1000).fit(
        np.tile(values * _STEP / spread, K)[:, None],
        np.repeat(np.arange(K), len(values)),
        soft.T.reshape(-1) * 100,
    )
    slopes = fitted.coef_[:, 0] / spread
    return tuple(np.minimum(slopes, slopes[0]).tolist()), tuple(fitted.intercept_.tolist())


def tells_apart(odds: Floats, right: Floats, wrong: Floats) -> bool:
    """Whether right labels have more evidence than wrong ones, beyond chance (one-sided, 5 %).

    By the area under the ROC curve and its standard error (Hanley and McNeil, 1982).

    Args:
        odds: (n,) log-odds.
        right: (n,) how much each counts as a right label, and
        wrong: (n,) as a wrong one.
    """
    values, places = np.unique(odds, return_inverse=True)
    a, b = (np.bincount(places, weights, len(values)) for weights in (right, wrong))
    m = a.sum()
    if m == 0 or b.sum() == 0:
        return False
    below = b.cumsum() - b
    area = float(a @ (below + b / 2)) / (m * b.sum())
    spread = area * (1 - area)
    spread += (m - 1) * (area / (2 - area) + 2 * area**2 / (1 + area) - 2 * area**2)
    return bool(area - 0.5 > _ONE_SIDED * np.sqrt(max(spread, 0.0) / m**2))


def estimate_shares(probabilities: Floats) -> Floats:
    """Share of each kind, by expectation maximisation (Saerens et al. 2002).

    Args:
        probabilities: (n, K) of each kind, were there as many of each; 0 for kinds that are left out.
    """
    shares: Floats = _normalized((probabilities.sum(axis=0) > 0)[None].astype(np.float64))[0]
    for _ in range(1000):
        before, shares = shares, _normalized(probabilities * shares).mean(axis=0)
        if np.abs(shares - before).max() < 1e-6:
            break
    return shares


def best_f1_threshold(quality: Floats) -> tuple[float, float]:
    """The threshold below which labels are issues, so that their expected F1 score is best, and the score.

    Flagging the k labels of lowest quality is expected to score 2 S_k / (k + S_n), with S_k the sum of
    their probabilities to be wrong. The best threshold on that probability is half the best score
    (Lipton et al. 2014), so that it needs no particular sample's quality.

    Where no label can be wrong nothing is flagged: the threshold is 0.

    Args:
        quality: (n,) probabilities to be right.
    """
    wrong = np.sort(1 - quality)[::-1]
    if wrong.sum() == 0:
        return 0.0, 0.0
    flagged = np.arange(1, len(wrong) + 1)
    score = float((2 * wrong.cumsum() / (flagged + wrong.sum())).max())
    return 1 - score / 2, score


def _kinds(odds: Floats, slopes: tuple[float, ...], intercepts: tuple[float, ...], shares: Floats) -> Floats:
    """Probability (n, K) of each kind."""
    logits = odds[:, None] * np.array(slopes) + np.array(intercepts)
    return _normalized(shares * np.exp(logits - logits.max(axis=1, keepdims=True)))


def _one_hot(labels: Labels, num_classes: int) -> NDArray[np.bool_]:
    return np.asarray(labels[:, None] == np.arange(num_classes))


def _normalized(values: Floats) -> Floats:
    """Rows that sum to 1, but for rows of zeros."""
    normalized: Floats = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300)
    return normalized
