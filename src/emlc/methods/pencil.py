"""PENCIL, also P-correction: the labels are parameters, learned together with those of the network.

Kun Yi and Jianxin Wu, "Probabilistic End-to-end Noise Correction for Learning with Noisy Labels", CVPR 2019
(arXiv 1903.07788). Sample i has logits ``y_i``, which start as K onehot(given label), and the soft label
``d_i = softmax(y_i)``. With ``f_i`` the network's prediction, a batch of n samples and C classes,

    L_c = mean_i KL(f_i || d_i)                 classification
    L_o = mean_i CE(softmax(d_i), given label)  compatibility: keeps labels near the given ones
    L_e = mean_i H(f_i)                         entropy
    L   = L_c / C + alpha L_o + beta L_e / C

and both minimise L: the network by its optimiser, and ``y_i`` by steps of ``rate n dL/dy_i``. There are three
stages: cross-entropy with the given labels; L; and ``L_c / C`` with the labels fixed, at another learning
rate. The authors' code (github.com/yikun2019/PENCIL) has epochs 0-70-200-320 for CIFAR-10.

Departures:
- L_o is that of the authors' code, with one softmax more than the paper's ``CE(d_i, given label)``. With the
  paper's and the published alpha no label could change: for a prediction f, the minimum of L is at
  ``d = (f / C + alpha onehot) / (1 / C + alpha)``, where the given class leads if alpha C > 1.
- A label's learning rate is per sample, and does not depend on the size of its batch. The published step is
  ``lambda dL/dy_i`` with L a mean over a batch of 128, or fewer at the end of an epoch; lambda = 600 is the
  rate 600 / 128.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.methods.base import Losses
from emlc.methods.entropy import entropy
from emlc.methods.label_logits import LabelLogits
from emlc.methods.stages import Stages
from emlc.runtime.precision import full_precision


@dataclass(frozen=True, kw_only=True)
class PencilHyper(Hyper):
    """Hyper-parameters of pencil.

    Attributes:
        label_learning_rate: Learning rate of a label, per sample: the published lambda divided by the
            published batch size.
        initial_logit: Initial logit of the given class, K; the other classes start at 0.
        compatibility_weight: Weight of the loss that keeps labels near the given ones, alpha.
        entropy_weight: Weight of the predictions' entropy, beta.
        final_share: Share of the epochs, at the end, in which the labels are fixed.
        final_rate: Learning rate of those epochs, as a multiple of ``learning_rate``.
    """

    label_learning_rate: float = within(600 / 128)
    initial_logit: float = within(10.0)
    compatibility_weight: float = within(0.4)
    entropy_weight: float = within(0.1)
    final_share: float = within(120 / 320, 0, 1)
    final_rate: float = within(0.2 / 0.06)


class Pencil(LabelLogits):
    """Network and label distributions are learned together, by back-propagation."""

    name: ClassVar[str] = "pencil"
    reference: ClassVar[str] = (
        "Probabilistic End-to-end Noise Correction for Learning with Noisy Labels (PENCIL, P-correction), "
        "Yi and Wu, CVPR 2019"
    )
    warm_up_share: ClassVar[float] = 70 / 320
    hyper_class: ClassVar[type[Hyper]] = PencilHyper
    uses_trusted: ClassVar[bool] = False
    warms_up: ClassVar[bool] = True
    hyper: PencilHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.stages = Stages.of(settings, self.hyper.final_share)

    @property
    def rate_factor(self) -> float:
        return self.hyper.final_rate if self.epoch >= self.stages.final else 1.0

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        if self.warming_up:
            return {"student_loss": self.descend_cross_entropy(batch)}
        with self.ranks.autocast():
            logits = full_precision(self.student(batch.inputs))
        y = self.label_logits[batch.positions].requires_grad_()
        corrects = self.epoch < self.stages.final
        loss = self.loss(logits, y, batch.labels) if corrects else divergence(logits, y) / self.num_classes
        self.descend(loss, self.student_sgd)
        if corrects:
            assert y.grad is not None
            moved = y.detach() - self.hyper.label_learning_rate * len(y) * y.grad
            self.label_logits[batch.positions] = moved
        return {"student_loss": loss.detach()}

    def loss(self, logits: Tensor, y: Tensor, labels: Tensor) -> Tensor:
        """Compute L of the second stage, 0-d.

        Args:
            logits: (n, C) of the network.
            y: (n, C) label logits.
            labels: (n,) given labels.
        """
        h = self.hyper
        L_e = entropy(log_softmax(logits, dim=1))
        per_class = (divergence(logits, y) + h.entropy_weight * L_e) / self.num_classes
        return per_class + h.compatibility_weight * cross_entropy(y.softmax(dim=1), labels)


def divergence(logits: Tensor, y: Tensor) -> Tensor:
    """Compute L_c, 0-d: the mean of KL(softmax(logits) || softmax(y)), both (n, C)."""
    log_f = log_softmax(logits, dim=1)
    return (log_f.exp() * (log_f - log_softmax(y, dim=1))).sum(dim=1).mean()
