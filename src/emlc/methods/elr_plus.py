"""ELR+: a regulariser holds two networks to their early predictions, made before they fit wrong labels.

Liu, Niles-Weed, Razavian and Fernandez-Granda: Early-Learning Regularization Prevents Memorization of Noisy
Labels, NeurIPS 2020.

Each network f has running targets q for every sample, the moving average of the predictions of the *other*
network's weight-averaged copy g', and a loss that pulls f towards them (Eq. 5 and 6; Sec. 4.2 and 4.3):

    q     = beta q + (1 - beta) g'(x)                       from q = 0, each time the sample is visited
    mixup:  l ~ Beta(1, 1), l = max(l, 1 - l), of inputs, labels and q alike, within the batch
    loss  = mean [ CE(f, y) + lambda log(1 - <q, p>) ],     p = f clamped to [1e-4, 1 - 1e-4]
    g     = gamma g + (1 - gamma) f                         after each step, parameters only

There is no warm-up, and the given labels are in the loss until the end. The student is both networks f, whose
logits are averaged.

Published (beta, lambda): CIFAR-10 with symmetric noise (0.7, 3), with asymmetric noise (0.9, 1); CIFAR-100
(0.9, 7); Clothing1M (0.7, 3). gamma is 0.997, and 0.999 on Clothing1M; for CIFAR it is multiplied by
``exp(-5 (1 - t / 40,000)^2)`` in the first 40,000 of 78,200 steps t. Without such a ramp, as on Clothing1M,
it is ``min(1 - 1 / t, gamma)``: first the plain average, then the exponential one.

Departures:

- The published code trains one network for an epoch, then the other, each with its own order of batches. Here
  both learn from the same batch, one after the other, each from its own view.
- The averaged networks start as copies of the networks. In the published code they start from other random
  weights, which vanish from the average within a few steps.
- For CIFAR-100 alone the code also ramps lambda over 40,000 steps, and multiplies the labels by q; neither is
  done here.
"""

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method, NoisyEstimate, View
from emlc.methods.mixup import draw_mixture
from emlc.methods.pair import Pair
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ELRPlusHyper(Hyper):
    """Hyper-parameters of ELR+; the defaults are those for CIFAR-10 with symmetric noise.

    Attributes:
        target_momentum: Momentum beta of the running targets; 0.9 for asymmetric noise and CIFAR-100.
        regularisation: Weight lambda of the regulariser; 1 for asymmetric noise, 7 for CIFAR-100.
        mixup_alpha: alpha of mixup's Beta(alpha, alpha).
        weight_momentum: Momentum gamma of the averaged weights; 0.999 on Clothing1M.
        weight_ramp_steps: Number of steps over which gamma rises; with 0 the average starts as the plain one.
    """

    target_momentum: float = within(0.7, 0, 1)
    regularisation: float = within(3.0)
    mixup_alpha: float = within(1.0, 0.01)
    weight_momentum: float = within(0.997, 0, 1)
    weight_ramp_steps: int = within(40_000)


class ELRPlus(Method):
    """Cross-entropy, and a regulariser that pulls each network towards the other's earlier predictions."""

    name: ClassVar[str] = "elr-plus"
    reference: ClassVar[str] = (
        "Early-Learning Regularization Prevents Memorization of Noisy Labels, Liu et al., NeurIPS 2020"
    )
    hyper_class: ClassVar[type[Hyper]] = ELRPlusHyper
    uses_trusted: ClassVar[bool] = False
    views: ClassVar[tuple[View, ...]] = ("weak", "weak")
    student: Pair
    hyper: ELRPlusHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.student = Pair(self.build_student(), self.build_student())
        self.averages = deepcopy(self.student).requires_grad_(False)

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "averages": self.averages}

    def setup(self, ranks: Ranks) -> None:
        self.averages.load_state_dict(self.student.state_dict())  # initial weights may have been loaded since
        super().setup(ranks)

    def bind(self, split: Split) -> None:
        super().bind(split)
        self._targets = torch.zeros(len(split.noisy), 2, self.num_classes, device=self.ranks.device)
        ramp, steps = self.hyper.weight_ramp_steps, self.steps_in(split, self.settings.passes)
        if steps < ramp:
            _log.warning(
                f"elr-plus: the {steps:,} steps end within hyper.weight_ramp_steps = {ramp:,}: the weight "
                "averages stay near the networks"
            )

    def sample_state(self) -> dict[str, Tensor]:
        return {"targets": self._targets}

    def estimate(self) -> NoisyEstimate:
        """Return the mean of both networks' q, normalised to a sum of 1."""
        tiny = torch.finfo(torch.float32).tiny  # before the first step q is 0: not 0 / 0 then
        q = self._targets.mean(dim=1).cpu() + tiny
        return NoisyEstimate(q / q.sum(dim=1, keepdim=True))

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        losses = [self._learn(i, inputs, batch) for i, inputs in enumerate(batch.views)]
        return {"student_loss": torch.stack(losses).mean()}

    def _learn(self, i: int, inputs: Tensor, batch: Batch) -> Tensor:
        """Train network i for one step on its view of the batch; return its loss, 0-d."""
        network, average = self.student.both[i], self.averages.both[i]
        q = self._update_targets(i, inputs, batch.positions)
        y = one_hot(batch.labels, self.num_classes).to(q)
        mix = draw_mixture(len(y), self.hyper.mixup_alpha, q.device)
        with self.ranks.autocast():
            logits = full_precision(network(mix(inputs)))
        loss = elr_loss(logits, mix(y), mix(q), self.hyper.regularisation)
        # Both networks share an optimiser, which skips the other network: it has no gradient.
        self.descend(loss, self.student_sgd)
        self._average(average, network)
        return loss.detach()

    @torch.no_grad()
    def _update_targets(self, i: int, inputs: Tensor, positions: Tensor) -> Tensor:
        """Update network i's q (n, C) with the prediction of the other network's average; return it.

        The average predicts in training mode, as in the published code: its running statistics are its own.
        """
        with self.ranks.autocast():
            logits = full_precision(self.averages.both[1 - i](inputs))
        beta = self.hyper.target_momentum
        q = beta * self._targets[positions, i] + (1 - beta) * logits.softmax(dim=1).to(self._targets)
        self._targets[positions, i] = q
        return q

    @torch.no_grad()
    def _average(self, average: nn.Module, network: nn.Module) -> None:
        """Update a weight average with the parameters of its network."""
        gamma = self.weight_momentum
        for mean, p in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(p, (1 - gamma).to(mean))

    @property
    def weight_momentum(self) -> Tensor:
        """gamma in the current step, 0-d float32."""
        t = self.step_number + 2  # as the published code counts
        gamma, ramp = self.hyper.weight_momentum, self.hyper.weight_ramp_steps
        if ramp == 0:
            return (1 - 1 / t).clamp(max=gamma)
        return gamma * (-5 * (1 - t / ramp).clamp(min=0) ** 2).exp()


def elr_loss(logits: Tensor, y: Tensor, q: Tensor, regularisation: float) -> Tensor:
    """Compute the mean of CE(f, y) + lambda log(1 - <q, p>), 0-d.

    Args:
        logits: (n, C) of the network f.
        y: (n, C) labels as probabilities.
        q: (n, C) targets, whose rows sum to at most 1.
        regularisation: lambda.
    """
    log_probs = log_softmax(logits, dim=1)
    p = log_probs.exp().clamp(1e-4, 1 - 1e-4)
    return (-(y * log_probs).sum(dim=1) + regularisation * (1 - (q * p).sum(dim=1)).log()).mean()
