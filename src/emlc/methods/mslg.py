"""MSLG: the soft label of each sample is learned by the meta-gradient of the loss on trusted data.

Görkem Algan and Ilkay Ulusoy, "Meta Soft Label Generation for Noisy Labels", ICPR 2020 (arXiv 2007.05836).
Sample i has logits ``y_i``, which start as K onehot(given label), and the soft label ``d_i = softmax(y_i)``.
The warm-up is cross-entropy with the given labels. After it, with the network's predictions ``f_i`` for a
batch of n samples, C classes, and

    L_c(w, y) = 1 / (n C) sum_i sum_j f_ij (log f_ij - log(d_ij + 1e-10))

a step is

    w^  = w - alpha d_w L_c(w, y)               look-ahead
    y  <- y - beta d_y CE(trusted; w^)          meta-gradient, through w^
    w  <- SGD(w, d_w [L_c(w, y) + gamma / (n C) sum_i H(f_i)])

which is KL(f_i || d_i) but for the 1e-10, as in the authors' code. The meta-gradient needs no second
derivative. In ``dL_c/dy_i`` only ``f_i`` depends on w; with ``g^`` the gradient of CE(trusted; w^) it is

    d_{y_i} CE(trusted; w^) = alpha / (n C) (v_i - d_i sum_j v_ij),    v_i = d_i / (d_i + 1e-10) J_f(i) g^,
    J_f(i) g^ = f_i * (J_log f(i) g^)

a Jacobian-vector product through the network: a label moves in the direction in which a descent step on the
trusted loss moves the prediction, as far as its probabilities are not next to 0. Each row of the
meta-gradient sums to zero.

Departures:
- A label's learning rate is per sample, and does not depend on the size of its batch. The published step is
  ``beta`` times the gradient of a mean over 128 samples; beta = 4000 is the rate 4000 / 128.
- Images are not flipped upside down: the published augmentation for CIFAR is flips either way, and crops.
- Noisy samples are shuffled, and trusted batches have their own size. The authors' code
  (github.com/gorkemalgan/MSLG_noisy_label) visits both sets in a fixed order, in batches of one size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.meta.jvp import StudentStep, Weights, record_step
from emlc.meta.metagradient import InnerSGD, looked_ahead, meta_gradient, trusted_gradient
from emlc.methods.base import Losses
from emlc.methods.engine import EngineChoice
from emlc.methods.entropy import entropy
from emlc.methods.label_logits import LabelLogits

_EPSILON = 1e-10
"""Added to a label's probabilities before the logarithm, as published."""


@dataclass(frozen=True, kw_only=True)
class MSLGHyper(Hyper):
    """Hyper-parameters of mslg.

    Attributes:
        inner_learning_rate: Learning rate of the look-ahead step, alpha.
        label_learning_rate: Learning rate of a label, per sample: the published beta divided by the published
            batch size.
        initial_logit: Initial logit of the given class, K; the other classes start at 0.
        entropy_weight: Weight of the predictions' entropy in the student's loss, gamma.
    """

    inner_learning_rate: float = within(0.5)
    label_learning_rate: float = within(4000 / 128)
    initial_logit: float = within(10.0)
    entropy_weight: float = within(1.0)


class MSLG(LabelLogits):
    """The labels of the noisy samples move so that a student step on them lowers the loss on trusted data."""

    name: ClassVar[str] = "mslg"
    reference: ClassVar[str] = "Meta Soft Label Generation for Noisy Labels, Algan and Ulusoy, ICPR 2020"
    warm_up_share: ClassVar[float] = 44 / 120
    hyper_class: ClassVar[type[Hyper]] = MSLGHyper
    follows: ClassVar[tuple[str, ...]] = ("jvp",)
    warms_up: ClassVar[bool] = True
    hyper: MSLGHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self._engine = EngineChoice(self)

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        (batch,) = noisy
        if self.warming_up:
            return {"student_loss": self.descend_cross_entropy(batch)}
        with self.ranks.autocast():
            record, log_f = record_step(self.student, batch.inputs)
        y = self.label_logits[batch.positions]
        down = self._divergence(log_f, y)
        ahead = looked_ahead(self.student, down, self.hyper.inner_learning_rate)
        with self.ranks.autocast():
            trusted_loss, g = trusted_gradient(self.student, trusted.inputs, trusted.labels, ahead)
        y = y - self.hyper.label_learning_rate * len(y) * self.label_gradient(record, g, y)
        self.label_logits[batch.positions] = y

        L_e = entropy(log_f) / self.num_classes
        loss = self._divergence(log_f, y) + self.hyper.entropy_weight * L_e
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach(), "meta_objective": trusted_loss}

    def _divergence(self, log_f: Tensor, y: Tensor) -> Tensor:
        """Compute L_c, 0-d, from log-predictions and label logits (n, C)."""
        log_d = (y.softmax(dim=1) + _EPSILON).log()
        return (log_f.exp() * (log_f - log_d)).sum(dim=1).mean() / self.num_classes

    def label_gradient(self, record: StudentStep, g: Weights, y: Tensor) -> Tensor:
        """Compute the meta-gradient of the label logits y (n, C)."""
        # With a learning rate of 1 the coefficients of soft labels are J_log f(i) g^ / n.
        (c,), engine = meta_gradient([record], g, InnerSGD(1.0), engine=self._engine.requested(record))
        self._engine.used(engine, record)
        d = y.softmax(dim=1)
        v = d / (d + _EPSILON) * record.log_probs.exp() * c
        gradient = v - d * v.sum(dim=1, keepdim=True)
        return self.hyper.inner_learning_rate / self.num_classes * gradient
