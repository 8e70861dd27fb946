"""FaMUS: MW-Net's meta-gradient from a few layers, which a sampler picks.

Youjiang Xu, Linchao Zhu, Lu Jiang and Yi Yang, "Faster Meta Update Strategy for Noise-Robust Deep Learning",
CVPR 2021 (arXiv 2104.15092). As in MW-Net (Shu et al., NeurIPS 2019) a net V (1 -> 100 -> 1, sigmoid) weighs
sample i of a batch of n by its loss l_i, and learns through a step of the student:

    g_l = d_{w_l} mean_i V(l_i) l_i                      virtual-train (Eq. 3), in layer l
    w^_l = w_l - eta g_l
    theta, eta_l <- down L_val                           meta-train (Eq. 4)
    w <- SGD(w, d_w mean_i V_theta'(l_i) l_i)            actual-train (Eq. 5)

The gradient of L_c = CE(trusted; w^) in theta is a sum over layers (Eq. 7). Here only those take part whose
gate ``r_l`` is 1 (Eq. 9), a hard Gumbel-softmax of a small net of that layer's pooled gradient (Eq. 8); the
last layer always does. Layers below the lowest of them need no second backward pass, which is most of the
cost. The nets of the gates learn from the same loss, straight through:

    L_val = L_c + lambda_1 (sum_l r_l - K)^2 + lambda_2 mean (pool(g_L) - pool(d_{w_L} L_c))^2  (Eq. 10 to 12)

A layer is a parameter tensor, as in the authors' code (github.com/youjiangxu/FaMUS); ``pool`` takes the mean
of a gradient over all but its first dimension.

Departures:
- The paper's figures on CIFAR and Clothing1M are of a whole system: DivideMix's two networks, Gaussian
  mixtures and mixed batches, with a pseudo-clean set in place of the trusted one. This is its update strategy
  for MW-Net with a trusted set, as in the paper's comparisons of speed; V has MW-Net's optimiser, Adam.
- Three places where that code differs from the paper are as in the paper: it counts only the last gate in
  Eq. 10, compares also standard deviations in Eq. 11, and its gates have a third linear layer.
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
from emlc.networks.inference import predict_proba
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision

_HIDDEN = 128
"""Units of a gate's net."""


@dataclass(frozen=True, kw_only=True)
class FaMUSHyper(Hyper):
    """Hyper-parameters of famus.

    Attributes:
        meta_learning_rate: Of the Adam that trains the net which weighs samples; ``teacher_learning_rate``
            goes before it.
        gate_learning_rate: Of the SGD that trains the gates of the layers.
        candidate_layers: Parameter tensors before the classifier that may take part in the meta-gradient.
        active_layers: How many of them are wanted, K.
        count_weight: Of the squared difference from that number, lambda_1.
        gradient_weight: Of the squared difference of noisy and trusted gradients in the classifier, lambda_2.
    """

    meta_learning_rate: float = within(1e-3)
    gate_learning_rate: float = within(0.1)
    candidate_layers: int = within(13, 1)
    active_layers: int = within(4)
    count_weight: float = within(0.1)
    gradient_weight: float = within(0.1)


class FaMUS(Method):
    """A net weighs samples by their losses, and learns what is good for trusted ones in a few layers."""

    name: ClassVar[str] = "famus"
    reference: ClassVar[str] = (
        "Faster Meta Update Strategy for Noise-Robust Deep Learning, Xu et al., CVPR 2021"
    )
    warm_up_share: ClassVar[float] = 0.1
    hyper_class: ClassVar[type[Hyper]] = FaMUSHyper
    student: Classifier
    warms_up: ClassVar[bool] = True
    hyper: FaMUSHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.weight_net = WeightNet(100)
        names = [name for name, p in self.student.named_parameters() if p.requires_grad]
        of_classifier = [f"classifier.{name}" for name, _ in self.student.classifier.named_parameters()]
        self._last = of_classifier
        self._candidates = [name for name in names if name not in of_classifier]
        self._candidates = self._candidates[-self.hyper.candidate_layers :]
        if not self._candidates:
            raise InputError(f"backbone: famus samples layers of it, and {settings.backbone} has none")
        rows = [len(self.student.get_parameter(name)) for name in self._candidates]
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(n, _HIDDEN), nn.PReLU(), nn.Linear(_HIDDEN, 2)) for n in rows
        )

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "weight_net": self.weight_net, "gates": self.gates}

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        rate = self.settings.teacher_learning_rate or self.hyper.meta_learning_rate
        self.weight_adam = torch.optim.Adam(self.weight_net.parameters(), rate, weight_decay=1e-4)
        self.gates_sgd = torch.optim.SGD(
            self.gates.parameters(), self.hyper.gate_learning_rate, momentum=0.9, nesterov=True
        )

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "weight_net": self.weight_adam, "gates": self.gates_sgd}

    def scheduled(self) -> list[torch.optim.Optimizer]:
        return [self.student_sgd]

    @torch.no_grad()
    def estimate(self) -> NoisyEstimate:
        y = torch.from_numpy(self.noisy.given)
        given = predict_proba(self.student, self.noisy.inputs)[torch.arange(len(y)), y]
        losses = -given.clamp_min(torch.finfo(given.dtype).tiny).log()
        return NoisyEstimate(weights=self.weigh(losses.to(self.ranks.device)).cpu())

    def weigh(self, losses: Tensor) -> Tensor:
        """V: weights (n,) in (0, 1) of samples with these losses (n,)."""
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
        meta_loss, judged, active = self.meta_loss(losses, trusted)
        for optimizer in (self.weight_adam, self.gates_sgd):
            optimizer.zero_grad(set_to_none=True)
        meta_loss.backward(inputs=[*self.weight_net.parameters(), *self.gates.parameters()])
        self.weight_adam.step()
        self.gates_sgd.step()

        loss = (self.weigh(losses.detach()).detach() * losses).mean()
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach(), "meta_objective": judged, "active_layers": active}

    def meta_loss(self, losses: Tensor, trusted: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """L_val with its graph, L_c and the number of gates at 1, from losses (n,) with theirs."""
        w = {name: p for name, p in self.student.named_parameters() if p.requires_grad}
        weighted = (self.weigh(losses.detach()) * losses).mean()
        gradients = torch.autograd.grad(weighted, list(w.values()), create_graph=True, materialize_grads=True)
        g = dict(zip(w, gradients, strict=True))
        r = self._open([g[name].detach() for name in self._candidates])
        is_open = dict(zip(self._candidates, (r.detach() > 0.5).tolist(), strict=True))
        eta = InnerSGD.of(self.student_sgd).lr
        ahead = {}
        for name, p in w.items():
            direction = g[name] if name in self._last else g[name].detach()
            if name in is_open:
                gate = r[self._candidates.index(name)]
                # The value is the gradient's in both cases; what differs is where it leads back to.
                direction = gate * g[name] if is_open[name] else (1 - gate) * direction
            ahead[name] = p.detach() - eta * direction
        state = ahead | copies(dict(self.student.named_buffers()))
        with self.ranks.autocast():
            logits = full_precision(functional_call(self.student, state, (trusted.inputs,)))
        judged = cross_entropy(logits, trusted.labels)
        wanted = torch.autograd.grad(judged, [ahead[name] for name in self._last], retain_graph=True)
        distances = [
            (pool(g[name]) - pool(other)).square().mean()
            for name, other in zip(self._last, wanted, strict=True)
        ]
        h = self.hyper
        total = judged + h.gradient_weight * torch.stack(distances).sum()
        total = total + h.count_weight * (r.sum() - h.active_layers) ** 2
        return total, judged.detach(), r.detach().sum()

    def _open(self, gradients: Sequence[Tensor]) -> Tensor:
        """Gates r, 0 or 1, of the candidates' gradients."""
        gates = []
        for net, g in zip(self.gates, gradients, strict=True):
            pooled = pool(g)
            pooled = (pooled - pooled.mean()) / (pooled.std(correction=0) + 1e-9)
            gates.append(gumbel_softmax(net(pooled), hard=True)[1])
        return torch.stack(gates)


def pool(g: Tensor) -> Tensor:
    """Means of a gradient over all but its first dimension."""
    return g.flatten(1).mean(dim=1) if g.ndim > 1 else g
