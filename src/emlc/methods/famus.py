"""FaMUS: MW-Net with a meta-gradient through a few layers only, chosen by learned gates.

Youjiang Xu, Linchao Zhu, Lu Jiang and Yi Yang, "Faster Meta Update Strategy for Noise-Robust Deep Learning",
CVPR 2021 (arXiv 2104.15092). As in MW-Net (Shu et al., NeurIPS 2019) a net V (1 -> 100 -> 1, sigmoid) weights
sample i of a batch of n by its loss l_i, and learns through a step of the student:

    g_l = d_{w_l} mean_i V(l_i) l_i                      virtual-train (Eq. 3), in layer l
    w^_l = w_l - eta g_l
    theta, eta_l <- down L_val                           meta-train (Eq. 4)
    w <- SGD(w, d_w mean_i V_theta'(l_i) l_i)            actual-train (Eq. 5)

The gradient of L_c = CE(trusted; w^) in theta is a sum over layers (Eq. 7). In FaMUS only layers whose gate
``r_l`` is 1 take part (Eq. 9), and the last layer always does. A gate is a hard Gumbel-softmax, as in the
code of temperature 5, of a small net of the layer's pooled gradient (Eq. 8). Layers below the lowest active
one need no second backward pass, which is most of the cost. The gates learn from the same loss, with the
straight-through estimator:

    L_val = L_c + lambda_1 (sum_l r_l - K)^2 + lambda_2 mean (pool(g_L) - pool(d_{w_L} L_c))^2  (Eq. 10 to 12)

A layer is a parameter tensor, as in the authors' code (github.com/youjiangxu/FaMUS); ``pool`` takes the mean
of a gradient over all but its first dimension.

Departures:
- The paper's accuracies on CIFAR and Clothing1M are those of a whole system: DivideMix's two networks,
  Gaussian mixtures and mixed batches, with a pseudo-clean set in place of the trusted set. This is its update
  strategy for MW-Net with a trusted set, as in the paper's comparisons of speed; V has MW-Net's optimiser,
  Adam.
- Where the code differs from the paper, this follows the paper: the code counts only the last gate in Eq. 10,
  compares standard deviations too in Eq. 11, and has a third linear layer in the gates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, gumbel_softmax

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.errors import InputError
from emlc.meta.metagradient import InnerSGD
from emlc.meta.replay import copies
from emlc.methods.base import Losses, Method, NoisyEstimate
from emlc.methods.one_step import WeightNet
from emlc.networks.backbones import Classifier
from emlc.networks.inference import judge_given
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision

_TAU = 5.0
"""Temperature of the Gumbel-softmax whose gradient the gates get, as published."""


@dataclass(frozen=True, kw_only=True)
class FaMUSHyper(Hyper):
    """Hyper-parameters of famus.

    Attributes:
        hidden_dim: Hidden units of the net V.
        meta_learning_rate: Learning rate of V's Adam, unless teacher_learning_rate is given.
        meta_weight_decay: Weight decay of V.
        gate_hidden_dim: Hidden units of a gate's net.
        gate_learning_rate: Learning rate of the gates' SGD.
        gate_momentum: Nesterov momentum of the gates' SGD.
        candidate_layers: Number of last parameter tensors before the classifier that have a gate.
        active_layers: Target number of gates at 1, K.
        count_weight: Weight of the squared difference from that number, lambda_1.
        gradient_weight: Weight of the squared difference between the noisy and the trusted gradient of the
            classifier, lambda_2.
    """

    hidden_dim: int = within(100, 1)
    meta_learning_rate: float = within(1e-3)
    meta_weight_decay: float = within(1e-4)
    gate_hidden_dim: int = within(128, 1)
    gate_learning_rate: float = within(0.1)
    gate_momentum: float = within(0.9, 0, 1)
    candidate_layers: int = within(13, 1)
    active_layers: int = within(4)
    count_weight: float = within(0.1)
    gradient_weight: float = within(0.1)


class FaMUS(Method):
    """A net weights samples by their losses; its meta-gradient goes through a few gated layers only."""

    name: ClassVar[str] = "famus"
    reference: ClassVar[str] = (
        "Faster Meta Update Strategy for Noise-Robust Deep Learning, Xu et al., CVPR 2021"
    )
    warm_up_share: ClassVar[float] = 0.1
    hyper_class: ClassVar[type[Hyper]] = FaMUSHyper
    follows: ClassVar[tuple[str, ...]] = ("teacher_learning_rate",)
    student: Classifier
    warms_up: ClassVar[bool] = True
    hyper: FaMUSHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.weight_net = WeightNet(self.hyper.hidden_dim)
        names = [name for name, p in self.student.named_parameters() if p.requires_grad]
        self._classifier_names = [
            f"classifier.{name}" for name, _ in self.student.classifier.named_parameters()
        ]
        self._candidates = [name for name in names if name not in self._classifier_names]
        self._candidates = self._candidates[-self.hyper.candidate_layers :]
        if not self._candidates:
            raise InputError(f"backbone: famus samples layers of it, and {settings.backbone} has none")
        rows = [len(self.student.get_parameter(name)) for name in self._candidates]
        hidden = self.hyper.gate_hidden_dim
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(n, hidden), nn.PReLU(), nn.Linear(hidden, 2)) for n in rows
        )

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "weight_net": self.weight_net, "gates": self.gates}

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        h = self.hyper
        self.weight_adam = torch.optim.Adam(
            self.weight_net.parameters(), self.meta_rate, weight_decay=h.meta_weight_decay
        )
        self.gates_sgd = torch.optim.SGD(
            self.gates.parameters(),
            h.gate_learning_rate,
            momentum=h.gate_momentum,
            nesterov=h.gate_momentum > 0,
        )

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "weight_net": self.weight_adam, "gates": self.gates_sgd}

    def scheduled(self) -> list[torch.optim.Optimizer]:
        return [self.student_sgd]

    @torch.no_grad()
    def estimate(self) -> NoisyEstimate:
        losses = judge_given(self.student, self.noisy).losses
        return NoisyEstimate(weights=self.weigh(losses.to(self.ranks.device)).cpu())

    def weigh(self, losses: Tensor) -> Tensor:
        """Compute V: weights (n,) in (0, 1) of samples with these losses (n,)."""
        weights: Tensor = self.weight_net(losses[:, None])[:, 0]
        return weights

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        (batch,) = noisy
        if self.warming_up:
            return {"student_loss": self.descend_cross_entropy(batch)}
        with self.ranks.autocast():
            logits = full_precision(self.student(batch.inputs))
        losses = cross_entropy(logits, batch.labels, reduction="none")
        meta_loss, trusted_loss, active = self.meta_loss(losses, trusted)
        for optimizer in (self.weight_adam, self.gates_sgd):
            optimizer.zero_grad(set_to_none=True)
        meta_loss.backward(inputs=[*self.weight_net.parameters(), *self.gates.parameters()])
        self.weight_adam.step()
        self.gates_sgd.step()

        loss = (self.weigh(losses.detach()).detach() * losses).mean()
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach(), "meta_objective": trusted_loss, "active_layers": active}

    def meta_loss(self, losses: Tensor, trusted: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Compute L_val with its graph, L_c and the number of open gates, from losses (n,) with a graph."""
        w = {name: p for name, p in self.student.named_parameters() if p.requires_grad}
        weighted = (self.weigh(losses.detach()) * losses).mean()
        gradients = torch.autograd.grad(weighted, list(w.values()), create_graph=True, materialize_grads=True)
        g = dict(zip(w, gradients, strict=True))
        r = self._sample_gates([g[name].detach() for name in self._candidates])
        is_open = dict(zip(self._candidates, (r.detach() > 0.5).tolist(), strict=True))
        eta = InnerSGD.of(self.student_sgd).lr
        ahead = {}
        for name, p in w.items():
            direction = g[name] if name in self._classifier_names else g[name].detach()
            if name in is_open:
                gate = r[self._candidates.index(name)]
                # The value is the same either way; only an open gate lets the meta-gradient through g.
                direction = gate * g[name] if is_open[name] else (1 - gate) * direction
            ahead[name] = p.detach() - eta * direction
        state = ahead | copies(dict(self.student.named_buffers()))
        with self.ranks.autocast():
            logits = full_precision(functional_call(self.student, state, (trusted.inputs,)))
        trusted_loss = cross_entropy(logits, trusted.labels)
        classifier = [ahead[name] for name in self._classifier_names]
        trusted_gradients = torch.autograd.grad(trusted_loss, classifier, retain_graph=True)
        distances = [
            (pool(g[name]) - pool(gradient)).square().mean()
            for name, gradient in zip(self._classifier_names, trusted_gradients, strict=True)
        ]
        h = self.hyper
        total = trusted_loss + h.gradient_weight * torch.stack(distances).sum()
        total = total + h.count_weight * (r.sum() - h.active_layers) ** 2
        return total, trusted_loss.detach(), r.detach().sum()

    def _sample_gates(self, gradients: Sequence[Tensor]) -> Tensor:
        """Sample the gates r (candidates,), 0 or 1, from the candidate layers' gradients."""
        gates = []
        for net, g in zip(self.gates, gradients, strict=True):
            pooled = pool(g)
            pooled = (pooled - pooled.mean()) / (pooled.std(correction=0) + 1e-9)
            gates.append(gumbel_softmax(net(pooled), tau=_TAU, hard=True)[1])
        return torch.stack(gates)


def pool(g: Tensor) -> Tensor:
    """Return the mean of a gradient over all but its first dimension."""
    return g.flatten(1).mean(dim=1) if g.ndim > 1 else g
