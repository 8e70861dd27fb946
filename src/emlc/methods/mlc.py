"""Meta label correction: a meta-net computes soft labels from the student's features and the given label.

Guoqing Zheng, Ahmed Hassan Awadallah and Susan Dumais, "Meta Label Correction for Noisy Label Learning",
AAAI 2021, and the authors' code.

The meta-gradient is a second backward pass through the student's gradient. This is as fast as that
formulation allows: the second pass is pruned to what depends on the meta-net, gradients that it does not
run through keep no graph, and nothing waits for the device.

Departures:
    - In the published code every iteration has a trusted batch of its own. Here the k iterations of a step
      share one, as the training loop provides one trusted batch per step.
    - A shorter look-ahead at the end of an epoch ends with a step of Adam, too. In the published code it
      continues in the next epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.errors import InputError
from emlc.meta.jvp import Weights
from emlc.meta.metagradient import InnerSGD, soft_cross_entropy, trusted_gradient
from emlc.methods.base import Losses, Method, NoisyEstimate
from emlc.networks.backbones import Classifier
from emlc.networks.inference import in_batches
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision


@dataclass(frozen=True, kw_only=True)
class MLCHyper(Hyper):
    """Hyper-parameters of MLC.

    Attributes:
        label_embedding_dim: Width of the meta-net's label embedding.
        hidden_dim: Width of the meta-net's two hidden layers.
        skip: Whether a further logit mixes the given label into the soft label; published for Clothing1M.
        meta_learning_rate: Learning rate of the meta-net's Adam, unless teacher_learning_rate is given.
    """

    label_embedding_dim: int = within(128, 1)
    hidden_dim: int = within(128, 1)
    skip: bool = within(False)
    meta_learning_rate: float = within(3e-4)


class MetaNet(nn.Module):
    """The meta-net: soft labels from the student's features and the label embedding, by two tanh layers.

    With ``skip`` a further logit ``a`` mixes the given label in:
    ``q = (1 - sigmoid(a)) softmax(...) + sigmoid(a) onehot(y)``.

    Args:
        feature_dim: Width of the student's representation.
        num_classes: C.
        hyper: The widths, and ``skip``.
    """

    def __init__(self, feature_dim: int, num_classes: int, hyper: MLCHyper) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.skip = hyper.skip
        self.label_embedding = nn.Embedding(num_classes, hyper.label_embedding_dim)
        self.layers = nn.Sequential(
            nn.Linear(feature_dim + hyper.label_embedding_dim, hyper.hidden_dim),
            nn.Tanh(),
            nn.Linear(hyper.hidden_dim, hyper.hidden_dim),
            nn.Tanh(),
            nn.Linear(hyper.hidden_dim, num_classes + self.skip),
        )
        # As published: Xavier, uniform for the embedding and normal for the layers; biases start at zero.
        nn.init.xavier_uniform_(self.label_embedding.weight)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, h: Tensor, labels: Tensor) -> Tensor:
        """Compute soft labels (n, C) from representations (n, feature_dim) and given labels (n,) int64."""
        z = self.label_embedding(labels)
        logits = full_precision(self.layers(torch.cat([h, z], dim=1)))
        q = logits[:, : self.num_classes].softmax(dim=1)
        if not self.skip:
            return q
        retain_weight = logits[:, self.num_classes :].sigmoid()
        return (1 - retain_weight) * q + retain_weight * one_hot(labels, self.num_classes)


class _Iteration(NamedTuple):
    """The result of an iteration: the meta-gradient with its discounted history, and the two losses, 0-d."""

    meta_gradient: tuple[Tensor, ...]
    student_loss: Tensor
    trusted_loss: Tensor


class MLC(Method):
    """A meta-net on the student's features computes the soft labels that the student learns from.

    For one process. A step is k iterations of (1) to (5) and (7), then (6). With ``L(w) = CE`` on one half
    of the trusted batch and ``L~(w, alpha)`` the mean, over noisy samples and the other half, of the
    cross-entropy with the meta-net's labels and with the trusted ones,

    1. ``g = dL(w)``
    2. ``g~ = d_w L~(w, alpha)``, with its graph
    3. ``w' = SGD(w, g~)``, momentum and weight decay included
    4. ``g' = dL(w')``
    5. ``d_alpha = d/d_alpha (-<g~, eta g'>) + gamma d_alpha,previous``,
       ``gamma = <(1 - eta) g', g> / |g|^2``
    6. after k iterations: Adam (amsgrad) moves alpha along ``d_alpha``, which is then reset to zero
    7. ``w = w'``

    If the setting ``teacher_learning_rate`` is given, it replaces the hyper-parameter
    ``meta_learning_rate``. The schedule does not change Adam's learning rate, as in the published code.
    """

    name: ClassVar[str] = "mlc"
    reference: ClassVar[str] = "Meta Label Correction for Noisy Label Learning, Zheng et al., AAAI 2021"
    hyper_class: ClassVar[type[Hyper]] = MLCHyper
    follows: ClassVar[tuple[str, ...]] = ("teacher_learning_rate",)
    looks_ahead: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    student: Classifier
    hyper: MLCHyper
    measures_unused_discount: ClassVar[bool] = True
    """Whether g and gamma are also computed in the first iteration of a step, where the history is zero."""

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.meta_net = MetaNet(self.student.classifier.in_features, num_classes, self.hyper)

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "meta_net": self.meta_net}

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        self.meta_adam = torch.optim.Adam(
            self.meta_net.parameters(),
            self.meta_rate,
            amsgrad=True,
            # The step counter is then on the device, where a CUDA graph can increment it.
            capturable=ranks.device.type == "cuda",
        )

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "meta_net": self.meta_adam}

    def scheduled(self) -> list[torch.optim.Optimizer]:
        return [self.student_sgd]

    def check(self, split: Split) -> None:
        batch = min(self.settings.trusted_batch, len(split.trusted))
        if batch < 4:
            raise InputError(
                f"trusted_batch: mlc halves it; expected at least 4 trusted samples, got {batch}"
            )

    def estimate(self) -> NoisyEstimate:
        def correct(x: Tensor, y: Tensor) -> tuple[Tensor]:
            return (self.meta_net(self.student.backbone(x), y),)

        networks, labels = [self.student, self.meta_net], torch.from_numpy(self.noisy.given)
        return NoisyEstimate(*in_batches(correct, networks, self.noisy.inputs, labels))

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        half = len(trusted.labels) // 2
        x, y = trusted.inputs, trusted.labels
        previous: tuple[Tensor, ...] | None = None
        iterations: list[_Iteration] = []
        for batch in noisy:
            iterations.append(self._iterate(batch, (x[half:], y[half:]), (x[:half], y[:half]), previous))
            previous = iterations[-1].meta_gradient
        for p, gradient in zip(self.meta_net.parameters(), iterations[-1].meta_gradient, strict=True):
            p.grad = gradient
        self.meta_adam.step()
        return {
            "student_loss": torch.stack([each.student_loss for each in iterations]).mean(),
            "meta_objective": iterations[-1].trusted_loss,
        }

    def _iterate(
        self,
        noisy: Batch,
        for_student: tuple[Tensor, Tensor],
        for_judging: tuple[Tensor, Tensor],
        previous: tuple[Tensor, ...] | None,
    ) -> _Iteration:
        """Take the steps (1) to (5) and (7), given the meta-gradient of the iteration before, if any."""
        w: list[Tensor] = [p for p in self.student.parameters() if p.requires_grad]
        sgd = InnerSGD.of(self.student_sgd)
        eta = sgd.lr * (1 + sgd.momentum * sgd.nesterov)  # -dw'/dg~: how far w' moves against a gradient
        g = None
        if self.measures_unused_discount or previous is not None:
            _, g = self._trusted_gradient(w, *for_judging)  # (1)

        total = len(noisy.labels) + len(for_student[1])
        loss = self._noisy_loss(noisy, total)  # (2)
        g_noisy = torch.autograd.grad(loss, w, create_graph=True, materialize_grads=True)
        mixed_loss = self._mixed_loss(*for_student, total)
        # A gradient of its own, without a graph: these samples do not depend on the meta-net.
        g_mixed = torch.autograd.grad(mixed_loss, w, materialize_grads=True)
        g_student = torch._foreach_add([each.detach() for each in g_noisy], g_mixed)

        moved = self._moved(w, g_student)  # (3)
        trusted_loss, g_moved = self._trusted_gradient(moved, *for_judging)  # (4)
        meta_gradient = torch.autograd.grad(  # (5)
            g_noisy, list(self.meta_net.parameters()), _times(g_moved, -eta)
        )
        if g is not None:
            gamma = (1 - eta) * _dot(g_moved, g) / _dot(g, g).clamp_min(torch.finfo(g[0].dtype).tiny)
            history = previous or [torch.zeros_like(each) for each in meta_gradient]
            meta_gradient = tuple(
                now + gamma * before for now, before in zip(meta_gradient, history, strict=True)
            )
        for p, gradient in zip(w, g_student, strict=True):  # (7)
            p.grad = gradient
        self.student_sgd.step()
        return _Iteration(meta_gradient, (loss + mixed_loss).detach(), trusted_loss)

    def _noisy_loss(self, batch: Batch, total: int) -> Tensor:
        """Compute the cross-entropy with the meta-net's soft labels, as a part of the mean over ``total``."""
        with self.ranks.autocast():
            h = self.student.backbone(batch.inputs)
            q = self.meta_net(h.detach(), batch.labels)
            log_probs = log_softmax(full_precision(self.student.classifier(h)), dim=1)
        return len(batch.labels) / total * soft_cross_entropy(log_probs, q)

    def _mixed_loss(self, inputs: Tensor, labels: Tensor, total: int) -> Tensor:
        """Compute the cross-entropy on trusted samples, as a part of the mean over ``total`` samples."""
        with self.ranks.autocast():
            logits = full_precision(self.student(inputs))
        return len(labels) / total * cross_entropy(logits, labels)

    def _trusted_gradient(
        self, w: list[Tensor], inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute the loss on trusted samples and its gradient at weights w; running statistics stay."""
        names = [name for name, p in self.student.named_parameters() if p.requires_grad]
        weights: Weights = dict(zip(names, w, strict=True))
        with self.ranks.autocast():
            loss, gradient = trusted_gradient(self.student, inputs, labels, weights)
        return loss, tuple(gradient.values())

    def _moved(self, w: list[Tensor], gradient: tuple[Tensor, ...]) -> list[Tensor]:
        """Compute the weights after the student's next SGD step, as new leaves; the student stays."""
        sgd = InnerSGD.of(self.student_sgd)
        with torch.no_grad():
            d = torch._foreach_add(gradient, w, alpha=sgd.weight_decay) if sgd.weight_decay else gradient
            buffers = [self.student_sgd.state[p].get("momentum_buffer") for p in w]
            # Before the first step there is no buffer; torch initialises it with the gradient.
            v = d
            if buffers[0] is not None:
                v = torch._foreach_add(d, buffers, alpha=sgd.momentum)
            direction = torch._foreach_add(d, v, alpha=sgd.momentum) if sgd.nesterov else v
            moved = torch._foreach_sub(w, _times(direction, sgd.lr))
        return list(moved)


def _times(tensors: tuple[Tensor, ...] | list[Tensor], factor: float | Tensor) -> tuple[Tensor, ...]:
    return torch._foreach_mul(tensors, factor)  # type: ignore[arg-type, call-overload, no-any-return, unused-ignore]


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
