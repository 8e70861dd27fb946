"""The base of methods whose meta-net makes targets and learns through one look-ahead step of the student.

With targets ``q_i(theta)`` (n, C) the student's loss on a noisy batch is
``L~(w, theta) = -1/n sum_i <q_i(theta), log p_w(x_i)>``. A step is

1. ``w^ = w - eta dL~/dw (w, theta)``: the look-ahead step, by plain SGD; the student stays at w
2. ``theta <- Adam(theta, d/dtheta CE(trusted; w^))``
3. ``w <- SGD(w, dL~/dw (w, theta))`` with the new theta, momentum and weight decay

No second derivative is needed for (2). As ``w^`` depends on theta through the targets alone,

    d/dtheta CE(trusted; w^) = eta/n d/dtheta sum_i <q_i(theta), J_w(i) g^>,   g^ = d/dw^ CE(trusted; w^),

where ``J_w(i) g^`` is the derivative of ``log p_w(x_i)`` in the direction ``g^``. This is Eq. 10 of the EMLC
paper, computed by the same JVP engines. The published code differentiates the gradient of (1) instead.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from emlc.config import Settings
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.meta.jvp import record_step
from emlc.meta.metagradient import (
    InnerSGD,
    looked_ahead,
    meta_gradient,
    soft_cross_entropy,
    trusted_gradient,
)
from emlc.methods.base import Losses, Method
from emlc.methods.engine import EngineChoice
from emlc.networks.inference import judge_given
from emlc.runtime.distributed import Ranks


class WeightNet(nn.Sequential):
    """A net that maps losses (n, 1) to weights (n, 1) in (0, 1): a hidden layer of ReLUs, then a sigmoid."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__(nn.Linear(1, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1), nn.Sigmoid())


class OneStep(Method):
    """A method that takes the steps (1) to (3) above.

    If the setting ``teacher_learning_rate`` is given, it replaces the hyper-parameter
    ``meta_learning_rate``. The schedule does not change Adam's learning rate, as in the published code.

    Attributes:
        meta_net: The network with the parameters theta.
    """

    follows: ClassVar[tuple[str, ...]] = ("teacher_learning_rate", "jvp")
    meta_net: nn.Module
    hyper: Any

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self._engine = EngineChoice(self)

    @abstractmethod
    def targets(self, batch: Batch, log_probs: Tensor) -> Tensor:
        """Compute ``q(theta)`` (n, C) from the student's log-probabilities (n, C), which have no graph."""

    def keep(self, batch: Batch, log_probs: Tensor) -> None:
        """Update the method's per-sample tables. Called after (2), without graph."""

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "meta_net": self.meta_net}

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        self.meta_adam = torch.optim.Adam(
            self.meta_net.parameters(),
            self.meta_rate,
            weight_decay=self.hyper.meta_weight_decay,
        )

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "meta_net": self.meta_adam}

    def scheduled(self) -> list[torch.optim.Optimizer]:
        return [self.student_sgd]

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        (batch,) = noisy
        with self.ranks.autocast():
            record, log_probs = record_step(self.student, batch.inputs)
        q = self.targets(batch, log_probs.detach())

        eta = InnerSGD.of(self.student_sgd).lr
        ahead = looked_ahead(self.student, soft_cross_entropy(log_probs, q.detach()), eta)  # (1)
        with self.ranks.autocast():
            trusted_loss, g = trusted_gradient(self.student, trusted.inputs, trusted.labels, ahead)

        (c,), engine = meta_gradient(  # (2)
            [record], g, InnerSGD(eta), engine=self._engine.requested(record)
        )
        self._engine.used(engine, record)
        self.meta_adam.zero_grad(set_to_none=True)
        (c * q).sum().backward()
        self.meta_adam.step()

        # (3) The student has not moved since its forward pass, so its log-probabilities still hold.
        with torch.no_grad():
            q = self.targets(batch, log_probs)
            self.keep(batch, log_probs)
        loss = soft_cross_entropy(log_probs, q)
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach(), "meta_objective": trusted_loss}

    @torch.no_grad()
    def weights_of(self, net: nn.Module) -> Tensor:
        """Return a :class:`WeightNet`'s weights (n,) of the noisy samples, unaugmented, on the CPU."""
        losses = judge_given(self.student, self.noisy).losses
        weights: Tensor = net(losses[:, None].to(self.ranks.device))
        return weights[:, 0].cpu()
