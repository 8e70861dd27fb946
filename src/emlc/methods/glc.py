"""Gold Loss Correction: one network learns what the noise is, and a fresh one learns with that known.

Dan Hendrycks, Mantas Mazeika, Duncan Wilson and Kevin Gimpel, "Using Trusted Data to Train Deep Networks on
Labels Corrupted by Severe Noise", NeurIPS 2018 (arXiv 1802.05300), and the authors' code
(github.com/mmazeika/glc). In the first stage ``f'`` learns from the noisy samples (x, y) by cross-entropy.
From all trusted samples (x', y') comes, in evaluation mode and without augmentation,

    T[i, :] = mean of f'(x') over the trusted samples of class i

In the second stage the network begins again with its initial weights, and learns from both sets:

    L = (sum_noisy -log((T^T f(x))_y) + sum_trusted CE(f(x'), y')) / (n + m)

over all n noisy and m trusted samples, of which a step sees a batch of either. The corrected label of a noisy
sample is ``q_c`` proportional to ``f(x)_c T[c, y]``: Bayes' rule with T for the noise.

Departures:
    - Published batches are drawn from both sets together, and hold few trusted samples. Here every step has a
      batch of either, of which the means are weighted as n to m: the same in expectation.
    - The momentum of the first stage is forgotten; the published code carries it over.
    - A class without trusted samples keeps the row of the identity; the published code has none for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method, NoisyEstimate
from emlc.methods.stages import InitialWeights
from emlc.methods.transition import class_means
from emlc.networks.inference import in_batches, predict_proba
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision


class Transition(nn.Module):
    """What is known of the noise.

    Attributes:
        transition: (C, C) T; the identity before it is estimated, and for classes without trusted samples.
    """

    transition: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("transition", torch.eye(num_classes))

    def estimate(self, probabilities: Tensor, labels: Tensor) -> None:
        """Take T from predictions (m, C) of the noisy label of trusted samples, and their classes (m,)."""
        self.transition.copy_(class_means(probabilities, labels, self.transition.cpu()))

    def forward(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """``log(p_c T[c, y])`` (n, C) of log-probabilities (n, C) of the class, and given labels y (n,)."""
        # Where a probability is too small for the dtype the loss stays finite.
        log_T = self.transition.clamp_min(torch.finfo(self.transition.dtype).tiny).log()
        return log_p + log_T.T[labels]


@dataclass(frozen=True, kw_only=True)
class GLCHyper(Hyper):
    """Hyper-parameters of Gold Loss Correction.

    Attributes:
        trusted_weight: Weight of a trusted sample's loss beside a noisy one's; 1 as published.
    """

    trusted_weight: float = within(1.0)


class GLC(Method):
    """Cross-entropy on the given labels; then, with the noise that it shows, anew on both sets.

    The warm-up is the first stage. A run without one knows of no noise, and believes all labels.
    """

    name: ClassVar[str] = "glc"
    reference: ClassVar[str] = (
        "Using Trusted Data to Train Deep Networks on Labels Corrupted by Severe Noise (gold loss "
        "correction), Hendrycks et al., NeurIPS 2018"
    )
    warm_up_share: ClassVar[float] = 0.5
    learning_rate: ClassVar[float] = 0.1  # as published: either stage has half of the epochs
    warms_up: ClassVar[bool] = True
    noise_model: ClassVar[str] = "transition"
    hyper_class: ClassVar[type[Hyper]] = GLCHyper
    hyper: GLCHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.transition = Transition(num_classes)

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "transition": self.transition}

    @property
    def schedule_span(self) -> range:
        first = self.settings.warm_up
        return range(first) if self.warming_up else range(first, self.settings.passes)

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        self._initial = InitialWeights(self.student)

    def bind(self, split: Split) -> None:
        super().bind(split)
        self._trusted = split.trusted
        m = self.hyper.trusted_weight * len(split.trusted)
        self._trusted_share = m / (len(split.noisy) + m)

    def sample_state(self) -> dict[str, Tensor]:
        return self._initial.state()

    def start_epoch(self) -> None:
        if self.epoch == self.settings.warm_up > 0:
            probabilities = predict_proba(self.student, self._trusted.inputs, self.ranks)
            self.transition.estimate(probabilities, torch.from_numpy(self._trusted.given))
            self._initial.restore(self.student, self.student_sgd)

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        (batch,) = noisy
        if self.warming_up:
            return {"student_loss": self.descend_cross_entropy(batch)}
        with self.ranks.autocast():
            trusted_logits = full_precision(self.student(trusted.inputs))
        corrected = -self._log_joint(batch.inputs, batch.labels).logsumexp(dim=1).mean()
        on_trusted, share = cross_entropy(trusted_logits, trusted.labels), self._trusted_share
        loss = (1 - share) * corrected + share * on_trusted
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach()}

    def _log_joint(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Log-probability (n, C) of each class together with the given label."""
        with self.ranks.autocast():
            logits = full_precision(self.student(inputs))
        log_joint: Tensor = self.transition(log_softmax(logits, dim=1), labels)
        return log_joint

    def estimate(self) -> NoisyEstimate:
        if self.warming_up:
            return NoisyEstimate()
        given = torch.from_numpy(self.noisy.given)
        return NoisyEstimate(
            *in_batches(self._corrected, [self.student], self.noisy.inputs, given, ranks=self.ranks)
        )

    def _corrected(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor]:
        return (self._log_joint(inputs, labels).softmax(dim=1),)
