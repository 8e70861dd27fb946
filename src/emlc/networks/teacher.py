"""Teachers: they correct a label, given the sample *and* its label (Sec. 3.6, Fig. 3 and Appendix D)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from emlc.config import Settings
from emlc.runtime.precision import full_precision


class Correction(NamedTuple):
    """What the teacher says of a batch of labelled samples.

    Attributes:
        soft_labels: (n, C) float, ``q_alpha(y | x, y~)``; rows sum to 1.
        prediction: (n, C) float, ``y^``: the teacher's own class probabilities, given ``x`` alone.
        retain_weight: (n,) float in (0, 1), ``w``: how far the given label is kept.
    """

    soft_labels: Tensor
    prediction: Tensor
    retain_weight: Tensor


class Teacher(nn.Module):
    """``q(x, y~) = w onehot(y~) + (1 - w) y^(x)``, with a retain weight ``w(x, y~)`` from a gate.

    The backbone gives a representation ``h``, from which a linear classifier predicts ``y^``. The
    gate is an MLP with one hidden layer on ``[h, z]``, where ``z`` embeds the given label. The
    teacher shares no weights with the student.

    Args:
        backbone: Feature extractor, ``(n, ...) -> (n, feature_dim)``.
        feature_dim: Width of the representation.
        num_classes: C.
        label_embedding_dim: Width of the label embedding (not in the paper; 128 in its authors' code).
        gate_hidden_dim: Hidden units of the gate (Table 5: 128).
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_dim: int,
        num_classes: int,
        *,
        label_embedding_dim: int = 128,
        gate_hidden_dim: int = 128,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = backbone
        self.classifier = nn.Linear(feature_dim, num_classes)
        self.label_embedding = nn.Embedding(num_classes, label_embedding_dim)
        self.gate = nn.Sequential(
            nn.Linear(feature_dim + label_embedding_dim, gate_hidden_dim),
            nn.ReLU(),
            nn.Linear(gate_hidden_dim, 1),
        )

    def retain_logit(self, h: Tensor, labels: Tensor) -> Tensor:
        """Logit (n,) of the retain weight, from representations (n, feature_dim) and labels (n,) int64."""
        z = self.label_embedding(labels)
        return full_precision(self.gate(torch.cat([h, z], dim=1)).squeeze(1))

    def forward(self, inputs: Tensor, labels: Tensor) -> Correction:
        """Correct the given labels (n,) int64 of a batch of inputs (n, ...)."""
        h = self.backbone(inputs)
        y_hat = full_precision(self.classifier(h)).softmax(dim=1)
        w = self.retain_logit(h, labels).sigmoid()
        q = w[:, None] * one_hot(labels, self.num_classes) + (1 - w)[:, None] * y_hat
        return Correction(q, y_hat, w)


class NoiseAwareCorrection(NamedTuple):
    """What a noise-aware teacher says of a batch of labelled samples.

    Attributes:
        soft_labels: As of :class:`Correction`: ``q(y | x, y~)``.
        prediction: As there: ``p(y | x)``.
        retain_weight: As there: ``q(y~ | x, y~)``, the probability that the given label is right.
        given_nll: (n,) float, ``-log p(y~ | x)``: what the teacher loses on the given label, in nats.
        noisy_head_ce: (n,) float: what its head for given labels loses there, in nats.
    """

    soft_labels: Tensor
    prediction: Tensor
    retain_weight: Tensor
    given_nll: Tensor
    noisy_head_ce: Tensor


class NoiseAwareTeacher(nn.Module):
    """``q(y | x, y~) = p(y | x) T(y~ | y) / sum_c p(c | x) T(y~ | c)``: Bayes' rule with learned noise.

    Appendix D reads the retain weight as the probability that the given label is right, and approximates
    the rest. Here nothing is approximated: ``p(y | x)`` is the teacher's own prediction, ``T`` a transition
    matrix whose rows are softmaxes of ``transition_logits``, and the retain weight is ``q(y~ | x, y~)``. So
    the teacher learns from every given label, by its likelihood, beside the meta-gradient and the trusted
    samples.

    A linear head on the representation, which it does not shape, predicts the given label. On trusted
    samples, whose given labels it never saw, it tells what the rows of T should be: see :meth:`anchor`.

    Args:
        backbone: Feature extractor, ``(n, ...) -> (n, feature_dim)``.
        feature_dim: Width of the representation.
        num_classes: C.
    """

    undecayed = ("transition_logits",)
    """Weight decay would pull T towards labels that say nothing."""

    def __init__(self, backbone: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(feature_dim, num_classes)
        self.noisy_head = nn.Linear(feature_dim, num_classes)
        # A label is right with probability 1/2 whatever C, but with two classes, where that says nothing.
        odds = math.log(max(num_classes - 1, 2))
        self.transition_logits = nn.Parameter(odds * torch.eye(num_classes))

    @property
    def transition(self) -> Tensor:
        """T (C, C), rows: true class, columns: given label; rows sum to 1."""
        return full_precision(self.transition_logits).softmax(dim=1)

    def forward(self, inputs: Tensor, labels: Tensor) -> NoiseAwareCorrection:
        """Correct the given labels (n,) int64 of a batch of inputs (n, ...)."""
        h = self.backbone(inputs)
        log_p = log_softmax(full_precision(self.classifier(h)), dim=1)
        log_T = log_softmax(full_precision(self.transition_logits), dim=1)
        joint = log_p + log_T.T[labels]
        q = joint.softmax(dim=1)
        w = q.gather(1, labels[:, None]).squeeze(1)
        noisy_head_ce = cross_entropy(self._given_logits(h), labels, reduction="none")
        return NoiseAwareCorrection(q, log_p.exp(), w, -joint.logsumexp(dim=1), noisy_head_ce)

    def anchor(self, h: Tensor, labels: Tensor) -> Tensor:
        """``-1/m sum_i sum_y~ p~(y~ | x_i) log T(y~ | y_i)``, p~ from the head for given labels.

        It is least where each row of T is the head's mean prediction for the trusted samples of that class:
        Gold Loss Correction's estimate (Hendrycks et al., NeurIPS 2018), kept current.

        Args:
            h: (m, feature_dim) representations of trusted samples.
            labels: (m,) int64, their classes.

        Returns:
            0-d, in nats; its gradient reaches T alone.
        """
        given = self._given_logits(h).detach().softmax(dim=1)
        log_T = log_softmax(full_precision(self.transition_logits), dim=1)
        return -(given * log_T[labels]).sum(dim=1).mean()

    def _given_logits(self, h: Tensor) -> Tensor:
        return full_precision(self.noisy_head(h.detach()))


AnyCorrection = Correction | NoiseAwareCorrection
AnyTeacher = Teacher | NoiseAwareTeacher


def build_teacher(s: Settings, backbone: nn.Module, feature_dim: int, num_classes: int) -> AnyTeacher:
    """The teacher that the settings name, on a backbone of its own."""
    if s.teacher == "noise-aware":
        return NoiseAwareTeacher(backbone, feature_dim, num_classes)
    return Teacher(
        backbone,
        feature_dim,
        num_classes,
        label_embedding_dim=s.label_embedding_dim,
        gate_hidden_dim=s.gate_hidden_dim,
    )
