"""Probes of features: the accuracy of simple classifiers on the features of trusted samples."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from emlc.data import Samples
from emlc.networks.inference import represent
from emlc.runtime.distributed import Ranks
from emlc.runtime.streams import RandomStream, derived_seed, generator

MOST_PROBED = 5000
"""Maximum number of samples to probe on, as the similarities of all pairs are computed."""

_ROWS = 1024
"""Number of samples whose similarities are computed at once."""

_FOLDS = 5
"""Number of folds of the linear classifier's cross-validation."""


class Probe:
    """A probe that measures a backbone's features on trusted samples.

    Args:
        trusted: Samples with labels; None: nothing is measured.
        seed: Seed of the draw from more than :data:`MOST_PROBED` samples, and of the folds.
        ranks: The processes that share the work; all of them have to call the probe.
    """

    def __init__(self, trusted: Samples | None, seed: int, ranks: Ranks) -> None:
        if trusted is not None and len(trusted) > MOST_PROBED:
            drawn = generator(seed, RandomStream.PROBE_SAMPLES).permutation(len(trusted))[:MOST_PROBED]
            trusted = trusted.take(np.sort(drawn))
        self._trusted = trusted
        self._seed = seed
        self._ranks = ranks

    def __call__(self, backbone: nn.Module, *, linear: bool = False) -> dict[str, float]:
        """Measure the accuracy of nearest neighbours and, if ``linear``, a linear classifier, in per cent."""
        if self._trusted is None or len(self._trusted) < 2:
            return {}
        features = represent(backbone, self._trusted.inputs, self._ranks)
        figures = {"knn_accuracy": knn_accuracy(features, self._trusted.given)}
        accuracy = linear_accuracy(features, self._trusted.given, self._seed) if linear else None
        return figures if accuracy is None else figures | {"linear_accuracy": accuracy}


def knn_accuracy(
    features: Tensor, labels: NDArray[np.int64], neighbours: int = 20, temperature: float = 0.1
) -> float:
    """Compute the leave-one-out accuracy of weighted nearest neighbours, in per cent.

    Each neighbour votes for its class with weight ``exp(cosine / temperature)`` (Wu et al.: Unsupervised
    Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018).

    Args:
        features: (n, d), n > 1.
        labels: (n,) int64, from 0.
        neighbours: Number of neighbours that vote; at most n - 1 do.
        temperature: Temperature of the weights; the lower, the more the nearest ones count.
    """
    directions = normalize(features.float(), dim=1)
    classes = torch.from_numpy(labels)
    votes = one_hot(classes).float()
    correct = 0
    for rows in torch.arange(len(labels)).split(_ROWS):
        cosines = directions[rows] @ directions.T
        cosines[torch.arange(len(rows)), rows] = -torch.inf  # no sample votes for itself
        nearest, voters = cosines.topk(min(neighbours, len(labels) - 1), dim=1)
        weights = ((nearest - 1) / temperature).exp()
        chosen = (weights[:, :, None] * votes[voters]).sum(dim=1).argmax(dim=1)
        correct += int((chosen == classes[rows]).sum())
    return 100 * correct / len(labels)


def linear_accuracy(features: Tensor, labels: NDArray[np.int64], seed: int) -> float | None:
    """Compute the accuracy of logistic regression in five-fold cross-validation, in per cent.

    Args:
        features: (n, d).
        labels: (n,) int64.
        seed: Seed of the folds.

    Returns:
        The accuracy, or None if a class has only one sample, or there is only one class.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2:
        return None
    state = derived_seed(seed, RandomStream.PROBE_FOLDS)
    folds = StratifiedKFold(min(_FOLDS, int(counts.min())), shuffle=True, random_state=state)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    with warnings.catch_warnings():
        # Stopping before the optimum does not change the accuracy.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return 100 * float(cross_val_score(model, features.numpy(), labels, cv=folds).mean())
