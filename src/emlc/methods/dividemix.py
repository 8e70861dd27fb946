"""DivideMix: two networks, each of which tells the other which labels to believe.

Li, Socher and Hoi: DivideMix: Learning with Noisy Labels as Semi-supervised Learning, ICLR 2020.

After a warm-up with cross-entropy, every epoch begins with a mixture of two Gaussians over the losses of
all samples, for each network: a sample's posterior w of the component of small losses is the probability
that its label is right. Where the *other* network has w > threshold a network takes the sample for
labelled, elsewhere for unlabelled. With p the mean prediction for its two views, and Sharpen(q) = q^(1/T),
divided by its sum, (Algorithm 1, Eq. 3 to 5; w is the other network's)

    labelled:    target = Sharpen(w y + (1 - w) p)              "co-refinement", with its own p
    unlabelled:  target = Sharpen((p + p of the other) / 2)     "co-guessing"
    mixup:       l ~ Beta(alpha, alpha), l = max(l, 1 - l), among all views of the batch (Eq. 6 to 8)
    loss:        L_x + lambda_u L_u + L_reg (Eq. 9 to 12)
                 L_x = mean cross-entropy of labelled views
                 L_u = mean squared error of the probabilities of unlabelled views, over all C classes
                 L_reg = sum_c pi_c log(pi_c / mean p_c), pi_c = 1 / C

lambda_u rises from 0 over 16 epochs after the warm-up. The student is both networks, whose logits are added.

The paper chose lambda_u by the noise: for CIFAR-10 0 at 20 % symmetric and at 40 % asymmetric noise, 25 at 50
and 80 %, 50 at 90 %; for CIFAR-100 25, 150, 150 and 150; the threshold is 0.6 at 90 %. As the noise is not
known, the defaults are 25 and 0.5. Its code averages a sample's losses over the last 5 epochs at 90 %
symmetric noise (``averaged_epochs``), and subtracts the entropy of the predictions from the loss in the
warm-up for asymmetric noise and on Clothing1M (``confidence_penalty``): over the losses of confident
networks there are no two humps.

Departures:

- The published code draws labelled and unlabelled batches apart, 64 each, as long as there are labelled
  ones. Here a batch is drawn from the whole set and divided. So that every sample of a side keeps the same
  weight, the sums of L_x and L_u are divided by the rows that a batch has of the side on average, not by
  those it has (and by at least one): that is the published loss in expectation, and a batch without one side
  has a term less. With batches of 128 as many views pass as there.
- It trains one network for an epoch, then the other; here both learn from a batch, one after the other. In
  the warm-up each has views of its own.
- A network's own predictions for the targets are made in training mode, as there, so that batch norm's
  running statistics see plain views beside mixed ones; but by one pass over all views, where the code has
  four, as a side may be too small for statistics of its own. The other network is in evaluation mode, as
  there.
- The mixture's EM may take 100 iterations (in C2D's code 200, or 100), instead of 10.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch, batches_in
from emlc.methods.base import Losses, Method, NoisyEstimate, View
from emlc.methods.mixup import draw_mixture
from emlc.methods.pair import Pair
from emlc.networks.backbones import Classifier
from emlc.networks.inference import predict_proba
from emlc.runtime.precision import full_precision
from emlc.runtime.streams import RandomStream, derived_seed


@dataclass(frozen=True, kw_only=True)
class DivideMixHyper(Hyper):
    """Hyper-parameters of DivideMix and C2D.

    The published values depend on the noise; the defaults are for unknown noise.

    Attributes:
        temperature: T, below 1 to sharpen targets.
        mixup_alpha: alpha of mixup's Beta(alpha, alpha); 0.5 on Clothing1M.
        threshold: Probability of being right above which a label is believed; 0.6 at 90 % noise.
        unlabelled_weight: lambda_u, of the loss on samples whose labels are not believed.
        ramp_epochs: Epochs after the warm-up in which lambda_u rises from 0.
        averaged_epochs: Latest epochs that a sample's loss is averaged over; 5 at 90 % noise.
        confidence_penalty: Whether the warm-up keeps predictions from being confident; for asymmetric noise.
    """

    temperature: float = within(0.5, 0.01, 1)
    mixup_alpha: float = within(4.0, 0.01)
    threshold: float = within(0.5, 0, 1)
    unlabelled_weight: float = within(25.0)
    ramp_epochs: float = within(16.0, 0.01)
    averaged_epochs: int = within(1, 1)
    confidence_penalty: bool = within(False)


class _Division(NamedTuple):
    """What both networks say of the n noisy samples, on the CPU.

    Attributes:
        predictions: (n, C) the mean of their probabilities.
        losses: (n, 2, averaged_epochs) of each in the latest epochs, in [0, 1]; NaN before there were any.
        clean: (n, 2) in [0, 1]: each network's probability that the given label is right.
    """

    predictions: Tensor
    losses: Tensor
    clean: Tensor


class DivideMix(Method):
    """Divides the samples by their losses into labelled and unlabelled ones, and learns from both."""

    name: ClassVar[str] = "dividemix"
    reference: ClassVar[str] = (
        "DivideMix: Learning with Noisy Labels as Semi-supervised Learning, Li et al., ICLR 2020"
    )
    warm_up_share: ClassVar[float] = 10 / 300
    hyper_class: ClassVar[type[Hyper]] = DivideMixHyper
    uses_trusted: ClassVar[bool] = False
    warms_up: ClassVar[bool] = True
    views: ClassVar[tuple[View, ...]] = ("weak", "weak")
    student: Pair
    hyper: DivideMixHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.student = Pair(self.build_student(), self.build_student())

    def bind(self, split: Split) -> None:
        super().bind(split)
        n = len(split.noisy)
        self._steps_per_epoch = batches_in(n, self.settings.noisy_batch, self.ranks)
        device = self.ranks.device
        self._clean = torch.ones(n, 2, device=device)
        self._losses = torch.full((n, 2, self.hyper.averaged_epochs), math.nan, device=device)
        self._known: _Division | None = None

    def sample_state(self) -> dict[str, Tensor]:
        return {"clean": self._clean, "losses": self._losses}

    def estimate(self) -> NoisyEstimate:
        """By both networks' mean: w, and w y + (1 - w) p."""
        division = self._divide()
        w = division.clean.mean(dim=1)
        y = one_hot(torch.from_numpy(self.noisy.given), self.num_classes)
        return NoisyEstimate(w[:, None] * y + (1 - w[:, None]) * division.predictions, w)

    def start_epoch(self) -> None:
        if self.warming_up:
            return
        division = self._divide()
        self._losses.copy_(division.losses)
        self._clean.copy_(division.clean)

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        self._known = None
        one, other = self.student.both
        if self.warming_up:
            losses = [
                self._warm_up(network, inputs, batch.labels)
                for network, inputs in zip((one, other), self.warm_up_views(batch), strict=True)
            ]
        else:
            losses = [self._learn(one, other, batch, 1), self._learn(other, one, batch, 0)]
        return {"student_loss": torch.stack(losses).mean()}

    # --- the views; AugDesc has others

    def warm_up_views(self, batch: Batch) -> tuple[Tensor, ...]:
        """What each network sees in the warm-up."""
        return batch.views

    def guessing_views(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the targets are made of."""
        return batch.views

    def learning_views(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the targets are learned on."""
        return batch.views

    # --- the two kinds of steps

    def _warm_up(self, network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        with self.ranks.autocast():
            logits = full_precision(network(inputs))
        loss = cross_entropy(logits, labels)
        if self.hyper.confidence_penalty:
            loss = loss - entropy(logits)
        self.descend(loss, self.student_sgd)
        return loss.detach()

    def _learn(self, network: Classifier, other: Classifier, batch: Batch, judge: int) -> Tensor:
        """One step of a network; ``judge`` is the other one's number, whose division it uses."""
        w = self._clean[batch.positions, judge]
        is_labelled = w > self.hyper.threshold
        target = torch.where(is_labelled[:, None], *self._targets(network, other, batch, w))

        views = self.learning_views(batch)
        mix = draw_mixture(len(views) * len(w), self.hyper.mixup_alpha, w.device)
        with self.ranks.autocast():
            logits = full_precision(network(mix(torch.cat(views))))
        share = (self._clean[:, judge] > self.hyper.threshold).float().mean()
        loss_x, loss_u = semi_supervised_losses(
            logits, mix(target.repeat(len(views), 1)), is_labelled.repeat(len(views)), share
        )
        loss = loss_x + self.unlabelled_weight * loss_u + imbalance(logits)
        # The one optimiser of both skips the other network, which has no gradient.
        self.descend(loss, self.student_sgd)
        return loss.detach()

    def _targets(
        self, network: Classifier, other: Classifier, batch: Batch, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(n, C) each: the targets if the samples are labelled, and if they are not."""
        views = self.guessing_views(batch)
        guess = self._guess(network, views)
        other.eval()
        others_guess = self._guess(other, views)
        other.train()
        y = one_hot(batch.labels, self.num_classes)
        t = self.hyper.temperature
        labelled, unlabelled = w[:, None] * y + (1 - w[:, None]) * guess, (guess + others_guess) / 2
        return sharpened(labelled, t), sharpened(unlabelled, t)

    @torch.no_grad()
    def _guess(self, network: Classifier, views: Sequence[Tensor]) -> Tensor:
        """A network's mean probabilities (n, C) for the views."""
        with self.ranks.autocast():
            logits = full_precision(network(torch.cat(list(views))))
        return logits.softmax(dim=1).view(len(views), -1, self.num_classes).mean(dim=0)

    @property
    def unlabelled_weight(self) -> Tensor:
        """0-d: lambda_u as it has risen by this step."""
        since = self.step_number / self._steps_per_epoch - self.settings.warm_up
        return self.hyper.unlabelled_weight * (since / self.hyper.ramp_epochs).clamp(0, 1)

    # --- the division

    def _divide(self) -> _Division:
        """The division by the networks as they are, which begins the next epoch; made once."""
        if self._known is not None:
            return self._known
        y = torch.from_numpy(self.noisy.given)
        p = torch.stack([predict_proba(network, self.noisy.inputs) for network in self.student.both])
        # The least normal number of float32 instead of 0: losses are exact up to 87 nats.
        losses = -p[:, torch.arange(len(y)), y].clamp_min(torch.finfo(torch.float32).tiny).log()
        latest = torch.stack([_min_max(each) for each in losses], dim=1)
        history = torch.cat([self._losses[:, :, 1:].cpu(), latest[:, :, None]], dim=2)
        mean = history.nanmean(dim=2).double().numpy()
        # The same seed in every epoch: a run that goes on between two finds the same division again.
        seed = derived_seed(self.settings.seed, RandomStream.LOSS_MIXTURE)
        clean = [probability_of_clean(mean[:, i], seed) for i in range(2)]
        self._known = _Division(p.mean(dim=0), history, torch.from_numpy(np.stack(clean, axis=1)).float())
        return self._known


def probability_of_clean(losses: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Posterior (n,) of the component of smaller mean, in a mixture of two Gaussians over losses (n,).

    1 for all, if the losses are all the same.
    """
    x = losses.reshape(-1, 1)
    if x.min() == x.max():
        return np.ones(len(x))
    mixture = GaussianMixture(2, tol=1e-2, reg_covar=5e-4, max_iter=100, random_state=seed).fit(x)
    posterior: NDArray[np.float64] = mixture.predict_proba(x)[:, mixture.means_.argmin()]
    return posterior


def sharpened(p: Tensor, temperature: float) -> Tensor:
    """Probabilities (n, C) to the power of 1 / temperature, and to a sum of 1 again."""
    powers = p ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def semi_supervised_losses(
    logits: Tensor, targets: Tensor, is_labelled: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """L_x and L_u of a batch, each a sum over its side divided by the side's average size; 0-d.

    Args:
        logits: (n, C).
        targets: (n, C) probabilities.
        is_labelled: (n,) bool.
        share: 0-d, the share of labelled samples in the whole set.
    """
    n, num_classes = logits.shape
    by_labels = -(targets * log_softmax(logits, dim=1)).sum(dim=1)
    by_guesses = (logits.softmax(dim=1) - targets).square().sum(dim=1) / num_classes
    loss_x = by_labels.where(is_labelled, 0.0).sum() / (share * n).clamp_min(1.0)
    loss_u = by_guesses.where(~is_labelled, 0.0).sum() / ((1 - share) * n).clamp_min(1.0)
    return loss_x, loss_u


def imbalance(logits: Tensor) -> Tensor:
    """L_reg: KL divergence of the mean prediction from equal shares of the classes; 0-d."""
    mean = logits.softmax(dim=1).mean(dim=0)
    return -(mean.clamp_min(torch.finfo(mean.dtype).tiny) * logits.shape[1]).log().mean()


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the predictions, in nats; 0-d."""
    log_probs = log_softmax(logits, dim=1)
    return -(log_probs.exp() * log_probs).sum(dim=1).mean()


def _min_max(losses: Tensor) -> Tensor:
    """From 0 to 1; zeros, if all are the same."""
    least, most = losses.aminmax()
    return (losses - least) / (most - least).clamp_min(torch.finfo(torch.float32).tiny)
