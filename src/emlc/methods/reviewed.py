"""What reviewed samples tell of the noise: they are trusted, and the label that they had been given is known.

A review takes samples away from the noisy ones. Those with the worst labels are missed: what is left has
fewer wrong labels, and those that are left agree with what the networks predict, so that T, learned from
them alone, takes wrong labels for right. Which samples were reviewed depends on their inputs and given labels
alone. So nothing is lost, and the likelihood of all given labels is unbiased (missing at random: D. Rubin,
Inference and missing data, Biometrika 1976), if the reviewed ones stay in it, whatever their order.

In the teacher's losses only those count as trusted samples, which weigh far more, that were chosen at random,
or of which that is not known: the worst ones are no sample of the others, and most of them are easy. The meta
loss takes all of them, as all their labels are right.
"""

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from emlc.data import Samples, Split
from emlc.data.classes import UNKNOWN
from emlc.data.loaders import Batch
from emlc.data.reviewed import counts_as_random
from emlc.methods.base import Losses
from emlc.networks.noise_aware_teacher import NoiseAwareTeacher


class ReviewedLabels(NamedTuple):
    """The reviewed ones of the m trusted samples, beside n noisy ones.

    Attributes:
        counts: (C, C) float, number of reviewed samples by true class and given label, over n: each counts
            as much as a noisy sample in the mean over these.
        labels: (m,) int64, the labels that they had been given; 0 of other samples.
        head_weights: (m,) float, with which the head for given labels learns them: m/n; 0 of other samples.
        anchor_weights: (m,) float, with mean 1 and 0 of reviewed samples: the head has seen their labels.
        ce_weights: (m,) float, with mean 1 and 0 of those that are no sample of the others.
        nll_weights: (m,) float, with which these are learned from: m/n; 0 of other samples.
    """

    counts: Tensor
    labels: Tensor
    head_weights: Tensor
    anchor_weights: Tensor
    ce_weights: Tensor
    nll_weights: Tensor

    @classmethod
    def of(cls, split: Split, device: torch.device) -> Self | None:
        """Collect them; None if there are none, so that all trusted samples count alike.

        Samples of `emlc draw` are no reviewed ones: they were drawn at random, and nothing is missed.
        """
        before, trusted, n = split.trusted.given_before, split.trusted.given, len(split.noisy)
        m, is_reviewed, is_sample = len(trusted), before != UNKNOWN, representative(split.trusted)
        if split.trusted.chosen_for_review is None or (not is_reviewed.any() and is_sample.all()):
            return None
        arrays = (
            split.trusted.counts_before() / n,
            is_reviewed * (m / n),
            _mean_one(~is_reviewed),
            _mean_one(is_sample),
            ~is_sample * (m / n),
        )
        counts, *weights = (torch.from_numpy(each.astype(np.float32)).to(device) for each in arrays)
        labels = torch.from_numpy(np.where(is_reviewed, before, 0)).to(device)
        return cls(counts, labels, *weights)

    def losses(self, teacher: NoiseAwareTeacher, h: Tensor, logits: Tensor, trusted: Batch) -> Losses:
        """Return what the teacher loses on a trusted batch: its representations and logits."""
        labels, at = trusted.labels, trusted.positions
        ce = cross_entropy(logits + teacher.prior_shift, labels, reduction="none")
        nll = self.nll_weights[at] * cross_entropy(logits, labels, reduction="none")
        head_ce = self.head_weights[at] * teacher.noisy_head_ce(h, self.labels[at])
        return {
            "teacher_ce": (self.ce_weights[at] * ce).mean(),
            "teacher_anchor": teacher.anchor(h, labels, self.anchor_weights[at]),
            "teacher_nll": nll.mean() + teacher.reviewed_nll(self.counts),
            "noisy_head_ce": head_ce.mean(),
        }


def representative(trusted: Samples) -> NDArray[np.bool_]:
    """Return (m,) which trusted samples count as a random sample: all of a class that has no others, too."""
    if trusted.chosen_for_review is None:
        return np.ones(len(trusted), dtype=np.bool_)
    at_random = counts_as_random(trusted.chosen_for_review)
    return at_random | ~np.isin(trusted.given, trusted.given[at_random])


def _mean_one(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = chosen / max(float(chosen.mean()), 1e-12)
    return weights
