"""Meta soft label corrector: two small nets mix the given label, an earlier label and the prediction.

Yichen Wu, Jun Shu, Qi Xie, Qian Zhao and Deyu Meng, "Learning to Purify Noisy Labels via Meta Soft Label
Corrector", AAAI 2021. The paper's target is

    q = a y + (1 - a) (b z + (1 - b) p),   a = A(CE(f, y)),  b = B(CE(f, z)),

with y the given label, f the student's current prediction, z the label from the previous epoch and p = f.
A and B are nets 1-100-1. z starts as the mean prediction over the last epochs of a warm-up by cross-entropy;
from then on it is the target q of the previous epoch.

Departures:
    - As in the authors' code, and unlike in the formula, the student learns from the one-hot argmax of z and
      p. With a soft p that term of the loss would have no gradient, since p is the student's own prediction.
      The mixture of the soft z and p is stored as the next z.
    - The look-ahead step has the student's current learning rate. In the authors' code the look-ahead's rate
      falls at epoch 100 only, the student's at epoch 80 too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, nll_loss, one_hot

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.methods.base import Losses, NoisyEstimate
from emlc.methods.one_step import OneStep, WeightNet
from emlc.runtime.precision import full_precision


@dataclass(frozen=True, kw_only=True)
class MSLCHyper(Hyper):
    """Hyper-parameters of MSLC.

    Attributes:
        hidden_dim: Hidden units of each net.
        meta_learning_rate: Learning rate of the nets' Adam, unless teacher_learning_rate is given.
        meta_weight_decay: Weight decay of both nets.
        averaged_epochs: Number of last warm-up epochs whose mean prediction is the first z.
    """

    hidden_dim: int = within(100, 1)
    meta_learning_rate: float = within(1e-3)
    meta_weight_decay: float = within(1e-4)
    averaged_epochs: int = within(10, 1)


class MSLC(OneStep):
    """A warm-up by cross-entropy, then steps of :class:`OneStep` on the targets above."""

    name: ClassVar[str] = "mslc"
    reference: ClassVar[str] = (
        "Learning to Purify Noisy Labels via Meta Soft Label Corrector, Wu et al., AAAI 2021"
    )
    warm_up_share: ClassVar[float] = 79 / 120
    hyper_class: ClassVar[type[Hyper]] = MSLCHyper
    warms_up: ClassVar[bool] = True
    hyper: MSLCHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self._a, self._b = WeightNet(self.hyper.hidden_dim), WeightNet(self.hyper.hidden_dim)
        self.meta_net = nn.ModuleDict({"a": self._a, "b": self._b})

    def bind(self, split: Split) -> None:
        super().bind(split)
        given = one_hot(torch.from_numpy(split.noisy.given), self.num_classes).float()
        # z (n, C). A warm-up sums its predictions in z; without a warm-up z starts as the given labels.
        self._z = (torch.zeros_like(given) if self.settings.warm_up else given).to(self.ranks.device)

    def sample_state(self) -> dict[str, Tensor]:
        return {"soft_labels": self._z}

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        return self._warm_up(*noisy) if self.warming_up else super().step(noisy, trusted)

    def _warm_up(self, batch: Batch) -> Losses:
        with self.ranks.autocast():
            log_probs = log_softmax(full_precision(self.student(batch.inputs)), dim=1)
        averaged = min(self.hyper.averaged_epochs, self.settings.warm_up)
        if self.epoch >= self.settings.warm_up - averaged:
            self._z[batch.positions] += log_probs.detach().exp().to(self._z) / averaged
        loss = nll_loss(log_probs, batch.labels)
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach()}

    def targets(self, batch: Batch, log_probs: Tensor) -> Tensor:
        z, p = (one_hot(x.argmax(dim=1), self.num_classes) for x in (self._z[batch.positions], log_probs))
        return self._mixed(batch, log_probs, z, p)

    def keep(self, batch: Batch, log_probs: Tensor) -> None:
        z = self._z[batch.positions].to(log_probs)
        self._z[batch.positions] = self._mixed(batch, log_probs, z, log_probs.exp()).to(self._z)

    def _mixed(self, batch: Batch, log_probs: Tensor, z: Tensor, p: Tensor) -> Tensor:
        """Compute ``a y + (1 - a) (b z + (1 - b) p)`` (n, C)."""
        earlier = self._z[batch.positions].argmax(dim=1)
        a = self._a(nll_loss(log_probs, batch.labels, reduction="none")[:, None])
        b = self._b(nll_loss(log_probs, earlier, reduction="none")[:, None])
        mixed: Tensor = a * one_hot(batch.labels, self.num_classes) + (1 - a) * (b * z + (1 - b) * p)
        return mixed

    @torch.no_grad()
    def estimate(self) -> NoisyEstimate:
        """Return the labels z, and A's weights of the given labels; nothing during the warm-up."""
        if self.warming_up:
            return NoisyEstimate()
        weights = self.weights_of(self._a)
        return NoisyEstimate(soft_labels=self._z.cpu(), weights=weights)
