"""EMLC's step without autograd, for networks whose layers merely follow one another.

In networks as small as those on features, autograd takes longer than the products. Here the derivatives are
written out. :meth:`~emlc.methods.emlc.EMLC.step` says what is computed; a test holds the two together.

With ``p = softmax(z)`` of logits z, and e_y the onehot label,

    loss                             derivative in z     in log T(y~ | .)
    -<q, log p>                      p - q                                   student, Eq. 6
    1 - p_y                          p_y (p - e_y)                           student on trusted samples
    -log p_y                         p - e_y                                 teacher on them; its noisy head
    -log sum_c p_c T(y~ | c)         p - q               -q                  likelihood of given labels
    <c, q>,  q ~ p T(y~ | .)         q (c - <c, q>)      q (c - <c, q>)      meta loss, Eq. 12
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
from emlc.networks.standardize import Standardize

if TYPE_CHECKING:
    from emlc.methods.emlc import EMLC


class _Step(NamedTuple):
    """A look-ahead step: its batch, what the student learned from, its pass, probabilities and loss."""

    batch: Batch
    targets: Tensor
    r: Tensor
    student: Chain
    p: Tensor
    loss: Tensor


class ClosedFormStep:
    """EMLC's step with a noise-aware teacher, whose backbone is a chain of layers, as is the student.

    Args:
        method: The method.
        teacher: Its teacher.
        standardize: What both networks do with their inputs before they learn from them.
        student: The student's further layers.
        backbone: Those of the teacher's backbone.
    """

    def __init__(
        self,
        method: "EMLC",
        teacher: NoiseAwareTeacher,
        standardize: nn.Module,
        student: Layers,
        backbone: Layers,
    ) -> None:
        self._method, self._teacher, self._standardize = method, teacher, standardize
        self._student, self._backbone = student, backbone

    @torch.no_grad()
    def __call__(self, noisy: Sequence[Batch], trusted: Batch) -> Losses:
        """Take a step; return the losses of :meth:`Method.step`."""
        m = self._method
        batches = [*noisy, trusted]
        inputs = self._standardize(torch.cat([batch.inputs for batch in batches]))
        parts = inputs.split([len(batch.labels) for batch in batches])
        *noisy, trusted = (batch._replace(inputs=x) for batch, x in zip(batches, parts, strict=True))
        for_student, for_judging = m.split_trusted(trusted)
        # The teacher stays as it is until the end: one pass over all batches.
        teacher = _TeacherPass(m, self._teacher, self._backbone, inputs, noisy, trusted)
        steps = [
            self._student_step(batch, q, for_student)
            for batch, q in zip(noisy, teacher.soft_labels, strict=True)
        ]
        objective, g_w = self._trusted_gradient(for_judging, teacher.prior_shift)
        losses = teacher.learn(self._coefficients(steps, g_w))
        m.descend_gradients(m.teacher_sgd)
        m.observe(self._teacher, teacher.mean_soft_label)
        student_loss = torch.stack([step.loss for step in steps]).mean()
        return {"student_loss": student_loss, **losses, "meta_objective": objective}

    def _student_step(self, batch: Batch, q: Tensor, trusted: Batch | None) -> _Step:
        m, student = self._method, Chain(self._student)
        targets, r = m.student_targets(batch, q, trusted)
        x = batch.inputs if trusted is None else torch.cat([batch.inputs, trusted.inputs])
        log_p = student.forward(x).log_softmax(dim=1)
        p = log_p.exp()
        for gradient in student.backward(r[:, None] * (p - targets)).values():
            gradient.assign()
        m.descend_gradients(m.student_sgd)
        return _Step(batch, targets, r, student, p, soft_cross_entropy(log_p, targets, r))

    def _trusted_gradient(self, trusted: Batch, shift: Tensor) -> tuple[Tensor, dict[str, LinearGradient]]:
        """The student's expected error on trusted samples, and its gradient over those of all ranks."""
        m, y, student = self._method, trusted.labels[:, None], Chain(self._student)
        p = (student.forward(trusted.inputs) + shift).softmax(dim=1)
        p_y = p.gather(1, y)
        gradients = student.backward((p_y * p).scatter_add_(1, y, -p_y) / trusted.total)
        if m.ranks.size > 1:
            gradients = {name: self._gathered(g, trusted.total) for name, g in gradients.items()}
        return m.local_scale(trusted) * (1 - p_y.mean()), gradients

    def _gathered(self, gradient: LinearGradient, samples: int) -> LinearGradient:
        dy, x = (self._method.ranks.gather(rows, samples) for rows in (gradient.dy, gradient.x))
        return LinearGradient(gradient.layer, dy, x)

    def _coefficients(self, steps: Sequence[_Step], g_w: dict[str, LinearGradient]) -> Tensor:
        """What the soft labels of all batches, one after the other, are multiplied by in the meta loss."""
        # Eq. 11:  c_tau = eta r gamma^(t-tau) J_{w^tau} g_w,  gamma = 1 - eta; Eq. 10 for k = 1.
        eta, t = InnerSGD.of(self._method.student_sgd).lr, len(steps) - 1
        coefficients: list[Tensor] = []
        for tau, step in enumerate(steps):
            dz = step.student.tangent(lambda name, x: g_w[name].along(x))
            j_g = dz - (step.p * dz).sum(dim=1, keepdim=True)  # of log p = z - logsumexp(z)
            if not j_g.sum().isfinite():
                where = f"look-ahead step {tau + 1} of {t + 1}"
                raise FloatingPointError(f"{where}: the Jacobian-vector product is not finite")
            c = eta * (1 - eta) ** (t - tau) * step.r[:, None] * j_g
            # Rows of trusted samples, if the student learned from any, come last: nobody made their labels.
            coefficients.append(c[: len(step.batch.labels)])
        return torch.cat(coefficients)


class _TeacherPass:
    """A pass of the teacher over the k noisy batches of a step and the trusted one, and its gradient.

    Attributes:
        prior_shift: The teacher's.
        soft_labels: Per noisy batch (n, C).
        mean_soft_label: (C,), their mean.
    """

    def __init__(
        self,
        method: "EMLC",
        teacher: NoiseAwareTeacher,
        backbone: Layers,
        inputs: Tensor,
        noisy: Sequence[Batch],
        trusted: Batch,
    ) -> None:
        self._method, self._teacher, self._noisy, self._trusted = method, teacher, noisy, trusted
        self._backbone, self.prior_shift = Chain(backbone), teacher.prior_shift
        self._h = self._backbone.forward(inputs)
        self._given = torch.cat([batch.labels for batch in noisy])
        noisy_logits, self._logits = teacher.classifier(self._h).tensor_split((len(self._given),))
        self._log_T, log_p = teacher.log_transition(), noisy_logits.log_softmax(dim=1)
        joint = log_p + self._log_T.T.index_select(0, self._given)
        self._log_likelihood = joint.logsumexp(dim=1, keepdim=True)
        self._p, self._q = log_p.exp(), (joint - self._log_likelihood).exp()
        self.soft_labels = self._q.split([len(batch.labels) for batch in noisy])
        # The weight of each sample in the mean over all batches.
        self._r = torch.cat([method.sample_weights(batch, log_p) for batch in noisy])[:, None] / len(noisy)
        self.mean_soft_label = (self._r * self._q).sum(dim=0)

    def learn(self, coefficients: Tensor) -> Losses:
        """Set the gradient of the teacher's losses and of the meta loss <c, q>; return the losses."""
        teacher, d_log_T = self._teacher, torch.zeros_like(self._log_T)
        log_noisy = teacher.noisy_head(self._h).log_softmax(dim=1)
        log_given, log_of_trusted = log_noisy.tensor_split((len(self._given),))
        losses, d_trusted = self._learn_trusted(log_of_trusted, d_log_T)
        given_losses, d_given = self._learn_given(log_given, coefficients, d_log_T)
        teacher.transition_logits.grad = teacher.transition_gradient(d_log_T)
        d_logits = torch.cat([d_given, d_trusted])
        LinearGradient(teacher.classifier, d_logits, self._h).assign()
        for gradient in self._backbone.backward(d_logits @ teacher.classifier.weight).values():
            gradient.assign()
        return losses | given_losses

    def _learn_trusted(self, log_noisy: Tensor, d_log_T: Tensor) -> tuple[Losses, Tensor]:
        weights, y = self._method.loss_weights, self._trusted.labels
        scale = self._method.local_scale(self._trusted)
        log_p = (self._logits + self.prior_shift).log_softmax(dim=1)
        # The anchor is -1/m sum_i <a_i, log T(. | y_i)> with constant a_i.
        belief = self._logits.softmax(dim=1).gather(1, y[:, None])
        a = belief.square() * log_noisy.exp() * (scale / len(y))
        d_log_T.index_add_(0, y, a, alpha=-weights["teacher_anchor"])
        losses = {
            "teacher_ce": scale * nll_loss(log_p, y),
            "teacher_anchor": -(a * self._log_T.index_select(0, y)).sum(),
        }
        return losses, weights["teacher_ce"] * scale / len(y) * _minus_onehot(log_p, y)

    def _learn_given(self, log_noisy: Tensor, c: Tensor, d_log_T: Tensor) -> tuple[Losses, Tensor]:
        weights, given, q, r = self._method.loss_weights, self._given, self._q, self._r
        c = self._method.meta_weight(len(self._noisy)) * c
        d_meta = q * (c - (c * q).sum(dim=1, keepdim=True))
        nll = weights["teacher_nll"] * r
        d_log_T.T.index_add_(0, given, d_meta - nll * q)
        d_head = weights["noisy_head_ce"] * r * _minus_onehot(log_noisy, given)
        LinearGradient(self._teacher.noisy_head, d_head, self._h[: len(given)]).assign()
        losses = {
            "teacher_nll": -(r * self._log_likelihood).sum(),
            "noisy_head_ce": -(r * log_noisy.gather(1, given[:, None])).sum(),
        }
        return losses, d_meta + nll * (self._p - q)


def _minus_onehot(log_p: Tensor, labels: Tensor) -> Tensor:
    """Return ``p - e_y`` (n, C)."""
    return log_p.exp().scatter_(1, labels[:, None], -1.0, reduce="add")


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
    student, backbone = chain_of(method.student), chain_of(teacher.backbone)
    if student is None or backbone is None:
        return None
    (of_student, after), (of_teacher, hidden) = _parted(student), _parted(backbone)
    flattens = any(type(layer) is nn.Flatten for layer in (*after.values(), *hidden.values()))
    if flattens or not _standardize_alike(of_student, of_teacher):  # a layer before may give more than (n, d)
        return None
    return ClosedFormStep(method, teacher, of_student, after, hidden)


def _parted(layers: Layers) -> tuple[nn.Sequential, Layers]:
    """Part a network's layers before the first linear one from the others."""
    first = [isinstance(layer, nn.Linear) for layer in layers.values()].index(True)
    rest = list(layers.items())[first:]
    return nn.Sequential(*list(layers.values())[:first]), dict(rest)


def _standardize_alike(a: nn.Sequential, b: nn.Sequential) -> bool:
    known = {type(layer) for layer in (*a, *b)} <= {Standardize, nn.Flatten}
    return known and len(a) == len(b) and all(map(torch.equal, a.buffers(), b.buffers()))
