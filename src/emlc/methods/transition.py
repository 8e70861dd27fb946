"""Transition matrices (C, C): row i is the distribution of the noisy label where the class is i."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def class_means(probabilities: Tensor, labels: Tensor, otherwise: Tensor) -> Tensor:
    """Row i is the mean of the predictions (m, C) of the noisy label for the samples of class i.

    Args:
        probabilities: (m, C).
        labels: (m,) the classes.
        otherwise: (C, C) the rows of classes that have no samples.
    """
    members = one_hot(labels, len(otherwise)).to(otherwise)
    counts = members.sum(dim=0)[:, None]
    means = members.T @ probabilities.to(members) / counts.clamp_min(1)
    return torch.where(counts > 0, means, otherwise)
