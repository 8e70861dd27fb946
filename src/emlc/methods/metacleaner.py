"""MetaCleaner: the classifier learns from weighted means over samples with the same given label.

Zhang, Wang and Qiao: MetaCleaner: Learning to Hallucinate Clean Representations for Noisy-Labeled Visual
Recognition, CVPR 2019. The features h_1 to h_N of N samples with the same given label give scores, and one
"clean" representation, from which the classifier learns that label:

    a = softmax(W [h_1; ...; h_N] + b)       confidence scores, over the N samples
    h = sum_i a_i h_i
    L = mean over the clean representations of CE(classifier(h), given label)

In a test N = 1, so that the classifier sees the sample's own features. W and b are removed.

Only that is public. The rest are our choices: one linear layer makes the N scores; N = 5; it learns with
the network from the first step, by the same SGD; the classifier learns from clean representations alone;
and

- an epoch visits every sample once, and samples with the same label come in groups of N, the groups in
  random order: a batch of K N samples has K of them;
- what is left of a label, and a group that the end of a batch has cut, is repeated in turn until it has N.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method
from emlc.networks.backbones import Classifier
from emlc.runtime.precision import full_precision


@dataclass(frozen=True, kw_only=True)
class MetaCleanerHyper(Hyper):
    """Hyper-parameters of metacleaner.

    Attributes:
        samples: Samples per clean representation, N.
    """

    samples: int = within(5, 1)


class NoisyWeighting(nn.Linear):
    """A linear layer from the concatenated features of N samples to their N scores."""

    def __init__(self, feature_dim: int, samples: int) -> None:
        super().__init__(samples * feature_dim, samples)

    def forward(self, h: Tensor) -> Tensor:
        """Compute clean representations (k, d) from features (k, N, d) of samples with the same label."""
        scores = full_precision(super().forward(h.flatten(1))).softmax(dim=1)
        return (scores[:, :, None] * full_precision(h)).sum(dim=1)


class MetaCleaner(Method):
    """SGD on the classifier's loss for clean representations."""

    name: ClassVar[str] = "metacleaner"
    reference: ClassVar[str] = (
        "MetaCleaner: Learning to Hallucinate Clean Representations for Noisy-Labeled Visual Recognition, "
        "Zhang et al., CVPR 2019"
    )
    hyper_class: ClassVar[type[Hyper]] = MetaCleanerHyper
    uses_trusted: ClassVar[bool] = False
    student: Classifier
    hyper: MetaCleanerHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.group = self.hyper.samples
        self.weighting = NoisyWeighting(self.student.classifier.in_features, self.group)

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "weighting": self.weighting}

    def learners(self) -> nn.Module:
        return nn.ModuleList([self.student, self.weighting])

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        rows = grouped_rows(batch.labels, self.group)
        with self.ranks.autocast():
            clean = self.weighting(self.student.backbone(batch.inputs)[rows])
            logits = full_precision(self.student.classifier(clean))
        loss = cross_entropy(logits, batch.labels[rows[:, 0]])
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach()}


def grouped_rows(labels: Tensor, size: int) -> Tensor:
    """Group the samples of a batch by label, in their order; every sample is in a group.

    Args:
        labels: (n,) int64.
        size: Samples per group, N.

    Returns:
        (k, N) int64: the samples of each group. The last one of a label has its samples repeated in turn.
    """
    order = labels.argsort(stable=True)
    groups = []
    for of_label in order.split(torch.unique(labels, return_counts=True)[1].tolist()):
        for group in of_label.split(size):
            groups.append(group[torch.arange(size, device=labels.device) % len(group)])
    return torch.stack(groups)
