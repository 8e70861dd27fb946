"""Hyper-parameters of single methods; their defaults are the published ones.

What methods share, such as the learning rate, is a setting; what belongs to one alone is here. Published
values of both, for the data they were published for, are presets: ``emlc train --preset mw-net-cifar10``.
"""

import math
from dataclasses import dataclass, field
from typing import Any

HyperValue = bool | int | float
"""Of a hyper-parameter."""


def within(default: Any, low: float = 0.0, high: float = math.inf) -> Any:
    """A hyper-parameter's default, and the finite range that its values are from."""
    return field(default=default, metadata={"limits": (low, high)})


@dataclass(frozen=True, kw_only=True)
class Hyper:
    """Hyper-parameters of a method that has none of its own."""


@dataclass(frozen=True, kw_only=True)
class FineTuningHyper(Hyper):
    """Of fine-tuning.

    Attributes:
        fine_tuned_share: Share of the epochs, the last ones, that fine-tune on the trusted samples.
    """

    fine_tuned_share: float = within(0.5, 0, 1)


@dataclass(frozen=True, kw_only=True)
class MLCHyper(Hyper):
    """Of MLC.

    Attributes:
        label_embedding_dim: Width of the meta-net's label embedding.
        hidden_dim: Width of its two hidden layers.
        skip: Whether a logit of its own mixes the given label into the soft one; published for Clothing1M.
        meta_learning_rate: Of the meta-net's Adam, unless teacher_learning_rate is given.
    """

    label_embedding_dim: int = within(64, 1)
    hidden_dim: int = within(128, 1)
    skip: bool = within(False)
    meta_learning_rate: float = within(3e-4)


@dataclass(frozen=True, kw_only=True)
class MWNetHyper(Hyper):
    """Of MW-Net.

    Attributes:
        hidden_dim: Hidden units of the net V.
        meta_learning_rate: Of V's Adam, unless teacher_learning_rate is given.
        meta_weight_decay: Weight decay of V.
    """

    hidden_dim: int = within(100, 1)
    meta_learning_rate: float = within(1e-3)
    meta_weight_decay: float = within(1e-4)


@dataclass(frozen=True, kw_only=True)
class MSLCHyper(Hyper):
    """Of MSLC.

    Attributes:
        hidden_dim: Hidden units of either net.
        meta_learning_rate: Of their Adam, unless teacher_learning_rate is given.
        meta_weight_decay: Weight decay of both.
        averaged_epochs: Last epochs of the warm-up, over which predictions are averaged to begin with.
    """

    hidden_dim: int = within(100, 1)
    meta_learning_rate: float = within(1e-3)
    meta_weight_decay: float = within(1e-4)
    averaged_epochs: int = within(10, 1)


@dataclass(frozen=True, kw_only=True)
class DivideMixHyper(Hyper):
    """Of DivideMix, and of C2D. The published values depend on the noise; the defaults are for unknown noise.

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


@dataclass(frozen=True, kw_only=True)
class PencilHyper(Hyper):
    """Of pencil.

    Attributes:
        label_learning_rate: What a label moves by along its own loss: the published lambda over the size of
            the published batches.
        initial_logit: Logit of the given class at the beginning, K; the others have 0.
        compatibility_weight: Of the loss that keeps labels near the given ones, alpha.
        entropy_weight: Of the entropy of predictions, beta.
        final_share: Share of the epochs, the last ones, in which the labels stay.
        final_rate: The learning rate of those epochs, in terms of ``learning_rate``.
    """

    label_learning_rate: float = within(600 / 128)
    initial_logit: float = within(10.0)
    compatibility_weight: float = within(0.4)
    entropy_weight: float = within(0.1)
    final_share: float = within(120 / 320, 0, 1)
    final_rate: float = within(0.2 / 0.06)


@dataclass(frozen=True, kw_only=True)
class JointOptimHyper(Hyper):
    """Of joint-optim.

    Attributes:
        prior_weight: Of the divergence of the mean prediction from the prior of the classes, alpha.
        entropy_weight: Of the entropy of predictions, beta.
        averaged_epochs: Epochs whose predictions a label is the mean of.
        uniform_prior: Whether classes are equally likely; or as frequent as among the given labels.
        retraining_share: Share of the epochs, the last ones, that train anew on the final labels.
        retraining_rate: The learning rate of those epochs, in terms of ``learning_rate``.
    """

    prior_weight: float = within(1.2)
    entropy_weight: float = within(0.8)
    averaged_epochs: int = within(10, 1)
    uniform_prior: bool = within(True)
    retraining_share: float = within(120 / 320, 0, 1)
    retraining_rate: float = within(0.2 / 0.08)


@dataclass(frozen=True, kw_only=True)
class FasTENHyper(Hyper):
    """Of FasTEN.

    Attributes:
        threshold: Least probability of a class for it to become the label.
        noisy_weight: Weight of the noisy head's loss, lambda.
    """

    threshold: float = within(0.8, 0, 1)
    noisy_weight: float = within(0.5)


@dataclass(frozen=True, kw_only=True)
class MLNTHyper(Hyper):
    """Of MLNT.

    Attributes:
        fake_sets: Sets of fake labels for each batch, M.
        fake_share: Share of the samples whose label is changed in each.
        neighbours: Nearest samples of the batch that a changed label comes from.
        fake_learning_rate: Of the step on each set.
        consistency_weight: Weight of the divergence from the moving average after that step.
        meta_start: Steps after the warm-up before there is any such step.
        meta_full: Steps after the warm-up from which the divergence has its full weight.
        first_decay: Decay of the moving average until then.
        last_decay: Decay from then on.
    """

    fake_sets: int = within(10, 1)
    fake_share: float = within(0.5, 0, 1)
    neighbours: int = within(10, 1)
    fake_learning_rate: float = within(0.02)
    consistency_weight: float = within(1.0)
    meta_start: int = within(500)
    meta_full: int = within(2000)
    first_decay: float = within(0.99, 0, 1)
    last_decay: float = within(0.999, 0, 1)


@dataclass(frozen=True, kw_only=True)
class ELRPlusHyper(Hyper):
    """Of ELR+; the defaults are those for CIFAR-10 with symmetric noise.

    Attributes:
        target_momentum: beta of the running targets; 0.9 for asymmetric noise and CIFAR-100.
        regularisation: lambda; 1 for asymmetric noise, 7 for CIFAR-100.
        mixup_alpha: Of mixup's Beta(alpha, alpha).
        weight_momentum: gamma of the averaged weights; 0.999 on Clothing1M.
        weight_ramp_steps: Steps in which gamma rises to that; with 0 the average begins as the plain one.
    """

    target_momentum: float = within(0.7, 0, 1)
    regularisation: float = within(3.0)
    mixup_alpha: float = within(1.0, 0.01)
    weight_momentum: float = within(0.997, 0, 1)
    weight_ramp_steps: int = within(40_000)


@dataclass(frozen=True, kw_only=True)
class AugDescHyper(DivideMixHyper):
    """Of AugDesc: those of DivideMix, and one.

    Attributes:
        strong_warm_up: Whether the warm-up sees strong views.
    """

    strong_warm_up: bool = within(False)


@dataclass(frozen=True, kw_only=True)
class MSLGHyper(Hyper):
    """Of mslg.

    Attributes:
        inner_learning_rate: Of the look-ahead step through which labels learn, alpha.
        label_learning_rate: What a label moves by along its own meta-gradient: the published beta over the
            size of the published batches.
        initial_logit: Logit of the given class at the beginning, K; the others have 0.
        entropy_weight: Of the entropy of predictions, gamma.
    """

    inner_learning_rate: float = within(0.5)
    label_learning_rate: float = within(4000 / 128)
    initial_logit: float = within(10.0)
    entropy_weight: float = within(1.0)


@dataclass(frozen=True, kw_only=True)
class FaMUSHyper(Hyper):
    """Of famus.

    Attributes:
        meta_learning_rate: Of the Adam that trains the net which weighs samples; ``teacher_learning_rate``
            goes before it.
        gate_learning_rate: Of the SGD that trains the gates of the layers.
        candidate_layers: Parameter tensors before the classifier that may take part in the meta-gradient.
        active_layers: How many of them are wanted, K.
        count_weight: Of the squared difference from that number, lambda_1.
        gradient_weight: Of the squared difference of noisy and trusted gradients in the classifier, lambda_2.
    """

    meta_learning_rate: float = within(1e-3)
    gate_learning_rate: float = within(0.1)
    candidate_layers: int = within(13, 1)
    active_layers: int = within(4)
    count_weight: float = within(0.1)
    gradient_weight: float = within(0.1)


@dataclass(frozen=True, kw_only=True)
class SMPHyper(Hyper):
    """Of smp.

    Attributes:
        corrected_weight: Of the loss with corrected labels, alpha; the one with given labels has the rest.
        prototypes: At most so many of each class, p.
        samples_per_class: Samples with a given label among which its prototypes are looked for, m.
    """

    corrected_weight: float = within(0.5, 0, 1)
    prototypes: int = within(8, 1)
    samples_per_class: int = within(1280, 1)
