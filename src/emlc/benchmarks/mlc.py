"""Meta Label Correction (Zheng, Awadallah and Dumais, AAAI 2021), the method that EMLC is timed against.

Its meta-gradient is a second backward pass through the student's gradient. It is written here as fast
as that formulation allows, one pass after another: the second pass is pruned to what the meta-net
depends on, gradients that it does not run through keep no graph, and nothing waits for the device.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, log_softmax

from emlc.backbones import Classifier
from emlc.config import Settings
from emlc.data.loaders import Batch
from emlc.data.stored import Inputs
from emlc.distributed import Ranks
from emlc.metagradient import InnerSGD, soft_cross_entropy
from emlc.methods.base import Losses, Method
from emlc.precision import full_precision
from emlc.replay import copies

LABEL_EMBEDDING_DIM, HIDDEN_DIM = 64, 128
META_LEARNING_RATE = 3e-4
"""Of Adam, for CIFAR."""


class MetaNet(nn.Module):
    """Soft labels from the student's features and the given label: two tanh layers on both.

    Args:
        feature_dim: Width of the student's representation.
        num_classes: C.
    """

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(num_classes, LABEL_EMBEDDING_DIM)
        self.layers = nn.Sequential(
            nn.Linear(feature_dim + LABEL_EMBEDDING_DIM, HIDDEN_DIM),
            nn.Tanh(),
            nn.Linear(HIDDEN_DIM, HIDDEN_DIM),
            nn.Tanh(),
            nn.Linear(HIDDEN_DIM, num_classes),
        )

    def forward(self, h: Tensor, labels: Tensor) -> Tensor:
        """Probabilities (n, C) from representations (n, feature_dim) and given labels (n,) int64."""
        z = self.label_embedding(labels)
        return full_precision(self.layers(torch.cat([h, z], dim=1))).softmax(dim=1)


class _Iteration(NamedTuple):
    """What one iteration gives: the meta-gradient, discounted history included, and its two losses."""

    meta_gradient: tuple[Tensor, ...]
    student_loss: Tensor
    trusted_loss: Tensor


class MLC(Method):
    """A meta-net on the student's features makes the soft labels that the student learns from.

    For one process. A step is k iterations, each of (1) to (7), then one of Adam's: with
    ``L(w) = CE`` on one half of the trusted batch and ``L~(w, alpha)`` the cross-entropy with the meta-net's
    labels, mixed by sample count with CE on the other half,

    1. ``g = dL(w)``
    2. ``g~ = d_w L~(w, alpha)``, with its graph
    3. ``w' = SGD(w, g~)``, momentum and weight decay included
    4. ``g' = dL(w')``
    5. ``d_alpha = d/d_alpha (-<g~, eta g'>) + gamma d_alpha,previous``,
       ``gamma = <(1 - eta) g', g> / |g|^2``
    6. after k iterations: Adam (amsgrad) moves alpha along ``d_alpha``, which is then forgotten
    7. ``w = w'``

    The published code takes another trusted batch in every iteration; here the k of a step share theirs.
    """

    name: ClassVar[str] = "mlc"
    student: Classifier
    measures_unused_discount: ClassVar[bool] = True
    """Whether g and gamma are computed in a step's first iteration too, whose history is zero."""

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.look_ahead = settings.look_ahead
        self.meta_net = MetaNet(self.student.classifier.in_features, num_classes)

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "meta_net": self.meta_net}

    def prepare(self, ranks: Ranks) -> None:
        super().prepare(ranks)
        self.meta_adam = torch.optim.Adam(
            self.meta_net.parameters(),
            self.settings.teacher_learning_rate or META_LEARNING_RATE,
            amsgrad=True,
            # Its step counter lives on the device then, where a CUDA graph can count on.
            capturable=ranks.device.type == "cuda",
        )

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "meta_net": self.meta_adam}

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        half = len(trusted.labels) // 2
        x, y = trusted.inputs, trusted.labels
        previous: tuple[Tensor, ...] | None = None
        done: list[_Iteration] = []
        for batch in noisy:
            done.append(self._iterate(batch, (x[half:], y[half:]), (x[:half], y[:half]), previous))
            previous = done[-1].meta_gradient
        for p, gradient in zip(self.meta_net.parameters(), done[-1].meta_gradient, strict=True):
            p.grad = gradient
        self.meta_adam.step()
        return {
            "student_loss": torch.stack([each.student_loss for each in done]).mean(),
            "meta_objective": done[-1].trusted_loss,
        }

    def _iterate(
        self,
        noisy: Batch,
        learned: tuple[Tensor, Tensor],
        judging: tuple[Tensor, Tensor],
        previous: tuple[Tensor, ...] | None,
    ) -> _Iteration:
        w: list[Tensor] = [p for p in self.student.parameters() if p.requires_grad]
        sgd = InnerSGD.of(self.student_sgd)
        eta = sgd.lr * (1 + sgd.momentum * sgd.nesterov)  # by which w' moves against a gradient
        g = None
        if self.measures_unused_discount or previous is not None:
            _, g = self._trusted_gradient(w, *judging)  # (1)

        loss = self._noisy_loss(noisy, share=len(noisy.labels) / (len(noisy.labels) + len(learned[1])))  # (2)
        g_noisy = torch.autograd.grad(loss, w, create_graph=True, materialize_grads=True)
        other_loss = self._mixed_loss(*learned, among=len(noisy.labels))
        # Apart from the above, as the second backward pass has no way through these samples.
        g_other = torch.autograd.grad(other_loss, w, materialize_grads=True)
        g_student = torch._foreach_add([each.detach() for each in g_noisy], g_other)

        moved = self._moved(w, g_student)  # (3)
        trusted_loss, g_moved = self._trusted_gradient(moved, *judging)  # (4)
        meta_gradient = torch.autograd.grad(  # (5)
            g_noisy, list(self.meta_net.parameters()), _times(g_moved, -eta)
        )
        if g is not None:
            gamma = (1 - eta) * _dot(g_moved, g) / _dot(g, g)
            history = previous or [torch.zeros_like(each) for each in meta_gradient]
            meta_gradient = tuple(
                now + gamma * before for now, before in zip(meta_gradient, history, strict=True)
            )
        for p, gradient in zip(w, g_student, strict=True):  # (7)
            p.grad = gradient
        self.student_sgd.step()
        return _Iteration(meta_gradient, (loss + other_loss).detach(), trusted_loss)

    def _noisy_loss(self, batch: Batch, share: float) -> Tensor:
        """Cross-entropy with the meta-net's soft labels, times the batch's share of the samples."""
        with self.ranks.autocast():
            h = self.student.backbone(batch.inputs)
            q = self.meta_net(h.detach(), batch.labels)
            log_probs = log_softmax(full_precision(self.student.classifier(h)), dim=1)
        return share * soft_cross_entropy(log_probs, q)

    def _mixed_loss(self, inputs: Tensor, labels: Tensor, among: int) -> Tensor:
        """Cross-entropy on trusted samples, times their share beside so many noisy ones."""
        with self.ranks.autocast():
            logits = full_precision(self.student(inputs))
        return len(labels) / (among + len(labels)) * cross_entropy(logits, labels)

    def _trusted_gradient(
        self, w: list[Tensor], inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss on trusted samples and its gradient, at any weights; running statistics stay."""
        names = [name for name, p in self.student.named_parameters() if p.requires_grad]
        state = dict(zip(names, w, strict=True))
        state |= copies(dict(self.student.named_buffers()))
        with self.ranks.autocast():
            logits = full_precision(functional_call(self.student, state, (inputs,)))
        loss = cross_entropy(logits, labels)
        return loss.detach(), torch.autograd.grad(loss, w, materialize_grads=True)

    def _moved(self, w: list[Tensor], gradient: tuple[Tensor, ...]) -> list[Tensor]:
        """The weights that the student's optimiser will move to, as new leaves."""
        sgd = InnerSGD.of(self.student_sgd)
        with torch.no_grad():
            d = torch._foreach_add(gradient, w, alpha=sgd.weight_decay) if sgd.weight_decay else gradient
            buffers = [self.student_sgd.state[p].get("momentum_buffer") for p in w]
            # Before the first step there are none: they begin as the gradient itself.
            v = d
            if buffers[0] is not None:
                v = torch._foreach_add(d, buffers, alpha=sgd.momentum)
            direction = torch._foreach_add(d, v, alpha=sgd.momentum) if sgd.nesterov else v
            moved = torch._foreach_sub(w, _times(direction, sgd.lr))
        return [each.requires_grad_() for each in moved]


class PrunedMLC(MLC):
    """MLC without ``g`` in iterations that have no history to discount: the same results, for k = 1 faster.

    The published code computes it always; this is the stricter opponent.
    """

    name: ClassVar[str] = "mlc-pruned"
    measures_unused_discount: ClassVar[bool] = False


def _times(tensors: tuple[Tensor, ...] | list[Tensor], factor: float | Tensor) -> tuple[Tensor, ...]:
    return torch._foreach_mul(tensors, factor)  # type: ignore[arg-type, call-overload, no-any-return, unused-ignore]


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
