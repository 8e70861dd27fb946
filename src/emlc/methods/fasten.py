"""FasTEN: the transition matrix is estimated in every step, by a second head that learns the noisy labels.

Seong Min Kye, Kwanghee Choi, Joonyoung Yi and Buru Chang, "Learning with Noisy Labels by Efficient
Transition Matrix Estimation to Combat Label Miscorrection", ECCV 2022, and the authors' code.

Two linear heads on one backbone, noisy and clean, give ``p_noisy`` and ``p_clean``. In a step, with n noisy
samples (x, y) and m trusted ones (x', y'),

    T[i, :] = mean of p_noisy(x') over the trusted samples of class i, without graph
    L = (sum_noisy -log((T^T p_clean(x))_y + 1e-7) + sum_trusted CE(p_clean(x'), y')) / (n + m)
        + lambda mean_noisy CE(p_noisy(x), y)

where y is the current label of x: at first the given label; after each step on x the most probable class
under ``p_clean(x)`` if its probability reaches a threshold, and the given label otherwise.

Departures:
    - Published trusted batches are class-balanced. Here they are drawn from the trusted set as it is: a class
      that is missing in a batch keeps its row of T from the latest batch that had it; at first T is the
      identity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method, NoisyEstimate
from emlc.methods.transition import class_means
from emlc.networks.backbones import Classifier
from emlc.runtime.precision import full_precision

_EPSILON = 1e-7
"""Added to the probability of the label before the logarithm, as published."""


@dataclass(frozen=True, kw_only=True)
class FasTENHyper(Hyper):
    """Hyper-parameters of FasTEN.

    Attributes:
        threshold: Probability from which the most probable class replaces the given label.
        noisy_weight: Weight of the noisy head's loss, lambda.
    """

    threshold: float = within(0.8, 0, 1)
    noisy_weight: float = within(0.5)


class NoisyHead(nn.Linear):
    """A linear layer from features (n, d) to logits (n, C) of the noisy label, and the transition matrix.

    Attributes:
        transition: T (C, C): row i is the distribution of the noisy label where the true class is i.
    """

    transition: Tensor

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes)
        self.register_buffer("transition", torch.eye(num_classes))

    @torch.no_grad()
    def estimate(self, noisy_logits: Tensor, labels: Tensor) -> Tensor:
        """Update and return T (C, C), from this head's logits (m, C) of trusted samples with labels (m,)."""
        self.transition.copy_(class_means(noisy_logits.softmax(dim=1), labels, self.transition))
        return self.transition.clone()


class FasTEN(Method):
    """SGD on L for the backbone and both heads; the student is the backbone with the clean head."""

    name: ClassVar[str] = "fasten"
    reference: ClassVar[str] = (
        "Learning with Noisy Labels by Efficient Transition Matrix Estimation to Combat Label "
        "Miscorrection, Kye et al., ECCV 2022"
    )
    hyper_class: ClassVar[type[Hyper]] = FasTENHyper
    student: Classifier
    hyper: FasTENHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.noisy_head = NoisyHead(self.student.classifier.in_features, num_classes)

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "noisy_head": self.noisy_head}

    def learners(self) -> nn.Module:
        return nn.ModuleList([self.student, self.noisy_head])

    def bind(self, split: Split) -> None:
        super().bind(split)
        self._labels = torch.from_numpy(split.noisy.given).to(self.ranks.device, copy=True)

    def sample_state(self) -> dict[str, Tensor]:
        return {"labels": self._labels}

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        (batch,) = noisy
        noisy_logits, clean_logits = self._both(batch.inputs)
        trusted_noisy_logits, trusted_clean_logits = self._both(trusted.inputs)
        transition = self.noisy_head.estimate(trusted_noisy_logits, trusted.labels)

        labels = self._labels[batch.positions]
        p_clean = clean_logits.softmax(dim=1)
        p_label = (transition.to(p_clean).T[labels] * p_clean).sum(dim=1)
        forward = -(p_label + _EPSILON).log()  # the forward correction by T
        trusted_losses = cross_entropy(trusted_clean_logits, trusted.labels, reduction="none")
        clean_loss = torch.cat([forward, trusted_losses]).mean()
        noisy_loss = cross_entropy(noisy_logits, labels)

        confidence, best = p_clean.detach().max(dim=1)
        corrected = torch.where(confidence >= self.hyper.threshold, best, batch.labels)
        self._labels[batch.positions] = corrected
        self.descend(clean_loss + self.hyper.noisy_weight * noisy_loss, self.student_sgd)
        return {"student_loss": clean_loss.detach(), "noisy_head_loss": noisy_loss.detach()}

    def _both(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits (n, C) of the noisy head, and of the clean head."""
        with self.ranks.autocast():
            h = self.student.backbone(inputs)
            return full_precision(self.noisy_head(h)), full_precision(self.student.classifier(h))

    def estimate(self) -> NoisyEstimate:
        return NoisyEstimate(soft_labels=one_hot(self._labels, self.num_classes).float().cpu())
