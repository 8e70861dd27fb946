"""A teacher with a model of the noise: Bayes' rule says how probable each label is (cf. Appendix D)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from emlc.runtime.precision import full_precision

_RATE = 0.01
"""Share of each new batch in the running mean of the classes' shares."""


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

    Trusted samples seldom have the classes in the noisy samples' shares, often as many of each class. What is
    learned from them allows for it: see :attr:`prior_shift`.

    Args:
        backbone: Feature extractor, ``(n, ...) -> (n, feature_dim)``.
        feature_dim: Width of the representation.
        num_classes: C.
    """

    trusted_shares: Tensor
    noisy_shares: Tensor
    undecayed = ("transition_logits",)
    """Weight decay would pull T towards labels that say nothing."""

    def __init__(self, backbone: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(feature_dim, num_classes)
        self.noisy_head = nn.Linear(feature_dim, num_classes)
        # A label is right with probability 1/2 whatever C, but with two classes, where that says nothing.
        odds = math.log(max(num_classes - 1, 2))
        # A row of T sees one label in C and would be left behind: its log-odds take C/2 times as large steps.
        self._reach = math.sqrt(max(num_classes / 2, 1))
        self.transition_logits = nn.Parameter(odds / self._reach * torch.eye(num_classes))
        shares = torch.full((num_classes,), 1 / num_classes)
        self.register_buffer("trusted_shares", shares)
        self.register_buffer("noisy_shares", shares.clone())

    @property
    def transition(self) -> Tensor:
        """T (C, C), rows: true class, columns: given label; rows sum to 1."""
        return self.log_transition().exp()

    def log_transition(self) -> Tensor:
        """Return log T (C, C)."""
        return log_softmax(self._reach * full_precision(self.transition_logits), dim=1)

    def transition_gradient(self, d_log_T: Tensor) -> Tensor:
        """Return the derivative (C, C) in the transition's logits of a loss with this derivative in log T."""
        return self._reach * (d_log_T - self.transition * d_log_T.sum(dim=1, keepdim=True))

    @property
    def prior_shift(self) -> Tensor:
        """(C,) log of each class's share of the trusted samples over its share of the noisy ones.

        Predictions are for noisy samples. By Bayes' rule, as classes look alike in both sets, the class of
        a trusted sample has probability ``softmax(logits + prior_shift)`` (Saerens et al., Neural Computation
        2002); without it, trusted samples would teach their own shares.
        """
        return self.trusted_shares.log() - self.noisy_shares.log()

    @property
    def informative_share(self) -> Tensor:
        """Share (0-d, in [0, 1]) of the noisy samples whose labels the trusted samples can judge.

        It is the estimated share of right labels, by T and the classes' shares, times the effective sample
        size (Kish, Survey Sampling, 1965), as a share, that noisy samples have when they are weighted to the
        class shares of the trusted ones. It is ours, not the paper's: docs/method.md.
        """
        right = (self.noisy_shares * self.transition.detach().diagonal()).sum()
        return right / (self.trusted_shares**2 / self.noisy_shares).sum()

    def count(self, trusted: Tensor, given: Tensor) -> None:
        """Take the classes' shares from the labels (m,) of the trusted samples and (n,) of the noisy ones.

        One more of each class is counted. The given labels are wrong, and their shares but a start.
        """
        for shares, labels in ((self.trusted_shares, trusted), (self.noisy_shares, given)):
            counts = torch.bincount(labels, minlength=len(shares)) + 1
            shares.copy_(counts / counts.sum())

    def observe(self, mean_q: Tensor) -> None:
        """Let a batch's mean soft label (C,) count in the running mean of the noisy samples' shares."""
        self.noisy_shares.lerp_(mean_q.to(self.noisy_shares), _RATE).clamp_(min=1e-6)

    def forward(self, inputs: Tensor, labels: Tensor) -> NoiseAwareCorrection:
        """Correct the given labels (n,) int64 of a batch of inputs (n, ...)."""
        h = self.backbone(inputs)
        log_p = log_softmax(full_precision(self.classifier(h)), dim=1)
        log_T = self.log_transition()
        joint = log_p + log_T.T[labels]
        q = joint.softmax(dim=1)
        w = q.gather(1, labels[:, None]).squeeze(1)
        return NoiseAwareCorrection(q, log_p.exp(), w, -joint.logsumexp(dim=1), self.noisy_head_ce(h, labels))

    def noisy_head_ce(self, h: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy (n,), in nats, of the head for given labels (n,) on representations h."""
        return cross_entropy(self._given_logits(h), labels, reduction="none")

    def reviewed_nll(self, counts: Tensor) -> Tensor:
        """Return what T loses on labels whose true class is known, in nats (0-d).

        Args:
            counts: (C, C) number of samples by true class (rows) and given label (columns).
        """
        return -(counts * self.log_transition()).sum()

    def anchor(self, h: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """``-1/m sum_i p(y_i | x_i)^2 sum_y~ p~(y~ | x_i) log T(y~ | y_i)``, p~ by the head for given labels.

        It is least where each row of T is a mean of the head's predictions for the trusted samples of that
        class: Gold Loss Correction's estimate (Hendrycks et al., NeurIPS 2018), kept current. But where
        classes overlap, p~ has the labels of all that look like x_i, right ones of other classes among them.
        So a sample counts by the square of the teacher's own belief in its class.

        Args:
            h: (m, feature_dim) representations of trusted samples.
            labels: (m,) int64, their classes.
            weights: (m,) weights of the samples; None: 1.

        Returns:
            0-d, in nats; its gradient reaches T alone.
        """
        given = self._given_logits(h).detach().softmax(dim=1)
        log_p = log_softmax(full_precision(self.classifier(h)).detach(), dim=1)
        belief = log_p.gather(1, labels[:, None]).exp()
        log_T = self.log_transition()
        loss = -(belief**2 * given * log_T[labels]).sum(dim=1)
        return loss.mean() if weights is None else (weights * loss).mean()

    def expected_error(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean probability (0-d) of a wrong class, of logits (m, C) for trusted samples.

        It is the student's loss on them, in place of the cross-entropy of Eq. 5, which grows without bound
        where a class that looks like another is rare: few such samples then bent the labels of many.
        """
        p = (logits + self.prior_shift).softmax(dim=1)
        return 1 - p.gather(1, labels[:, None]).mean()

    def _given_logits(self, h: Tensor) -> Tensor:
        return full_precision(self.noisy_head(h.detach()))
