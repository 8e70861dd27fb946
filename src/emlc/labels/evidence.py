"""The evidence for a decision, from samples and features that the networks do not know by heart.

Both networks know the trusted samples by heart: the teacher learns from them, and the student through the
meta-gradient. How well they predict these says nothing of the noisy samples. So there is a probe: logistic
regressions, cross-fitted on the trusted samples, on features that no label has shaped, or on what these tell
of the given labels of other noisy samples. It knows less than the networks, and is right as often as it
claims.

1. Its predictions for the noisy samples and the given labels tell the shares of the classes and the noise
   ``T``, by expectation maximisation of the likelihood of the given labels [1, 2]. Samples that a review took
   away count with what is known of them: without the worst labels, wrong ones would look right.
2. The posterior of :class:`~emlc.labels.decision.PosteriorDecision` is Bayes' rule with the networks'
   prediction and the mean of two T: the probe's, and that of a noise-aware teacher, which has learned from
   every given label but knows them by heart. Of other networks the prediction is raised to the power, and
   reweighted, with which the given labels are most likely under the probe's T, and the classes have the
   probe's shares.
3. The probe's own posterior judges the issues, too. It gives too low an F1 score, knowing less; that of the
   networks gives too high a one, since they have learned from these labels. Half-way between is the
   expected F1 score. Where they are far apart, it is unknown.
4. T takes the given label for independent of the sample, once its class is known. Errors of people are not:
   they come where the sample looks like another class, which the prediction tells as well, and would count
   twice. Of trusted samples that were drawn from the noisy ones, the label that they had been given is
   known. They tell the power in [0, 1] of T with which their right labels are most likely [4].
5. Labels are issues only if, as the probe judges, more labels are right after correction than before. It
   knows less than the networks, and so understates the gain; still, the gain has to be beyond chance by the
   folds of the probe [3], and more than two thirds of the standard error of its accuracy, which is what the
   number of trusted samples allows to check. And the folds have to agree on the F1 score of the issues.
   The best F1 score may want labels to be issues that are rather right than wrong. If only those that are
   rather wrong are a clearly larger gain, or the only one that shows, they are the issues.

[1] A. Dawid, A. Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm, 1979.
[2] M. Saerens, P. Latinne, C. Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14, 2002.
[3] The delete-a-group jackknife: B. Efron, The jackknife, the bootstrap and other resampling plans, 1982.
[4] A logarithmic opinion pool of prediction and T: T. Heskes, Selecting weighting factors in logarithmic
    opinion pools, NeurIPS 1997.
"""

from typing import Any, NamedTuple

import numpy as np

from emlc.labels.decision import (
    LEAST,
    Floats,
    Labels,
    PosteriorDecision,
    bayes,
    best_f1_threshold,
    corrected_labels,
    expected_f1,
    normalized,
    weighted,
)
from emlc.labels.probe import Probe, best_probe, of_labels

_RATHER_WRONG = 0.5
"""Label quality below which a label is more likely wrong than right."""
_CLEARLY_MORE = 0.01
"""Share of the labels by which a gain is clearly larger than another."""
_EXPONENTS = 2.0 ** np.arange(-5, 2, 0.5)
_POWERS = np.linspace(0, 1, 21)
_POWER_SPREAD = 0.5
"""Standard deviation, around 1, of the power of T before any checked sample is seen."""
_UNCHECKED = 2 / 3
"""Standard errors of the probe's accuracy that a gain must exceed, which it understates."""
_ONE_SIDED = 1.645
"""Standard errors above the mean that chance exceeds with a probability of 5 %."""
_WIDEST = 0.3
"""Distance between two estimates of the F1 score above which it is unknown."""
_LARGEST_ERROR = 0.1
"""Standard error of the F1 score above which it is unknown."""


class Noise(NamedTuple):
    """Shares (C,) of the true classes among noisy samples, and T (C, C), P(given label | true class)."""

    class_shares: Floats
    transition: Floats


class CheckedLabels(NamedTuple):
    """Samples drawn at random from the noisy ones, whose labels were checked.

    Attributes:
        prediction: (m, C) class probabilities by a network that has not learned from their labels.
        given: (m,) the labels that they had been given.
        labels: (m,) their right labels.
    """

    prediction: Floats
    given: Labels
    labels: Labels


def decide(
    prediction: Floats,
    labels: Labels,
    trusted: Floats,
    trusted_labels: Labels,
    noisy: Floats,
    *,
    calibrated_on: str = "trusted",
    transition: Floats | None = None,
    reviewed: Floats | None = None,
    checked: CheckedLabels | None = None,
) -> PosteriorDecision:
    """Calibrate the decision.

    Args:
        prediction: (n, C) the networks' mean prediction for noisy samples.
        labels: (n,) their given labels.
        trusted: (m, d) features of trusted samples, which their labels must not have shaped.
        trusted_labels: (m,) labels of the trusted samples.
        noisy: (n, d) the same features of the noisy samples.
        calibrated_on: Role of the trusted samples, "validation" or "trusted".
        transition: T (C, C) that the networks have learned, if they have.
        reviewed: (C, C) number of samples taken from the noisy ones by a review, by true class and given
            label; the noise is that of all. None: there are none.
        checked: Trusted samples whose given label is known, too; None: there are none.
    """
    C = prediction.shape[1]
    origin = {"calibrated_on": calibrated_on, "trusted_samples": len(trusted), "noisy_samples": len(labels)}
    probe = best_probe(trusted, trusted_labels, noisy, labels, C)
    T, exponent, weights = _half_right(C) if transition is None else transition, 1.0, np.ones(C)
    if probe is None or not probe.knows_something():
        return _decision(T, exponent, weights, **origin)
    counts = np.zeros((C, C)) if reviewed is None else reviewed
    noise = estimate_noise(probe.noisy.mean(axis=0), labels, probe.class_shares, counts=counts)
    if transition is None:
        T, (exponent, weights) = noise.transition, adapt(prediction, labels, noise)
    else:
        T = (transition + noise.transition) / 2
    power = 1.0 if checked is None else power_of_noise(T, checked)
    q = bayes(weighted(prediction, exponent, weights), T**power, labels)
    quality = of_labels(q, labels)

    def judged_at(threshold: float) -> Judgement:
        corrected = corrected_labels(q, labels, quality < threshold)
        return judge(probe, noise, labels, corrected, counts, power=power)

    def shows_gain(judged: Judgement) -> bool:
        least_gain = max(_ONE_SIDED * judged.gain_error, _UNCHECKED * probe.accuracy_error)
        return judged.gain > least_gain and judged.f1_error <= _LARGEST_ERROR

    threshold = best_f1_threshold(quality)
    judged, careful = judged_at(threshold), judged_at(_RATHER_WRONG)
    if careful.gain > judged.gain + _CLEARLY_MORE or (shows_gain(careful) and not shows_gain(judged)):
        threshold, judged = _RATHER_WRONG, careful
    if not shows_gain(judged):
        return _decision(T, exponent, weights, **origin)
    claimed = expected_f1(quality, threshold)
    f1 = (judged.f1 + max(claimed, judged.f1)) / 2 if claimed - judged.f1 <= _WIDEST else None
    figures = {"threshold": threshold, "noise_rate": judged.noise_rate, "expected_f1": f1}
    figures |= {"transition_power": power}
    return _decision(T, exponent, weights, **figures, **origin)


def _decision(T: Floats, exponent: float, class_weights: Floats, **others: Any) -> PosteriorDecision:
    """Build a decision, by default one by which no label is an issue, and which claims nothing."""
    unknown = {"threshold": 0.0, "noise_rate": None, "expected_f1": None}
    return PosteriorDecision(
        exponent=exponent,
        class_weights=tuple(class_weights.tolist()),
        transition=tuple(tuple(row) for row in T.tolist()),
        **(unknown | others),
    )


def estimate_noise(
    prediction: Floats,
    labels: Labels,
    class_shares: Floats,
    start: Noise | None = None,
    counts: Floats | float = 0.0,
) -> Noise:
    """Estimate the shares of the classes and T that make given labels (n,) most likely.

    Each row of T counts one sample more, whose label is right half of the time: some classes are rare.

    Args:
        prediction: (n, C) class probabilities, for classes with the shares ``class_shares`` (C,).
        labels: (n,) given labels.
        class_shares: Shares of the classes for which the prediction holds.
        start: Where the iteration starts.
        counts: (C, C) number of samples beside these whose true class (rows) and given label are known.
    """
    C = prediction.shape[1]
    likelihood, given = prediction / class_shares, np.eye(C)[labels]
    known = counts + np.zeros((C, C))
    total = len(labels) + known.sum()
    pi, T = start or Noise(class_shares, _half_right(C))
    for _ in range(300):
        joint = bayes(likelihood * pi, T, labels)
        before, pi = (pi, T), (joint.sum(axis=0) + known.sum(axis=1)) / total
        T = normalized(joint.T @ given + known + _half_right(C))
        if max(np.abs(pi - before[0]).max(), np.abs(T - before[1]).max()) < 1e-4:
            break
    return Noise(pi, T)


def _half_right(num_classes: int) -> Floats:
    """Return the T (C, C) by which half of the labels are right, and the others redrawn from all classes."""
    T: Floats = (np.eye(num_classes) + 1 / num_classes) / 2
    return T


def adapt(prediction: Floats, labels: Labels, noise: Noise) -> tuple[float, Floats]:
    """Find the power and the class weights (C,) of a prediction (n, C): see :func:`decision.weighted`.

    For each power the weights bring the classes to their shares; the power is the one that makes given
    labels (n,) most likely under T.
    """

    def likelihood(exponent: float) -> tuple[float, float, Floats]:
        weights = _weights(prediction, exponent, noise.class_shares)
        p_given = weighted(prediction, exponent, weights) @ noise.transition
        return float(np.log(np.maximum(of_labels(p_given, labels), LEAST)).mean()), exponent, weights

    _, exponent, weights = max((likelihood(float(each)) for each in _EXPONENTS), key=lambda found: found[0])
    return exponent, weights


def _weights(prediction: Floats, exponent: float, class_shares: Floats) -> Floats:
    """Find the class weights (C,) with which the mean prediction is ``class_shares``."""
    weights = np.ones(len(class_shares))
    for _ in range(30):
        predicted = weighted(prediction, exponent, weights).mean(axis=0)
        weights = np.maximum(weights * class_shares / np.maximum(predicted, LEAST), LEAST)
        weights /= weights.max()
    return np.maximum(weights, LEAST)


def power_of_noise(T: Floats, checked: CheckedLabels) -> float:
    """Find the power in [0, 1] of T (C, C) that makes the right labels of checked samples most likely.

    The prediction takes the exponent that suits it best with each. Before any sample is seen the power is
    normally distributed around 1, so that few samples move it only where they say it clearly.
    """

    def log_likelihood(power: float, exponent: float) -> float:
        p = weighted(checked.prediction, exponent, np.ones(len(T)))
        q = bayes(p, T**power, checked.given)
        return float(np.log(np.maximum(of_labels(q, checked.labels), LEAST)).sum())

    def log_posterior(power: float) -> float:
        prior = -0.5 * ((power - 1) / _POWER_SPREAD) ** 2
        return prior + max(log_likelihood(power, float(exponent)) for exponent in _EXPONENTS)

    return max(map(float, _POWERS), key=log_posterior)


class Judgement(NamedTuple):
    """A probe's view of corrected labels.

    Attributes:
        noise_rate: Share of given labels that are wrong.
        f1: F1 score of the issues.
        f1_error: Standard error of the F1 score.
        gain: How many more of the labels are right after correction, as a share of them.
        gain_error: Standard error of the gain.
    """

    noise_rate: float
    f1: float
    f1_error: float
    gain: float
    gain_error: float


def judge(
    probe: Probe,
    noise: Noise,
    labels: Labels,
    corrected: Labels,
    counts: Floats | float = 0.0,
    *,
    power: float = 1.0,
) -> Judgement:
    """Assess corrected labels (n,) of given labels (n,) by a probe and its estimate of the noise.

    ``counts`` are those of :func:`estimate_noise`, and ``power`` that of T.
    """

    def figures(prediction: Floats, noise: Noise) -> tuple[float, float, float]:
        p = normalized(prediction / probe.class_shares * noise.class_shares)
        q = bayes(p, noise.transition**power, labels)
        wrong, issue = 1 - of_labels(q, labels), corrected != labels
        f1 = 2 * wrong[issue].sum() / max(issue.sum() + wrong.sum(), LEAST)
        return float(wrong.mean()), float(f1), float((of_labels(q, corrected) - of_labels(q, labels)).mean())

    shares = probe.class_shares
    parts = [figures(f, estimate_noise(f, labels, shares, noise, counts)) for f in probe.noisy]
    noise_rate, f1, gain = figures(probe.noisy.mean(axis=0), noise)
    k = len(parts)
    _, f1_error, gain_error = np.std(parts, axis=0) * np.sqrt(k - 1)
    return Judgement(noise_rate, f1, float(f1_error), gain, float(gain_error))
