"""A teacher with a model of the noise: Bayes' rule says how probable each label is (cf. Appendix D)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from emlc.runtime.precision import full_precision


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
