"""Joint-Optim: the labels become the network's own mean predictions over the last epochs.

Daiki Tanaka, Daiki Ikami, Toshihiko Yamasaki and Kiyoharu Aizawa, "Joint Optimization Framework for Learning
with Noisy Labels", CVPR 2018 (arXiv 1803.11364). With soft labels ``y_i``, predictions ``s_i``, their mean
``s`` over a batch of n samples, and a prior ``p`` of the C classes, the first step minimises

    L_c = mean_i CE(y_i, s_i)        equals KL(y_i || s_i) up to a constant
    L_p = sum_j p_j log(p_j / s_j)   keeps labels from all becoming one class
    L_e = mean_i H(s_i)              concentrates predictions on one class
    L   = L_c + alpha L_p + beta L_e

After the warm-up, before every epoch, ``y_i`` becomes the mean of the predictions for sample i during the
last 10 epochs of training. The second step trains a network from scratch on ``L_c`` with the final labels.
The authors' code (github.com/DaikiTanaka-UT/JointOptimization) has 200 epochs for the first step, with labels
updated after 70, and 120 for the second, at another learning rate.

Departures:
- The second step starts from the initial weights of the first, pretrained or random; the authors' code draws
  new random weights. Either way nothing learned in the first step is kept.
- Labels are soft; the paper also has hard labels, which it finds to be worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.meta.metagradient import soft_cross_entropy
from emlc.methods.base import Losses, Method, NoisyEstimate
from emlc.methods.entropy import entropy
from emlc.methods.stages import InitialWeights, Stages
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision


@dataclass(frozen=True, kw_only=True)
class JointOptimHyper(Hyper):
    """Hyper-parameters of joint-optim.

    Attributes:
        prior_weight: Weight of the divergence of the mean prediction from the class prior, alpha.
        entropy_weight: Weight of the predictions' entropy, beta.
        averaged_epochs: Number of last epochs over which predictions are averaged to a label.
        uniform_prior: Whether the class prior is uniform; otherwise it is the class frequencies of the given
            labels.
        retraining_share: Share of the epochs, at the end, that train from scratch on the final labels.
        retraining_rate: Learning rate of those epochs, as a multiple of ``learning_rate``.
    """

    prior_weight: float = within(1.2)
    entropy_weight: float = within(0.8)
    averaged_epochs: int = within(10, 1)
    uniform_prior: bool = within(True)
    retraining_share: float = within(120 / 320, 0, 1)
    retraining_rate: float = within(0.2 / 0.08)


class JointOptim(Method):
    """Network and labels are optimised in turn; then the network is trained from scratch on the labels."""

    name: ClassVar[str] = "joint-optim"
    reference: ClassVar[str] = (
        "Joint Optimization Framework for Learning with Noisy Labels, Tanaka et al., CVPR 2018"
    )
    warm_up_share: ClassVar[float] = 70 / 320
    hyper_class: ClassVar[type[Hyper]] = JointOptimHyper
    uses_trusted: ClassVar[bool] = False
    warms_up: ClassVar[bool] = True
    hyper: JointOptimHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.stages = Stages.of(settings, self.hyper.retraining_share)

    @property
    def rate_factor(self) -> float:
        return self.hyper.retraining_rate if self.epoch >= self.stages.final else 1.0

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        self._initial = InitialWeights(self.student)

    def bind(self, split: Split) -> None:
        super().bind(split)
        labels = torch.from_numpy(split.noisy.given).to(self.ranks.device)
        self.soft_labels = one_hot(labels, self.num_classes).float()
        self.predictions = self.soft_labels.new_zeros(
            len(labels), self.hyper.averaged_epochs, self.num_classes
        )
        share = torch.ones_like(self.soft_labels[0])
        if not self.hyper.uniform_prior:
            share = self.soft_labels.mean(dim=0)
        self.prior = share / share.sum()

    def sample_state(self) -> dict[str, Tensor]:
        tables = {"soft_labels": self.soft_labels, "predictions": self.predictions}
        return {**tables, **self._initial.state()}

    def estimate(self) -> NoisyEstimate:
        return NoisyEstimate(soft_labels=self.soft_labels.cpu())

    def start_epoch(self) -> None:
        if self.stages.correction <= self.epoch <= self.stages.final:
            self._update_labels()
        if self.epoch == self.stages.final:
            self._initial.restore(self.student, self.student_sgd)

    def _update_labels(self) -> None:
        seen = min(self.epoch, self.hyper.averaged_epochs)
        if seen:
            self.soft_labels.copy_(self.predictions[:, :seen].mean(dim=1))

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        with self.ranks.autocast():
            logits = full_precision(self.student(batch.inputs))
        log_s, y = log_softmax(logits, dim=1), self.soft_labels[batch.positions]
        if self.epoch >= self.stages.final:
            loss = soft_cross_entropy(log_s, y)
        else:
            loss = self.loss(log_s, y)
            slot = self.epoch % self.hyper.averaged_epochs
            self.predictions[batch.positions, slot] = log_s.detach().exp().to(self.predictions)
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach()}

    def loss(self, log_s: Tensor, y: Tensor) -> Tensor:
        """Compute L of the first step, 0-d, from log-predictions and soft labels (n, C)."""
        s = log_s.exp()
        # xlogy: a class with a prior of 0 contributes 0.
        divergence: Tensor = torch.special.xlogy(
            self.prior, self.prior / s.mean(dim=0).clamp_min(torch.finfo(s.dtype).tiny)
        ).sum()
        h = self.hyper
        loss: Tensor = soft_cross_entropy(log_s, y) + h.prior_weight * divergence
        return loss + h.entropy_weight * entropy(log_s, s)
