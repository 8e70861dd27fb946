"""A linear probe: what features that no label has shaped tell of the classes, by cross-fitting."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emlc.labels.decision import LEAST, Floats, Labels
from emlc.runtime.streams import RandomStream, derived_seed, generator

_FOLDS = 5
_INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
_RIDGE = 0.1
"""Penalty of the ridge regression, as a share of its samples."""
_MOST_TRUSTED = 2000
"""Number of trusted samples that the probe learns from, at most, or two of every class."""
_ONE_IN_THOUSAND = 3.09
"""Standard errors above the mean that chance exceeds with a probability of 0.1 %."""


class Probe(NamedTuple):
    """What cross-fitted heads predict; each of the k has not seen one of k parts of the m trusted samples.

    The only sample of a class is seen by every head, and is not among the m.

    Attributes:
        held_out: (m, C) of each trusted sample by the head that has not seen it.
        noisy: (k, n, C) of the noisy samples by every head.
        labels: (m,) labels of the trusted samples.
        class_shares: (C,) shares of the classes among all trusted samples.
    """

    held_out: Floats
    noisy: Floats
    labels: Labels
    class_shares: Floats

    @property
    def accuracy_error(self) -> float:
        """Standard error of the accuracy on held-out samples, for a probe that is as good as it claims."""
        p = self.held_out.max(axis=1)
        return float(np.sqrt((p * (1 - p)).mean() / len(p)))

    def log_likelihood(self) -> float:
        """Return the mean log-likelihood of held-out labels."""
        return float(np.log(np.maximum(of_labels(self.held_out, self.labels), LEAST)).mean())

    def knows_something(self) -> bool:
        """Test whether held-out labels are more likely than by their shares, beyond chance.

        The level is 0.1 %, as the best of a dozen probes is tested.
        """
        p = of_labels(self.held_out, self.labels)
        gain = np.log(np.maximum(p, LEAST)) - np.log(self.class_shares[self.labels])
        return bool(gain.mean() > _ONE_IN_THOUSAND * gain.std() / np.sqrt(len(gain)))


def best_probe(
    trusted: Floats, trusted_labels: Labels, noisy: Floats, labels: Labels, num_classes: int
) -> Probe | None:
    """Fit heads on the features, and on what the features tell of the given labels; arguments as of decide.

    Where trusted samples are few, the second know more. The better ones on held-out labels are returned.
    """
    sets = [(trusted, noisy), given_scores(trusted, noisy, labels, num_classes)]
    found = (cross_fit(X, trusted_labels, X_noisy, num_classes) for X, X_noisy in sets)
    probes = [probe for probe in found if probe is not None]
    return max(probes, key=Probe.log_likelihood, default=None)


def given_scores(trusted: Floats, noisy: Floats, labels: Labels, num_classes: int) -> tuple[Floats, Floats]:
    """Score the given labels (m, C) and (n, C) of features by ridge regression on one-hot given labels.

    Each noisy sample is scored by the half of the noisy samples to which it does not belong, so that its own
    label has no part in its score; trusted samples by the mean of both.
    """
    X, X_noisy = _standardized(trusted, noisy)
    halves = np.arange(len(noisy)) % 2 == 0
    scores, trusted_scores = np.zeros((len(noisy), num_classes)), np.zeros((len(trusted), num_classes))
    for half in (halves, ~halves):
        if half.any():
            A = np.column_stack([X_noisy[half], np.ones(half.sum())])
            B = _ridge(A, np.eye(num_classes)[labels[half]])
            scores[~half] = np.column_stack([X_noisy[~half], np.ones((~half).sum())]) @ B
            trusted_scores += np.column_stack([X, np.ones(len(X))]) @ B / 2
    return trusted_scores, scores


def _ridge(A: Floats, Y: Floats) -> Floats:
    """Regress Y (n, C) on A (n, d): coefficients (d, C). The system that is solved has the smaller side."""
    n, d = A.shape
    penalty = _RIDGE * n * np.eye(min(n, d))
    if d <= n:
        return np.asarray(np.linalg.solve(A.T @ A + penalty, A.T @ Y))
    return np.asarray(A.T @ np.linalg.solve(A @ A.T + penalty, Y))


def _standardized(trusted: Floats, noisy: Floats) -> tuple[Floats, Floats]:
    mean, std = noisy.mean(axis=0), noisy.std(axis=0)
    scale = np.where(std > 0, std, 1.0)
    return (trusted - mean) / scale, (noisy - mean) / scale


def cross_fit(trusted: Floats, labels: Labels, noisy: Floats, num_classes: int) -> Probe | None:
    """Fit the heads; arguments as of :func:`decide`.

    Their penalty is the one with the best likelihood of held-out labels. There is no probe if a class has no
    trusted sample, or fewer than two classes have two.
    """
    from sklearn.model_selection import StratifiedKFold  # takes more than a second to import

    counts = np.bincount(labels, minlength=num_classes)
    if counts.min() < 1 or (counts > 1).sum() < 2 or len(noisy) == 0:
        return None
    rows = _few_of_each(labels, max(2, _MOST_TRUSTED // num_classes))
    X, X_noisy = _standardized(trusted[rows], noisy)
    labels = labels[rows]
    counts = np.bincount(labels)
    only, others = (np.flatnonzero(each) for each in (counts[labels] == 1, counts[labels] > 1))
    state = derived_seed(0, RandomStream.LABEL_PROBE_FOLDS)
    splitter = StratifiedKFold(min(_FOLDS, int(counts[counts > 1].min())), shuffle=True, random_state=state)
    folds = [
        (np.append(others[rest], only), others[fold])
        for rest, fold in splitter.split(X[others], labels[others])
    ]
    tried = (_held_out(X, labels, folds, penalty, X_noisy) for penalty in _INVERSE_PENALTIES)
    return max(tried, key=Probe.log_likelihood)


def _held_out(X: Floats, labels: Labels, folds: list[Any], inverse_penalty: float, noisy: Floats) -> Probe:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    held_out, predicted = np.zeros((len(X), int(labels.max()) + 1)), []
    for rest, fold in folds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is as good
            head = LogisticRegression(C=inverse_penalty, max_iter=300).fit(X[rest], labels[rest])
        held_out[fold] = head.predict_proba(X[fold])
        predicted.append(head.predict_proba(noisy))
    seen = np.sort(np.concatenate([fold for _, fold in folds]))
    return Probe(held_out[seen], np.stack(predicted), labels[seen], np.bincount(labels) / len(labels))


def _few_of_each(labels: Labels, most: int) -> NDArray[np.int64]:
    """Return the rows of some samples of each class, drawn at random where there are more."""
    rng = generator(0, RandomStream.LABEL_PROBE_FOLDS)
    rows = rng.permutation(len(labels))
    return np.sort(np.concatenate([rows[labels[rows] == c][:most] for c in np.unique(labels)]))


def of_labels(probabilities: Floats, labels: Labels) -> Floats:
    """Return the probability (n,) of each sample's label, from probabilities (n, C) and labels (n,)."""
    return probabilities[np.arange(len(labels)), labels]
