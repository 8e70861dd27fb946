"""MLNT: learns weights from which a step on wrong labels changes the predictions little.

Junnan Li, Yongkang Wong, Qi Zhao and Mohan Kankanhalli, "Learning to Learn from Noisy Labeled Data",
CVPR 2019, and the authors' code. There is no meta-net, and the trusted samples only choose the epoch.

A step draws M sets of fake labels for its batch: a random half of the samples take the label of one of their
10 nearest neighbours in the batch, by the features of a network trained with cross-entropy. With labels y^m,
the student p_w, and p~ whose weights are the moving average of the student's,

    w_m = w - alpha dCE(p_w, y^m)/dw                               look-ahead step on each set
    L_m = 1/C mean_i KL(p~(x_i) || p_{w_m}(x_i))
    w <- SGD(w, dCE(p_w, y)/dw + lambda(t) 1/M sum_m dL_m/dw_m)

where lambda(t) is 0 at first, then rises as ``exp(-5 (1 - u)^2)`` with u from 0 to 1. L_m is a mean over the
C classes as well, as in the code. After an epoch the student or the moving average is the result, whichever
is better on the samples that choose the epoch.

Departures:
    - First order, as in the paper: ``dw_m/dw`` is replaced by the identity. In the published code the line
      that should detach the gradient has no effect.
    - The network that finds the neighbours is trained in the warm-up, in which the student does not train.
      The authors trained it in a separate run.
    - One round only: the paper trains a second time, without the samples that the first round finds doubtful.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.meta.jvp import Weights
from emlc.meta.replay import copies
from emlc.methods.base import Losses, MetaObjective, Method
from emlc.networks.backbones import Classifier
from emlc.networks.initial_weights import load_initial_weights
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MLNTHyper(Hyper):
    """Hyper-parameters of MLNT.

    Attributes:
        fake_sets: Sets of fake labels for each batch, M.
        fake_share: Share of the samples in each set whose label is changed.
        neighbours: Number of nearest neighbours in the batch from which a changed label is drawn.
        fake_learning_rate: Learning rate of the look-ahead step on each set, alpha.
        consistency_weight: Weight of the divergence from the moving average after that step.
        meta_start: Number of steps after the warm-up from which on the divergence has a weight.
        meta_full: Number of steps after the warm-up from which on it has its full weight.
        first_decay: Decay of the moving average before ``meta_full``.
        last_decay: Decay of the moving average from ``meta_full`` on.
    """

    fake_sets: int = within(10, 1)
    fake_share: float = within(0.5, 0, 1)
    neighbours: int = within(10, 1)
    fake_learning_rate: float = within(0.02)
    consistency_weight: float = within(1.0)
    meta_start: int = within(500)
    meta_full: int = within(2000)
    first_decay: float = within(0.99, 0, 1)
    last_decay: float = within(0.999, 0, 1)


class MLNT(Method):
    """A warm-up that trains the network that finds the neighbours, then the steps above."""

    name: ClassVar[str] = "mlnt"
    reference: ClassVar[str] = "Learning to Learn from Noisy Labeled Data, Li et al., CVPR 2019"
    warm_up_share: ClassVar[float] = 0.5
    hyper_class: ClassVar[type[Hyper]] = MLNTHyper
    uses_trusted: ClassVar[bool] = False
    warms_up: ClassVar[bool] = True
    student: Classifier
    hyper: MLNTHyper

    @classmethod
    def meta_objective(cls, settings: Settings) -> MetaObjective:
        return MetaObjective("student's divergence from its moving average", "nats per class")

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.neighbours = self.build_student()
        self.average = self.build_student().requires_grad_(False)

    def load_initial_weights(self) -> list[str]:
        s = self.settings
        load_initial_weights(self.neighbours.backbone, s.init, s.backbone, "neighbours")
        return super().load_initial_weights()

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "neighbours": self.neighbours, "average": self.average}

    def candidates(self) -> list[nn.Module]:
        has_average = "first_average" in self.decisions
        return [self.student, self.average] if has_average else [self.student]

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        self.neighbours_sgd = self.make_sgd(self.neighbours, self.settings.student_rate)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "neighbours": self.neighbours_sgd}

    def bind(self, split: Split) -> None:
        super().bind(split)
        start, after = self.hyper.meta_start, self.settings.passes - self.settings.warm_up
        if (steps := self.steps_in(split, after)) <= start:
            _log.warning(
                f"mlnt: the {steps:,} steps after the warm-up end before hyper.meta_start = {start:,}: "
                "the meta loss never starts, and this is cross-entropy"
            )

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        with self.ranks.autocast():
            network = self.neighbours if self.warming_up else self.student
            logits = full_precision(network(batch.inputs))
        loss = cross_entropy(logits, batch.labels)
        if self.warming_up:
            self.descend(loss, self.neighbours_sgd)
            return {"student_loss": loss.detach(), "meta_objective": torch.zeros_like(loss.detach())}

        w: Weights = {name: p for name, p in self.student.named_parameters() if p.requires_grad}
        gradient = _gradient(loss, w)
        meta_loss = torch.zeros_like(loss.detach())
        if (weight := self._weight()) > 0:
            p_average = self._average_predictions(batch.inputs)
            for labels in self._fake_labels(batch):
                step = _gradient(cross_entropy(logits, labels), w)
                alpha = self.hyper.fake_learning_rate
                moved = {name: (w[name] - alpha * step[name]).detach().requires_grad_() for name in w}
                with self.ranks.autocast():
                    kl = self._divergence(moved, batch.inputs, p_average)
                share = 1 / self.hyper.fake_sets
                meta_loss += share * kl.detach()
                for name, g in _gradient(kl, moved).items():
                    gradient[name] = gradient[name] + weight * share * g
        for name, p in w.items():
            p.grad = gradient[name]
        self.descend_gradients(self.student_sgd)
        return {"student_loss": loss.detach(), "meta_objective": meta_loss}

    def _steps_since_warm_up(self) -> int:
        """Return the number of steps since the warm-up, whose end is stored in ``decisions``."""
        step = int(self.step_number)
        return step - int(self.decisions.setdefault("first_step", str(step)))

    def _weight(self) -> float:
        """Return ``lambda(t)``."""
        start, full = self.hyper.meta_start, self.hyper.meta_full
        if (t := self._steps_since_warm_up()) < start:
            return 0.0
        u = min(1.0, (t - start) / max(1, full - start))
        return self.hyper.consistency_weight * math.exp(-5 * (1 - u) ** 2)

    @torch.no_grad()
    def _average_predictions(self, inputs: Tensor) -> Tensor:
        """Update the moving average with the student's weights; return its predictions ``p~`` (n, C)."""
        t, h = self._steps_since_warm_up(), self.hyper
        self.decisions.setdefault("first_average", str(int(self.step_number)))
        decay = 0.0 if t == h.meta_start else h.first_decay if t < h.meta_full else h.last_decay
        for average, p in zip(self.average.parameters(), self.student.parameters(), strict=True):
            average.lerp_(p, 1 - decay)
        with self.ranks.autocast():
            return full_precision(self.average(inputs)).softmax(dim=1)

    @torch.no_grad()
    def _fake_labels(self, batch: Batch) -> list[Tensor]:
        """Draw M sets of fake labels (n,)."""
        self.neighbours.eval()
        with self.ranks.autocast():
            h = full_precision(self.neighbours.backbone(batch.inputs))
        n, device = len(h), h.device
        distance = torch.cdist(h, h).fill_diagonal_(math.inf)
        nearest = distance.topk(min(self.hyper.neighbours, n - 1), largest=False).indices
        sets = []
        for _ in range(self.hyper.fake_sets):
            changed = torch.randperm(n, device=device)[: int(self.hyper.fake_share * n)]
            columns = torch.randint(nearest.shape[1], (len(changed),), device=device)
            labels = batch.labels.clone()
            labels[changed] = batch.labels[nearest[changed, columns]]
            sets.append(labels)
        return sets

    def _divergence(self, weights: Weights, inputs: Tensor, p_average: Tensor) -> Tensor:
        """Compute ``1/C mean_i KL(p~(x_i) || p_w(x_i))`` at these weights; running statistics stay."""
        state = weights | copies(dict(self.student.named_buffers()))
        logits = full_precision(functional_call(self.student, state, (inputs,)))
        kl = kl_div(log_softmax(logits, dim=1), p_average, reduction="batchmean")
        return kl / p_average.shape[1]


def _gradient(loss: Tensor, weights: Weights) -> Weights:
    """Compute the gradient of a loss in each of the weights; the graph is retained."""
    gradients = torch.autograd.grad(
        loss, list(weights.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return dict(zip(weights, gradients, strict=True))
