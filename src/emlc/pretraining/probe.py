"""What features are worth: how well simple classifiers on them tell trusted samples apart."""

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
"""Samples that are drawn if there are more: similarities are computed of all pairs."""

_ROWS = 1024
"""Similarities are computed for so many samples at once."""

_FOLDS = 5


class Probe:
    """Measures a backbone on trusted samples.

    Args:
        trusted: With labels; None: there is nothing to measure on.
        seed: Of the draw, if there are more than :data:`MOST_PROBED`, and of the folds.
        ranks: The processes that share the work; all have to call the probe.
    """

    def __init__(self, trusted: Samples | None, seed: int, ranks: Ranks) -> None:
        if trusted is not None and len(trusted) > MOST_PROBED:
            drawn = generator(seed, RandomStream.PROBE_SAMPLES).permutation(len(trusted))[:MOST_PROBED]
            trusted = trusted.take(np.sort(drawn))
        self._trusted = trusted
        self._seed = seed
        self._ranks = ranks

    def __call__(self, backbone: nn.Module, *, linear: bool = False) -> dict[str, float]:
        """Accuracies in per cent: of nearest neighbours and, if asked for, of a linear classifier."""
        if self._trusted is None or len(self._trusted) < 2:
            return {}
        features = represent(backbone, self._trusted.inputs, self._ranks)
        figures = {"knn_accuracy": knn_accuracy(features, self._trusted.given)}
        accuracy = linear_accuracy(features, self._trusted.given, self._seed) if linear else None
        return figures if accuracy is None else figures | {"linear_accuracy": accuracy}


def knn_accuracy(
    features: Tensor, labels: NDArray[np.int64], neighbours: int = 20, temperature: float = 0.1
) -> float:
    """Leave-one-out accuracy of weighted nearest neighbours, in per cent.

    Each of the nearest votes for its class with weight ``exp(cosine / temperature)`` (Wu et al.:
    Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018).

    Args:
        features: (n, d), n > 1.
        labels: (n,) from 0.
        neighbours: How many vote; all others, if there are fewer.
        temperature: The lower, the more the nearest count.
    """
    directions = normalize(features.float(), dim=1)
    classes = torch.from_numpy(labels)
    votes = one_hot(classes).float()
    correct = 0
    for rows in torch.arange(len(labels)).split(_ROWS):
        cosines = directions[rows] @ directions.T
        cosines[torch.arange(len(rows)), rows] = -torch.inf  # nobody votes for himself
        nearest, voters = cosines.topk(min(neighbours, len(labels) - 1), dim=1)
        weights = ((nearest - 1) / temperature).exp()
        chosen = (weights[:, :, None] * votes[voters]).sum(dim=1).argmax(dim=1)
        correct += int((chosen == classes[rows]).sum())
    return 100 * correct / len(labels)


def linear_accuracy(features: Tensor, labels: NDArray[np.int64], seed: int) -> float | None:
    """Accuracy of logistic regression, cross-validated in five folds, in per cent.

    Args:
        features: (n, d).
        labels: (n,) int64.
        seed: Of the folds.

    Returns:
        None if a class has but one sample, or there is but one class.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2:
        return None
    state = derived_seed(seed, RandomStream.PROBE_FOLDS)
    folds = StratifiedKFold(min(_FOLDS, int(counts.min())), shuffle=True, random_state=state)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    with warnings.catch_warnings():
        # Where it stops short of the optimum the accuracy is no other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return 100 * float(cross_val_score(model, features.numpy(), labels, cv=folds).mean())
