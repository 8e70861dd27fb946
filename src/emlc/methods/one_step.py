"""What methods share whose meta-net makes targets, and learns by one step of the student looked ahead.

With targets ``q_i(theta)`` (n, C) the student's loss on a noisy batch is
``L~(w, theta) = -1/n sum_i <q_i(theta), log p_w(x_i)>``. A step is

1. ``w^ = w - eta dL~/dw (w, theta)``: plain SGD, and only looked at
2. ``theta <- Adam(theta, d/dtheta CE(trusted; w^))``
3. ``w <- SGD(w, dL~/dw (w, theta))`` with the new theta, momentum and weight decay

No second derivative is needed for (2). As ``w^`` depends on theta through the targets alone,

    d/dtheta CE(trusted; w^) = eta/n d/dtheta sum_i <q_i(theta), J_w(i) g^>,   g^ = d/dw^ CE(trusted; w^),

where ``J_w(i) g^`` is the derivative of ``log p_w(x_i)`` in the direction ``g^``. That is Eq. 10 of EMLC's
paper, and its engines compute it. Published codes go backward through the gradient of (1) instead.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

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
from emlc.networks.inference import predict_proba
from emlc.runtime.distributed import Ranks


class WeightNet(nn.Sequential):
    """Losses (n, 1) to weights (n, 1) in (0, 1): a hidden layer of ReLUs, then a sigmoid."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__(nn.Linear(1, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1), nn.Sigmoid())


class OneStep(Method):
    """The steps (1) to (3) above.

    The setting ``teacher_learning_rate``, where it is given, stands for the hyper-parameter
    ``meta_learning_rate``. The schedule leaves Adam's rate alone, as the published codes do.

    Attributes:
        meta_net: What theta is of.
    """

    meta_net: nn.Module
    hyper: Any

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self._engine = EngineChoice(self)

    @abstractmethod
    def targets(self, batch: Batch, log_probs: Tensor) -> Tensor:
        """``q(theta)`` (n, C), given the student's log-probabilities (n, C) without graph."""

    def keep(self, batch: Batch, log_probs: Tensor) -> None:
        """Called after (2), without graph: for what a method keeps of each sample."""

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "meta_net": self.meta_net}

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        self.meta_adam = torch.optim.Adam(
            self.meta_net.parameters(),
            self.settings.teacher_learning_rate or self.hyper.meta_learning_rate,
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

        # (3) The student is where it was: so are its log-probabilities.
        with torch.no_grad():
            q = self.targets(batch, log_probs)
            self.keep(batch, log_probs)
        loss = soft_cross_entropy(log_probs, q)
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach(), "meta_objective": trusted_loss}

    @torch.no_grad()
    def weights_of(self, net: nn.Module) -> Tensor:
        """What a :class:`WeightNet` gives for the loss of each noisy sample (n,), as it is, on the CPU."""
        p = predict_proba(self.student, self.noisy.inputs)
        losses = nll_loss(p.clamp_min(1e-12).log(), torch.from_numpy(self.noisy.given), reduction="none")
        weights: Tensor = net(losses[:, None].to(self.ranks.device))
        return weights[:, 0].cpu()
