"""MLNT: weights from which a step on wrong labels does not change what is predicted.

Junnan Li, Yongkang Wong, Qi Zhao and Mohan Kankanhalli, "Learning to Learn from Noisy Labeled Data",
CVPR 2019, and the authors' code. There is no meta-net, and the trusted samples serve model choice alone.

A step makes M sets of fake labels for its batch: a random half of the samples take the label of a random
one of their 10 nearest neighbours in the batch, by the features of a network that cross-entropy has trained.
With labels y^m, the student p_w, and p~ whose weights are the moving average of the student's,

    w_m = w - alpha dCE(p_w, y^m)/dw                               one step on each set, only looked at
    L_m = mean_i KL(p~(x_i) || p_{w_m}(x_i))
    w <- SGD(w, dCE(p_w, y)/dw + lambda(t) 1/M sum_m dL_m/dw_m)

where lambda(t) is 0 at first, then rises as ``exp(-5 (1 - u)^2)`` with u from 0 to 1.

Departures:
    - First order, as the paper says: ``dw_m/dw`` is taken for the identity. In the published code the line
      that is to detach the gradient has no effect.
    - The paper's KL is a mean over samples. The published code divides by the number of classes as well.
    - The network of the neighbours is trained in a warm-up, while the student rests. It was a run of its own.
    - One round: the paper trains a second time, without samples that the first one doubts.
    - The student is evaluated; published figures are of the better of student and moving average.
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
from emlc.methods.base import Losses, Method
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
        fake_share: Share of the samples whose label is changed in each.
        neighbours: Nearest samples of the batch that a changed label comes from.
        fake_learning_rate: Of the step on each set.
        consistency_weight: Weight of the divergence from the moving average after that step.
        meta_start: Steps after the warm-up before there is any such step.
        meta_full: Steps after the warm-up from which the divergence has its full weight.
        first_decay: Decay of the moving average until then.
        last_decay: Decay from then on.
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
    """Epochs that train the network of the neighbours, then the steps above."""

    name: ClassVar[str] = "mlnt"
    reference: ClassVar[str] = "Learning to Learn from Noisy Labeled Data, Li et al., CVPR 2019"
    warm_up_share: ClassVar[float] = 0.5
    hyper_class: ClassVar[type[Hyper]] = MLNTHyper
    uses_trusted: ClassVar[bool] = False
    warms_up: ClassVar[bool] = True
    student: Classifier
    hyper: MLNTHyper

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

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        self.neighbours_sgd = self.make_sgd(self.neighbours, self.settings.learning_rate)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "neighbours": self.neighbours_sgd}

    def bind(self, split: Split) -> None:
        super().bind(split)
        start, after = self.hyper.meta_start, self.settings.epochs - self.settings.warm_up
        if (steps := self.steps_in(split, after)) <= start:
            _log.warning(
                f"mlnt: the {steps:,} steps after the warm-up end before hyper.meta_start = {start:,}: "
                "this is cross-entropy"
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
            p_average = self._averaged(batch.inputs)
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

    def _steps(self) -> int:
        """Steps since the warm-up."""
        step = int(self.step_number)
        return step - int(self.decisions.setdefault("first_step", str(step)))

    def _weight(self) -> float:
        """``lambda(t)``."""
        start, full = self.hyper.meta_start, self.hyper.meta_full
        if (t := self._steps()) < start:
            return 0.0
        u = min(1.0, (t - start) / max(1, full - start))
        return self.hyper.consistency_weight * math.exp(-5 * (1 - u) ** 2)

    @torch.no_grad()
    def _averaged(self, inputs: Tensor) -> Tensor:
        """``p~`` (n, C), after the moving average has taken in the student's weights."""
        t, h = self._steps(), self.hyper
        decay = 0.0 if t == h.meta_start else h.first_decay if t < h.meta_full else h.last_decay
        for average, p in zip(self.average.parameters(), self.student.parameters(), strict=True):
            average.lerp_(p, 1 - decay)
        with self.ranks.autocast():
            return full_precision(self.average(inputs)).softmax(dim=1)

    @torch.no_grad()
    def _fake_labels(self, batch: Batch) -> list[Tensor]:
        """M sets of labels (n,)."""
        self.neighbours.eval()
        with self.ranks.autocast():
            h = full_precision(self.neighbours.backbone(batch.inputs))
        n, device = len(h), h.device
        distance = torch.cdist(h, h).fill_diagonal_(math.inf)
        nearest = distance.topk(min(self.hyper.neighbours, n - 1), largest=False).indices
        sets = []
        for _ in range(self.hyper.fake_sets):
            changed = torch.randperm(n, device=device)[: int(self.hyper.fake_share * n)]
            which = torch.randint(nearest.shape[1], (len(changed),), device=device)
            labels = batch.labels.clone()
            labels[changed] = batch.labels[nearest[changed, which]]
            sets.append(labels)
        return sets

    def _divergence(self, weights: Weights, inputs: Tensor, p_average: Tensor) -> Tensor:
        """``mean_i KL(p~(x_i) || p_w(x_i))`` at other weights; running statistics stay."""
        state = weights | copies(dict(self.student.named_buffers()))
        logits = full_precision(functional_call(self.student, state, (inputs,)))
        return kl_div(log_softmax(logits, dim=1), p_average, reduction="batchmean")


def _gradient(loss: Tensor, weights: Weights) -> Weights:
    """In each of the weights; the loss' graph stays."""
    gradients = torch.autograd.grad(
        loss, list(weights.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return dict(zip(weights, gradients, strict=True))
