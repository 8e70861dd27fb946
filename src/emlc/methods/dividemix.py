"""DivideMix: two networks, each of which selects for the other the labels to trust.

Li, Socher and Hoi: DivideMix: Learning with Noisy Labels as Semi-supervised Learning, ICLR 2020.

After a warm-up with cross-entropy, at the start of every epoch a mixture of two Gaussians is fitted to each
network's losses of all samples: a sample's posterior w of the component with small losses is the probability
that its label is right. A network treats a sample as labelled where the *other* network has w > threshold,
and as unlabelled otherwise. With p its mean prediction for the two views, and Sharpen(q) = q^(1/T), divided
by its sum, (Algorithm 1, Eq. 3 to 5; w is the other network's)

    labelled:    target = Sharpen(w y + (1 - w) p)              "co-refinement", with its own p
    unlabelled:  target = Sharpen((p + p of the other) / 2)     "co-guessing"
    mixup:       l ~ Beta(alpha, alpha), l = max(l, 1 - l), among all views of the batch (Eq. 6 to 8)
    loss:        L_x + lambda_u L_u + L_reg (Eq. 9 to 12)
                 L_x = mean cross-entropy of labelled views
                 L_u = mean squared error of the probabilities of unlabelled views, over all C classes
                 L_reg = sum_c pi_c log(pi_c / mean p_c), pi_c = 1 / C

lambda_u rises from 0 over 16 epochs after the warm-up. The student is both networks, with averaged logits.

The paper chose lambda_u by the noise: for CIFAR-10 0 at 20 % symmetric and at 40 % asymmetric noise, 25 at 50
and 80 %, 50 at 90 %; for CIFAR-100 25, 150, 150 and 150; the threshold is 0.6 at 90 %. As the noise is not
known, the defaults are 25 and 0.5. The authors' code averages a sample's losses over the last 5 epochs at
90 % symmetric noise (``averaged_epochs``). For asymmetric noise and on Clothing1M it subtracts the entropy of
the predictions from the loss in the warm-up (``confidence_penalty``), since the losses of overconfident
networks do not form two components.

Departures:

- The published code draws separate labelled and unlabelled batches, 64 samples each, until the labelled
  samples are used up. Here a batch is drawn from the whole set and then divided. For every sample of a side
  to have the same weight, the sums of L_x and L_u are divided by the average number of rows of that side per
  batch (at least one), not by the number in this batch. This is the published loss in expectation; a batch
  without one side lacks that term. With batches of 128 there are as many views per step as in the code.
- The code trains one network for an epoch, then the other. Here both learn from the same batch, one after the
  other; in the warm-up each has its own view.
- A network predicts its own targets in training mode, as in the code, so that batch norm's running statistics
  see plain views as well as mixed ones. It does so in one pass over all views, where the code has four, since
  a side may be too small for batch statistics. The other network is in evaluation mode, as in the code.
- The EM of the mixture may take 100 iterations instead of 10 (C2D's code has 200, or 100).
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
from torch.nn.utils import clip_grad_norm_

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch, batches_in
from emlc.methods.base import Losses, Method, NoisyEstimate, View
from emlc.methods.entropy import entropy
from emlc.methods.mixup import draw_mixture
from emlc.methods.pair import Pair
from emlc.networks.backbones import Classifier
from emlc.networks.inference import judge_given
from emlc.runtime.precision import full_precision
from emlc.runtime.streams import RandomStream, derived_seed


@dataclass(frozen=True, kw_only=True)
class DivideMixHyper(Hyper):
    """Hyper-parameters of DivideMix and C2D.

    The published values depend on the noise; the defaults are for unknown noise.

    Attributes:
        temperature: Temperature T of the targets; below 1 sharpens them.
        mixup_alpha: alpha of mixup's Beta(alpha, alpha); 0.5 on Clothing1M.
        threshold: Probability of being right above which a sample counts as labelled; 0.6 at 90 % noise.
        unlabelled_weight: Weight of the loss on unlabelled samples, lambda_u.
        ramp_epochs: Number of epochs after the warm-up over which lambda_u rises from 0.
        averaged_epochs: Number of last epochs over which a sample's losses are averaged; 5 at 90 % noise.
        confidence_penalty: Whether the warm-up penalises confident predictions; for asymmetric noise.
    """

    temperature: float = within(0.5, 0.01, 1)
    mixup_alpha: float = within(4.0, 0.01)
    threshold: float = within(0.5, 0, 1)
    unlabelled_weight: float = within(25.0)
    ramp_epochs: float = within(16.0, 0.01)
    averaged_epochs: int = within(1, 1)
    confidence_penalty: bool = within(False)


class _Division(NamedTuple):
    """Both networks' division of the n noisy samples, on the CPU.

    Attributes:
        predictions: (n, C) the networks' mean probabilities.
        losses: (n, 2, averaged_epochs) each network's losses of the last epochs, scaled to [0, 1]; NaN for
            epochs before the first.
        clean: (n, 2) in [0, 1]: each network's probability that the given label is right.
    """

    predictions: Tensor
    losses: Tensor
    clean: Tensor


class Lesson(NamedTuple):
    """What a network learns in a step, from v views of n samples.

    Attributes:
        inputs: (v n, ...), one view after another.
        targets: (v n, C) probabilities.
        further_loss: A loss to add, 0-d.
    """

    inputs: Tensor
    targets: Tensor
    further_loss: Tensor | float = 0.0


class DivideMix(Method):
    """Semi-supervised learning from samples that are divided into labelled and unlabelled by their losses.

    Attributes:
        warm_up_norm: Maximum norm of a network's gradient in the warm-up.
    """

    name: ClassVar[str] = "dividemix"
    reference: ClassVar[str] = (
        "DivideMix: Learning with Noisy Labels as Semi-supervised Learning, Li et al., ICLR 2020"
    )
    warm_up_share: ClassVar[float] = 10 / 300
    hyper_class: ClassVar[type[Hyper]] = DivideMixHyper
    uses_trusted: ClassVar[bool] = False
    warms_up: ClassVar[bool] = True
    views: ClassVar[tuple[View, ...]] = ("weak", "weak")
    warm_up_norm: ClassVar[float] = math.inf
    student: Pair
    hyper: DivideMixHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.student = Pair(self.build_student(), self.build_student())

    def bind(self, split: Split) -> None:
        super().bind(split)
        n = len(split.noisy)
        self._steps_per_epoch = batches_in(n, self.settings.batch, self.ranks)
        device = self.ranks.device
        self._clean = torch.ones(n, 2, device=device)
        self._losses = torch.full((n, 2, self.hyper.averaged_epochs), math.nan, device=device)
        self._current: _Division | None = None

    def sample_state(self) -> dict[str, Tensor]:
        return {"clean": self._clean, "losses": self._losses}

    def estimate(self) -> NoisyEstimate:
        """Return the weights w, and the soft labels w y + (1 - w) p, with both networks' means w and p."""
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
        self._current = None
        one, other = self.student.both
        if self.warming_up:
            losses = [
                self._warm_up(network, inputs, batch.labels)
                for network, inputs in zip((one, other), self.warm_up_views(batch), strict=True)
            ]
        else:
            losses = [self._learn(one, other, batch, 1), self._learn(other, one, batch, 0)]
        return {"student_loss": torch.stack(losses).mean()}

    # --- the views; AugDesc overrides them

    def warm_up_views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the view for each network in the warm-up."""
        return batch.views

    def guessing_views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the views whose predictions give the targets."""
        return batch.views

    def learning_views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the views on which the targets are learned."""
        return batch.views

    def threshold_of(self, clean: Tensor) -> Tensor:
        """Return, 0-d, above which of the n samples' probabilities of being right one counts as labelled."""
        return clean.new_tensor(self.hyper.threshold)

    # --- the two kinds of steps

    def _warm_up(self, network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        with self.ranks.autocast():
            logits = full_precision(network(inputs))
        loss = cross_entropy(logits, labels)
        if self.hyper.confidence_penalty:
            loss = loss - entropy(log_softmax(logits, dim=1))
        self.student_sgd.zero_grad(set_to_none=True)
        loss.backward()
        if self.warm_up_norm < math.inf:
            clip_grad_norm_(network.parameters(), self.warm_up_norm)
        self.descend_gradients(self.student_sgd)
        return loss.detach()

    def _learn(self, network: Classifier, other: Classifier, batch: Batch, i_other: int) -> Tensor:
        """Train a network for one step on the division by the other one, whose number is ``i_other``."""
        w, threshold = self._clean[batch.positions, i_other], self.threshold_of(self._clean[:, i_other])
        is_labelled = w > threshold
        lesson = self.lesson(network, other, batch, w, is_labelled)
        mix = draw_mixture(len(lesson.inputs), self.hyper.mixup_alpha, w.device)
        with self.ranks.autocast():
            logits = full_precision(network(mix(lesson.inputs)))
        share = (self._clean[:, i_other] > threshold).float().mean()
        views = len(lesson.inputs) // len(w)
        loss_x, loss_u = semi_supervised_losses(logits, mix(lesson.targets), is_labelled.repeat(views), share)
        loss = loss_x + self.unlabelled_weight * loss_u + imbalance(logits) + lesson.further_loss
        # Both networks share an optimiser, which skips the other network: it has no gradient.
        self.descend(loss, self.student_sgd)
        return loss.detach()

    def lesson(
        self, network: Classifier, other: Classifier, batch: Batch, w: Tensor, is_labelled: Tensor
    ) -> Lesson:
        """Make what a network learns in a step, given the other one's w and division (n,)."""
        targets = self.targets(network, other, batch, w, is_labelled)
        views = self.learning_views(batch)
        return Lesson(torch.cat(views), targets.repeat(len(views), 1))

    def targets(
        self, network: Classifier, other: Classifier, batch: Batch, w: Tensor, is_labelled: Tensor
    ) -> Tensor:
        """Compute the targets (n, C) of the samples, labelled or not."""
        views = self.guessing_views(batch)
        guess = self._guess(network, views)
        other.eval()
        others_guess = self._guess(other, views)
        other.train()
        y = one_hot(batch.labels, self.num_classes)
        t = self.hyper.temperature
        labelled, unlabelled = w[:, None] * y + (1 - w[:, None]) * guess, (guess + others_guess) / 2
        return torch.where(is_labelled[:, None], sharpened(labelled, t), sharpened(unlabelled, t))

    @torch.no_grad()
    def _guess(self, network: Classifier, views: Sequence[Tensor]) -> Tensor:
        """Predict a network's mean probabilities (n, C) for the views."""
        with self.ranks.autocast():
            logits = full_precision(network(torch.cat(list(views))))
        return logits.softmax(dim=1).view(len(views), -1, self.num_classes).mean(dim=0)

    @property
    def unlabelled_weight(self) -> Tensor:
        """lambda_u in the current step, 0-d."""
        epochs = self.step_number / self._steps_per_epoch - self.settings.warm_up
        return self.hyper.unlabelled_weight * (epochs / self.hyper.ramp_epochs).clamp(0, 1)

    # --- the division

    def _divide(self) -> _Division:
        """Divide the samples by the networks' current losses, once per epoch; the next epoch uses it."""
        if self._current is not None:
            return self._current
        judged = [judge_given(network, self.noisy) for network in self.student.both]
        p = torch.stack([each.probabilities for each in judged])
        latest = torch.stack([_min_max(each.losses) for each in judged], dim=1)
        history = torch.cat([self._losses[:, :, 1:].cpu(), latest[:, :, None]], dim=2)
        mean = history.nanmean(dim=2).double().numpy()
        # The same seed in every epoch: a run resumed between two epochs computes the same division again.
        seed = derived_seed(self.settings.seed, RandomStream.LOSS_MIXTURE)
        clean = [probability_of_clean(mean[:, i], seed) for i in range(2)]
        self._current = _Division(p.mean(dim=0), history, torch.from_numpy(np.stack(clean, axis=1)).float())
        return self._current


def probability_of_clean(losses: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Fit a mixture of two Gaussians to losses (n,); return the posterior (n,) of the one with smaller mean.

    The posterior is 1 for all samples if all losses are equal.
    """
    x = losses.reshape(-1, 1)
    if x.min() == x.max():
        return np.ones(len(x))
    mixture = GaussianMixture(2, tol=1e-2, reg_covar=5e-4, max_iter=100, random_state=seed).fit(x)
    posterior: NDArray[np.float64] = mixture.predict_proba(x)[:, mixture.means_.argmin()]
    return posterior


def sharpened(p: Tensor, temperature: float) -> Tensor:
    """Raise probabilities (n, C) to the power of 1 / temperature, and normalise them to a sum of 1."""
    return (p.log() / temperature).softmax(dim=1)  # all powers of a row may be too small for the dtype


def semi_supervised_losses(
    logits: Tensor, targets: Tensor, is_labelled: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute L_x and L_u of a batch, 0-d: sums over the rows of a side, divided by its average size.

    Args:
        logits: (n, C) of the network.
        targets: (n, C) probabilities.
        is_labelled: (n,) bool.
        share: 0-d, the share of labelled samples in the whole set.
    """
    n, num_classes = logits.shape
    cross_entropies = -(targets * log_softmax(logits, dim=1)).sum(dim=1)
    squared_errors = (logits.softmax(dim=1) - targets).square().sum(dim=1) / num_classes
    loss_x = cross_entropies.where(is_labelled, 0.0).sum() / (share * n).clamp_min(1.0)
    loss_u = squared_errors.where(~is_labelled, 0.0).sum() / ((1 - share) * n).clamp_min(1.0)
    return loss_x, loss_u


def imbalance(logits: Tensor) -> Tensor:
    """Compute L_reg, 0-d: KL(pi || mean prediction), with pi uniform over the classes."""
    mean = logits.softmax(dim=1).mean(dim=0)
    return -(mean.clamp_min(torch.finfo(mean.dtype).tiny) * logits.shape[1]).log().mean()


def _min_max(losses: Tensor) -> Tensor:
    """Scale losses (n,) to [0, 1]; zeros if all are equal."""
    least, most = losses.aminmax()
    return (losses - least) / (most - least).clamp_min(torch.finfo(torch.float32).tiny)
