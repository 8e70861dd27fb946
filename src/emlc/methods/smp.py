"""SMP, deep self-learning: labels are corrected by prototypes of the classes in feature space.

Jiangfan Han, Ping Luo and Xiaogang Wang, "Deep Self-Learning From Noisy Labels", ICCV 2019 (arXiv
1908.02160), "self-learning with multi-prototypes". Before every epoch after the warm-up, labels are corrected
(Sec. 3.3). For each class, up to m samples with that given label are drawn. With S_ij the cosine similarity
of their features, and S_c the smallest of the largest 40 % of all S_ij, sample i has

    density     rho_i = sum_j sign(S_ij - S_c)
    similarity  eta_i = max_{j: rho_j > rho_i} S_ij,   or min_j S_ij if rho_i is the largest

The prototypes of the class are the p densest samples with eta < 0.95: dense, and unlike each other. The
corrected label ``z_i`` of a sample is the class whose prototypes have the largest mean cosine similarity to
the sample. With the given labels ``y_i``, the network then learns from (Sec. 3.2)

    L = (1 - alpha) mean_i CE(f_i, y_i) + alpha mean_i CE(f_i, z_i)

The authors have published no code; this follows the paper.

Departures:
- All labels are corrected at once, before an epoch, with features of unaugmented inputs in evaluation mode.
- If no sample of a class has eta < 0.95, its densest sample is the only prototype.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method, NoisyEstimate
from emlc.networks.backbones import Classifier
from emlc.networks.inference import represent
from emlc.runtime.precision import full_precision
from emlc.runtime.streams import RandomStream, generator

_DENSE = 0.4
"""Share of the similarities that count as high."""
_ALIKE = 0.95
"""Cosine similarity to a denser sample from which on a sample is no prototype of its own."""


@dataclass(frozen=True, kw_only=True)
class SMPHyper(Hyper):
    """Hyper-parameters of smp.

    Attributes:
        corrected_weight: Weight alpha of the loss with corrected labels; the loss with given labels has
            weight 1 - alpha.
        prototypes: Maximum number of prototypes per class, p.
        samples_per_class: Maximum number of samples per class from which prototypes are chosen, m.
    """

    corrected_weight: float = within(0.5, 0, 1)
    prototypes: int = within(8, 1)
    samples_per_class: int = within(1280, 1)


class SMP(Method):
    """Cross-entropy on the given labels, and on the classes whose prototypes are nearest to the samples."""

    name: ClassVar[str] = "smp"
    reference: ClassVar[str] = (
        "Deep Self-Learning From Noisy Labels (self-learning with multi-prototypes), Han et al., ICCV 2019"
    )
    warm_up_share: ClassVar[float] = 1 / 15
    hyper_class: ClassVar[type[Hyper]] = SMPHyper
    student: Classifier
    uses_trusted: ClassVar[bool] = False
    warms_up: ClassVar[bool] = True
    hyper: SMPHyper

    def bind(self, split: Split) -> None:
        super().bind(split)
        self.corrected = torch.from_numpy(self.noisy.given).clone().to(self.ranks.device)

    def sample_state(self) -> dict[str, Tensor]:
        return {"corrected": self.corrected}

    def estimate(self) -> NoisyEstimate:
        return NoisyEstimate(soft_labels=one_hot(self.corrected.cpu(), self.num_classes).float())

    def start_epoch(self) -> None:
        if self.warming_up:
            return
        h = normalize(represent(self.student.backbone, self.noisy.inputs).flatten(1), dim=1)
        rng = generator(self.settings.seed, RandomStream.PROTOTYPES, self.epoch)
        scores = torch.full((len(h), self.num_classes), -torch.inf)
        for c in range(self.num_classes):
            drawn = rng.permutation(np.flatnonzero(self.noisy.given == c))[: self.hyper.samples_per_class]
            rows = np.sort(drawn)  # so that equally dense samples come in the order of the data
            if len(rows):  # a class that no label names has no prototypes
                of_class = h[torch.from_numpy(rows)]
                chosen = of_class[prototypes(of_class @ of_class.T, self.hyper.prototypes)]
                scores[:, c] = (h @ chosen.T).mean(dim=1)
        self.corrected.copy_(scores.argmax(dim=1))

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        if self.warming_up:
            return {"student_loss": self.descend_cross_entropy(batch)}
        with self.ranks.autocast():
            logits = full_precision(self.student(batch.inputs))
        alpha = self.hyper.corrected_weight
        loss = (1 - alpha) * cross_entropy(logits, batch.labels)
        loss = loss + alpha * cross_entropy(logits, self.corrected[batch.positions])
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach()}


def prototypes(similarities: Tensor, number: int) -> Tensor:
    """Choose up to ``number`` prototypes; return their indices, the densest first.

    Args:
        similarities: (m, m) cosine similarities of the samples of a class.
        number: p.
    """
    kept = max(1, int(_DENSE * similarities.numel()))
    threshold = similarities.flatten().topk(kept).values[-1]
    density = (similarities - threshold).sign().sum(dim=1)
    denser = density[None, :] > density[:, None]
    nearest = similarities.masked_fill(~denser, -torch.inf).amax(dim=1)
    nearest = torch.where(denser.any(dim=1), nearest, similarities.amin(dim=1))
    order = density.argsort(descending=True, stable=True)
    chosen = order[(nearest < _ALIKE)[order]][:number]
    return chosen if len(chosen) else order[:1]
