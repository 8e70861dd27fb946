"""EMLC's step without autograd, for networks whose layers merely follow one another.

In networks as small as those on features, autograd takes longer than the products. Here the derivatives are
written out. :meth:`~emlc.methods.emlc.EMLC.step` says what is computed, and a test that both do the same.

With ``p = softmax(z)`` of logits z, and the onehot label e_y,

    loss                                    derivative in z     in log T(y~ | .)
    -<q, log p>                             p - q                                   student, Eq. 6
    1 - p_y                                 p_y (p - e_y)                           student on trusted samples
    -log p_y                                p - e_y                                 teacher on them; its noisy head
    -log sum_c p_c T(y~ | c)                p - q               -q                  likelihood of given labels
    <c, q>,  q ~ p T(y~ | .)                q (c - <c, q>)      q (c - <c, q>)      meta loss, Eq. 12
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from emlc.data.loaders import Batch
from emlc.meta.chain import Chain, Layers, LinearGradient, chain_of
from emlc.meta.metagradient import InnerSGD, soft_cross_entropy
from emlc.methods.base import Losses
from emlc.networks.noise_aware_teacher import NoiseAwareTeacher

if TYPE_CHECKING:
    from emlc.methods.emlc import EMLC


class _Correction(NamedTuple):
    """What the teacher says of a noisy batch: q and p (n, C), the given labels' likelihood (n, 1), log
    probabilities (n, C) of its noisy head, and its representation (n, feature_dim)."""

    q: Tensor
    p: Tensor
    log_likelihood: Tensor
    log_given: Tensor
    h: Tensor
    backbone: Chain


class _Step(NamedTuple):
    """A look-ahead step: its batch, and what teacher and student gave."""

    batch: Batch
    correction: _Correction
    targets: Tensor
    r: Tensor
    p: Tensor
    loss: Tensor
    student: Chain


class ClosedFormStep:
    """EMLC's step with a noise-aware teacher, whose backbone is a chain of layers like the student.

    Args:
        method: The method.
        teacher: Its teacher.
        student: Layers of the student.
        backbone: Layers of the teacher's backbone.
    """

    def __init__(
        self, method: "EMLC", teacher: NoiseAwareTeacher, student: Layers, backbone: Layers
    ) -> None:
        self._method, self._teacher = method, teacher
        self._student, self._backbone = student, backbone

    @torch.no_grad()
    def __call__(self, noisy: Sequence[Batch], trusted: Batch) -> Losses:
        """Take a step; return the losses of :meth:`Method.step`."""
        m, teacher = self._method, self._teacher
        for_student, for_judging = m.split_trusted(trusted)
        log_T, shift = teacher.log_transition(), teacher.prior_shift
        d_log_T = torch.zeros_like(log_T)
        steps = [self._student_step(batch, for_student, log_T) for batch in noisy]
        m.teacher_sgd.zero_grad(set_to_none=True)
        losses = self._learn_trusted(trusted, log_T, shift, d_log_T)
        objective, g_w = self._trusted_gradient(for_judging, shift)
        for step, c in zip(steps, self._coefficients(steps, g_w), strict=True):
            given = self._learn_given(step, c, len(steps), d_log_T)
            losses |= {name: losses.get(name, 0) + loss for name, loss in given.items()}
        teacher.transition_logits.grad = teacher.transition_gradient(d_log_T)
        m.descend_gradients(m.teacher_sgd)
        m.observe(steps)
        student_loss = torch.stack([step.loss for step in steps]).mean()
        return {"student_loss": student_loss, **losses, "meta_objective": objective}

    def _student_step(self, batch: Batch, trusted: Batch | None, log_T: Tensor) -> _Step:
        m, correction = self._method, self._correct(batch, log_T)
        targets, r = m.student_targets(batch, correction.q, trusted)
        student = Chain(self._student)
        x = batch.inputs if trusted is None else torch.cat([batch.inputs, trusted.inputs])
        log_p = student.forward(x).log_softmax(dim=1)
        p = log_p.exp()
        m.student_sgd.zero_grad(set_to_none=True)
        for gradient in student.backward(r[:, None] * (p - targets)).values():
            gradient.add()
        m.descend_gradients(m.student_sgd)
        return _Step(batch, correction, targets, r, p, soft_cross_entropy(log_p, targets, r), student)

    def _correct(self, batch: Batch, log_T: Tensor) -> _Correction:
        teacher, backbone = self._teacher, Chain(self._backbone)
        h = backbone.forward(batch.inputs)
        log_p = teacher.classifier(h).log_softmax(dim=1)
        joint = log_p + log_T.T.index_select(0, batch.labels)
        log_likelihood = joint.logsumexp(dim=1, keepdim=True)
        q = (joint - log_likelihood).exp()
        log_given = teacher.noisy_head(h).log_softmax(dim=1)
        return _Correction(q, log_p.exp(), log_likelihood, log_given, h, backbone)

    def _learn_trusted(self, trusted: Batch, log_T: Tensor, shift: Tensor, d_log_T: Tensor) -> Losses:
        m, teacher, backbone, y = self._method, self._teacher, Chain(self._backbone), trusted.labels
        scale = m.local_scale(trusted)
        h = backbone.forward(trusted.inputs)
        logits = teacher.classifier(h)
        log_p = (logits + shift).log_softmax(dim=1)
        self._learn_logits(h, backbone, m.loss_weights["teacher_ce"] * scale / len(y) * _minus_onehot(log_p, y))
        # The anchor, -1/m sum_i <a_i, log T(. | y_i)> with constant a_i.
        a = teacher.anchor_weights(h, logits, y) * (scale / len(y))
        d_log_T.index_add_(0, y, a, alpha=-m.loss_weights["teacher_anchor"])
        return {
            "teacher_ce": scale * nll_loss(log_p, y),
            "teacher_anchor": -(a * log_T.index_select(0, y)).sum(),
        }

    def _trusted_gradient(self, trusted: Batch, shift: Tensor) -> tuple[Tensor, dict[str, LinearGradient]]:
        """The student's expected error on trusted samples, and its gradient over all ranks' samples."""
        m, y, student = self._method, trusted.labels, Chain(self._student)
        p = (student.forward(trusted.inputs) + shift).softmax(dim=1)
        p_y = p.gather(1, y[:, None])
        d_logits = p_y * p
        d_logits.scatter_add_(1, y[:, None], -p_y)
        gradients = student.backward(d_logits.div_(trusted.total))
        if m.ranks.size > 1:
            gradients = {name: self._gathered(g, trusted.total) for name, g in gradients.items()}
        return m.local_scale(trusted) * (1 - p_y.mean()), gradients

    def _gathered(self, gradient: LinearGradient, samples: int) -> LinearGradient:
        dy, x = (self._method.ranks.gather(rows, samples) for rows in (gradient.dy, gradient.x))
        return LinearGradient(gradient.layer, dy, x)

    def _coefficients(self, steps: Sequence[_Step], g_w: dict[str, LinearGradient]) -> list[Tensor]:
        # Eq. 11:  c_tau = eta r gamma^(t-tau) J_{w^tau} g_w,  gamma = 1 - eta; Eq. 10 for k = 1.
        eta, t = InnerSGD.of(self._method.student_sgd).lr, len(steps) - 1
        coefficients: list[Tensor] = []
        for tau, step in enumerate(steps):
            dz = step.student.tangent(lambda name, x: g_w[name].along(x))
            j_g = dz - (step.p * dz).sum(dim=1, keepdim=True)  # of log p = z - logsumexp(z)
            coefficients.append(eta * (1 - eta) ** (t - tau) * step.r[:, None] * j_g)
            if not coefficients[-1].sum().isfinite():
                raise FloatingPointError(
                    f"look-ahead step {tau + 1} of {t + 1}: the Jacobian-vector product is not finite"
                )
        return coefficients

    def _learn_given(self, step: _Step, c: Tensor, k: int, d_log_T: Tensor) -> Losses:
        """The teacher's losses on one of k noisy batches and their gradient, with the meta loss <c, q>."""
        m, (q, p, log_likelihood, log_given, h, backbone), y = self._method, step.correction, step.batch.labels
        scale = m.local_scale(step.batch) / k
        nll, head = (scale / len(y) * m.loss_weights[name] for name in ("teacher_nll", "noisy_head_ce"))
        # Rows of trusted samples, if the student learned from any, come last: nobody made their labels.
        c = m.meta_weight(k) * c[: len(q)]
        d_meta = q * (c - (c * q).sum(dim=1, keepdim=True))
        d_log_T.T.index_add_(0, y, d_meta - nll * q)
        self._learn_logits(h, backbone, d_meta + nll * (p - q))
        LinearGradient(self._teacher.noisy_head, head * _minus_onehot(log_given, y), h).add()
        return {
            "teacher_nll": -scale * log_likelihood.mean(),
            "noisy_head_ce": scale * nll_loss(log_given, y),
        }

    def _learn_logits(self, h: Tensor, backbone: Chain, d_logits: Tensor) -> None:
        classifier = self._teacher.classifier
        LinearGradient(classifier, d_logits, h).add()
        for gradient in backbone.backward(d_logits @ classifier.weight).values():
            gradient.add()


def _minus_onehot(log_p: Tensor, labels: Tensor) -> Tensor:
    """Return ``p - e_y`` (n, C)."""
    return log_p.exp().scatter_add_(1, labels[:, None], log_p.new_full((len(labels), 1), -1.0))


def closed_form_step(method: "EMLC") -> ClosedFormStep | None:
    """Return the method's step in closed form if its networks and settings allow it, else None."""
    s, ranks, teacher = method.settings, method.ranks, method.teacher
    if (
        not isinstance(teacher, NoiseAwareTeacher)
        or s.meta_gradient != "approximate"
        or s.jvp not in ("auto", "forward")
        or s.save_memory
        or ranks.precision != "float32"
        or ranks.device.type != "cpu"
    ):
        return None
    student, backbone = _flat_chain(method.student), _flat_chain(teacher.backbone)
    return ClosedFormStep(method, teacher, student, backbone) if student and backbone else None


def _flat_chain(network: nn.Module) -> Layers | None:
    """Return a network's layers if they are a chain whose linear layers take inputs (n, in)."""
    layers = chain_of(network)
    kinds = [type(layer) for layer in (layers or {}).values()]
    return None if nn.Flatten in kinds[kinds.index(nn.Linear) if nn.Linear in kinds else 0 :] else layers
