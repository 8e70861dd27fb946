"""The settings of a training run."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from emlc.config.checks import backbone_problems, data_problems, out_of_range, wrong_types
from emlc.config.data import NAMED_SOURCES, DataSettings, NoiseSettings, how_to_trust
from emlc.config.groups import PrecisionSetting, groups
from emlc.config.hyper import Hyper, HyperValue, hyper_problems
from emlc.config.methods import (
    method_class,
    name_problems,
)
from emlc.config.setting import WIDEST, expand_home, names_of, setting
from emlc.errors import raise_together

Augmentation = Literal["flip", "crop", "autoaugment", "randaugment"]
NAMED_WEIGHTS = ("none", "imagenet")
"""Names of initial weights that are given by a name, not by a path."""
_TEACHER = 0.02
_STUDENT_OF_NOISE_AWARE = 0.05
"""It learns from soft labels that change slowly, and so can follow them faster than a teacher may learn."""
MIN_EPOCHS = 15
"""Number of epochs on large data, where ``epochs`` is None."""
MOST_NOISY_BATCH = 128
"""Number of noisy samples per step on large data, where ``noisy_batch`` is None."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Student and teacher networks.

    Attributes:
        backbone: auto | linear | shallow | mlp | cnn | a classification network of torchvision.models, such
            as resnet50 or convnext_tiny | module:factory, a function of your own, imported from the current
            directory or Python's path. shallow: one hidden layer, with dropout. mlp: two hidden layers, with
            batch normalisation. auto: shallow for features and cnn for images.
        teacher_backbone: The teacher's backbone (default: the same as the student's).
        stem: First layers of torchvision's residual networks. cifar: a 3 x 3 convolution of stride 1, no
            pooling. imagenet: torchvision's own. auto: cifar for images below 64 pixels, else imagenet.
        init: Initial weights of the student's backbone. none: random | imagenet: torchvision's, downloaded |
            a file: written by `emlc pretrain`, a run's student.safetensors, or a checkpoint (.pt, .pth) of
            SupContrast, lightly or torchvision.
        teacher_init: Initial weights of the teacher's backbone (default: the same as the student's).
        standardize: How features are standardised. columns: each by its own standard deviation. whole: all by
            one number. components: reduced to at most 256 principal components, all divided by one number.
            auto: components for embeddings of images, else columns.
        width: Units of the hidden layers of shallow and mlp (default: 256, or for shallow five per class if
            that is more); channels of the cnn's first stage (default: 32).
        label_embedding_dim: Width of the teacher's label embedding.
        gate_hidden_dim: Hidden units of the teacher's gate.
    """

    backbone: str = "auto"
    teacher_backbone: str | None = setting(None, expert=True)
    stem: Literal["auto", "cifar", "imagenet"] = setting("auto", expert=True)
    init: str = setting("none", path="file", names=NAMED_WEIGHTS, common=True)
    teacher_init: str | None = setting(None, path="file", names=NAMED_WEIGHTS, expert=True)
    standardize: Literal["auto", "columns", "whole", "components"] = setting("auto", expert=True)
    width: int | None = setting(None, at_least=1, at_most=WIDEST)
    label_embedding_dim: int = setting(128, expert=True, at_least=1, at_most=WIDEST)
    gate_hidden_dim: int = setting(128, expert=True, at_least=1, at_most=WIDEST)


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """The method, the look-ahead and the weights of the losses.

    Attributes:
        method: Name of the method; `emlc methods` lists them.
        hyper: Hyper-parameters of the method alone, --hyper.NAME VALUE (default: as published).
        look_ahead: Student steps per teacher step, k (emlc and mlc).
        meta_gradient: approximate: Propositions 1 and 2 of the paper. exact: differentiate through the
            optimiser's steps, with momentum and weight decay.
        jvp: How Jacobian-vector products are computed; auto chooses by device and precision.
        save_memory: Recompute the teacher's activations and the outputs of the student's layers, instead of
            keeping them from a look-ahead step until its meta-gradient. Each further look-ahead step then
            takes only as much memory as the student's weights, but each step takes one to two more forward
            passes.
        teacher: The kind of teacher. noise-aware: a learned transition matrix models the noise, and Bayes'
            rule makes soft labels from it, the prediction and the given label; the teacher learns from
            every given label. gate: the paper's, which learns from the trusted set how far to keep a label.
        meta_weight: Weight of the meta loss. The default is the inverse of how far k student steps move a
            weight whose gradient is 1: 1 / learning_rate for k = 1. So the share of the meta loss depends
            neither on the learning rate nor on k. With the noise-aware teacher it is 0.6 of that at the first
            learning rate, times the estimated share of right labels, and less the more the class shares of
            trusted and noisy samples differ. The paper's tables use 1.
        ce_weight: Weight of the teacher's cross-entropy on trusted samples (default: 1; with the noise-aware
            teacher less beside more than 4,000 noisy samples or more than 400 per class, unless at least 7 %
            of all samples are trusted; 0.02 or more).
        bce_weight: Weight of the gate's binary cross-entropy on corrupted trusted samples.
        likelihood_weight: Weight of the likelihood of the given labels under the noise-aware teacher.
        anchor_weight: Weight of the loss that keeps the noise-aware teacher's transition matrix near what a
            head that learns the given labels predicts on the trusted set.
        corruption: How half of each trusted batch is corrupted for the gate. adversarial: to the wrong class
            that the teacher finds most probable. random: to a class drawn uniformly from all.
        student_trusted: Whether the student also learns from half of each trusted batch, with weight 1;
            the meta objective is then measured on the other half. The authors' code does so on
            Clothing1M; Eq. 6 of the paper does not.
        warm_up_epochs: Number of first epochs in which the student learns from the given labels, for methods
            that warm up (default: the published share of the epochs; none for emlc). With emlc, the
            teacher's network then starts as a copy of the student's. The paper, whose networks are
            pretrained, does not do this: it is for networks that start from random weights.
    """

    method: str = setting("emlc", common=True)
    hyper: dict[str, HyperValue] | None = None
    look_ahead: int = setting(1, at_least=1)
    meta_gradient: Literal["approximate", "exact"] = setting("approximate", expert=True)
    jvp: Literal["auto", "forward", "finite-difference", "double-backward"] = setting("auto", expert=True)
    save_memory: bool = setting(False, free_on_resume=True, expert=True)
    teacher: Literal["noise-aware", "gate"] = "noise-aware"
    meta_weight: float | None = setting(None, expert=True, at_least=0)
    ce_weight: float | None = setting(None, expert=True, at_least=0)
    bce_weight: float = setting(1.0, expert=True, at_least=0)
    likelihood_weight: float = setting(1.0, expert=True, at_least=0)
    anchor_weight: float = setting(1.0, expert=True, at_least=0)
    corruption: Literal["random", "adversarial"] = setting("adversarial", expert=True)
    student_trusted: bool = setting(False, expert=True)
    warm_up_epochs: int | None = setting(None, at_least=0)


@dataclass(frozen=True, kw_only=True)
class OptimisationSettings:
    """Epochs, batches, learning rates and devices.

    Attributes:
        epochs: Passes over the noisy samples (default: 15, or more on small data).
        noisy_batch: Noisy samples per student step, over all devices (default: 128, or fewer on small data).
        trusted_batch: Trusted samples per teacher step, over all devices.
        learning_rate: Learning rate of the student's SGD, eta (default: 0.02; for emlc with the noise-aware
            teacher 0.05, for glc 0.1).
        teacher_learning_rate: Learning rate of the teacher's SGD (default: ``learning_rate`` if it is given,
            else 0.02).
        momentum: Momentum of the student's SGD, and of the teacher's unless teacher_momentum is given.
        teacher_momentum: Momentum of the teacher's SGD (default: the same as the student's).
        weight_decay: Weight decay of the student's SGD, and of the teacher's unless teacher_weight_decay is
            given.
        teacher_weight_decay: Weight decay of the teacher's SGD (default: the same as the student's).
        nesterov: Whether the student's and the teacher's SGD use Nesterov momentum.
        schedule: How the learning rates change. constant | cosine: fall to zero over all steps | step: fall
            after each of the ``schedule_epochs``.
        schedule_epochs: Epochs after each of which the learning rates fall (step).
        schedule_factor: Factor by which the learning rates are multiplied each time (step).
        noisy_augmentation: Augmentations of noisy images, any of flip, crop, autoaugment,
            randaugment (default: crop for grey images, flip and crop for colour).
        trusted_augmentation: Augmentations of trusted images (default: as for noisy images, and autoaugment
            for colour).
        seed: Seed of the split, the noise, the initial weights, the order and the augmentation.
        device: auto | cpu | cuda | cuda:N. With several processes each takes a GPU of its own.
        devices: Number of GPUs, or of CPU processes, of this machine to train on. On several machines start
            ``emlc train`` by ``torchrun`` instead.
        precision: float32 | bf16-mixed: forward passes in bfloat16, weights and losses in float32. auto:
            bf16-mixed for images, on GPUs and CPUs that compute with bfloat16 natively, else float32.
        workers: Threads that decode images which are not held in memory (default: one per core). The
            result does not depend on their number.
        cuda_graph: Whether the training step is captured as a CUDA graph and replayed where that is possible:
            on one GPU, with networks that draw no random numbers. The result does not depend on it.
    """

    epochs: int | None = setting(None, at_least=1, common=True)
    noisy_batch: int | None = setting(None, at_least=2)
    trusted_batch: int = setting(32, at_least=2)
    learning_rate: float | None = setting(None, above=0)
    teacher_learning_rate: float | None = setting(None, expert=True, above=0)
    momentum: float = setting(0.9, expert=True, at_least=0, below=1)
    teacher_momentum: float | None = setting(None, expert=True, at_least=0, below=1)
    weight_decay: float = setting(0.0, at_least=0)
    teacher_weight_decay: float | None = setting(None, expert=True, at_least=0)
    nesterov: bool = setting(False, expert=True)
    schedule: Literal["constant", "cosine", "step"] = "cosine"
    schedule_epochs: list[int] | None = None
    schedule_factor: float = setting(0.1, expert=True, above=0, below=1)
    noisy_augmentation: list[Augmentation] | None = None
    trusted_augmentation: list[Augmentation] | None = None
    seed: int = setting(0, at_least=0, at_most=2**63 - 1, common=True)
    device: str = setting("auto", free_on_resume=True, common=True)
    devices: int = setting(1, free_on_resume=True, at_least=1)
    precision: PrecisionSetting = setting("auto", expert=True)
    workers: int | None = setting(None, free_on_resume=True, expert=True, at_least=1)
    cuda_graph: bool = setting(True, free_on_resume=True, expert=True)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where the run is kept.

    Attributes:
        output: Run directory, new or empty (default: runs/DATA-METHOD-seedN; if a run with other settings is
            there, a digest of the settings is appended).
        checkpoint_every: Teacher steps between checkpoints (default: one checkpoint per epoch).
        rivals: Whether a run of emlc is compared with simple classifiers that learn from the given labels,
            from the trusted samples, and from both by gold loss correction. It takes some seconds.
    """

    output: str | None = setting(None, path="output", free_on_resume=True, common=True)
    checkpoint_every: int | None = setting(None, free_on_resume=True, expert=True, at_least=1)
    rivals: bool = setting(True, free_on_resume=True)


def estimator_settings() -> set[str]:
    """Return the names of the settings that apply when one process fits samples given from Python."""
    groups_of_fit = (NetworkSettings, MethodSettings, OptimisationSettings)
    names = {name for group in groups_of_fit for name in names_of(group)} - {"devices"}
    images = {"image_model", "image_size", "resize", "background", "image_range", "embedding_cache"}
    return names | {"rivals"} | images


@dataclass(frozen=True, kw_only=True)
class Settings(
    RunSettings, OptimisationSettings, MethodSettings, NetworkSettings, NoiseSettings, DataSettings
):
    """All settings of a training run, validated when built.

    Raises:
        InputError: lists every field out of range and every pair of fields that clash.
    """

    def __post_init__(self) -> None:
        expand_home(self)
        raise_together(list(_problems(self)), "the settings")

    @property
    def passes(self) -> int:
        """Number of epochs; as long as it is left to the size of the data, that of large data."""
        return MIN_EPOCHS if self.epochs is None else self.epochs

    @property
    def batch(self) -> int:
        """Noisy samples per student step; as long as it is left to the data, that of large data."""
        return MOST_NOISY_BATCH if self.noisy_batch is None else self.noisy_batch

    @property
    def student_rate(self) -> float:
        """Learning rate of the student: ``learning_rate``, or if it is None the default of the method."""
        if self.learning_rate is not None:
            return self.learning_rate
        noise_aware = self.method == "emlc" and self.teacher == "noise-aware"
        of_method: float = method_class(self.method).learning_rate
        return _STUDENT_OF_NOISE_AWARE if noise_aware else of_method

    @property
    def teacher_rate(self) -> float:
        """Learning rate of emlc's teacher: ``teacher_learning_rate``, or if it is None ``learning_rate``."""
        return self.teacher_learning_rate or self.learning_rate or _TEACHER

    @property
    def scaling(self) -> Literal["columns", "whole", "components"]:
        """How features are standardised; before the data are known, auto is columns."""
        return "columns" if self.standardize == "auto" else self.standardize

    @property
    def warm_up(self) -> int:
        """Number of warm-up epochs: ``warm_up_epochs``, else the method's published share of ``epochs``."""
        if self.warm_up_epochs is not None:
            return self.warm_up_epochs
        share: float = method_class(self.method).warm_up_share
        return min(max(round(share * self.passes), 1), self.passes - 1) if share else 0

    @property
    def hyper_parameters(self) -> Hyper:
        """All hyper-parameters of the method alone, with defaults filled in."""
        hyper: Hyper = method_class(self.method).hyper_class(**(self.hyper or {}))
        return hyper

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values by name, in the order of the groups."""
        values = asdict(self)
        return {f.name: values[f.name] for group in groups(type(self)) for f in fields(group)}


def _problems(s: Settings) -> Iterator[str]:
    if wrong := list(wrong_types(s)):
        yield from wrong
        return
    general = list(_general_problems(s))
    yield from general
    unknown = list(name_problems(s.method))
    yield from unknown
    # Importing the method imports torch, which takes seconds: not where other problems are to be reported.
    if not unknown and (s.hyper or not general):
        kind = method_class(s.method)
        yield from hyper_problems(s.method, kind.hyper_class, s.hyper or {})
        yield from kind.setting_problems(s)


def _general_problems(s: Settings) -> Iterator[str]:
    yield from out_of_range(s)
    yield from data_problems(s)
    for name in ("momentum", "teacher_momentum"):
        if s.nesterov and getattr(s, name) == 0:
            yield f"nesterov: needs {name} above 0"
    trusted = [n for n in ("trusted", "trusted_column", "trusted_per_class") if getattr(s, n) is not None]
    if s.data is not None and len(trusted) != 1 and (trusted or not _may_include_trusted(s.data)):
        names = " and ".join(trusted) or "none"
        hint = "" if trusted else f"; {how_to_trust(s.data)}"
        yield f"trusted, trusted_column, trusted_per_class: give exactly one of the three, got {names}{hint}"
    if s.human_labels is not None and s.noise != "none":
        yield "human_labels and noise: give one of the two; human labels are noisy already"
    if s.noise in ("symmetric", "asymmetric") and s.noise_rate == 0:
        yield f"noise_rate: {s.noise} noise needs a rate above 0"
    if (s.noise == "matrix") != (s.noise_matrix is not None):
        yield "noise and noise_matrix: --noise matrix needs a file noise_matrix, and no other noise takes one"
    if s.noise in ("none", "matrix") and s.noise_rate != 0:
        yield f"noise_rate: has no meaning with --noise {s.noise}"
    if s.warm_up_epochs is not None and s.epochs is not None and s.warm_up_epochs >= s.epochs > 0:
        yield f"warm_up_epochs: expected fewer than epochs ({s.epochs}), got {s.warm_up_epochs}"
    if s.student_trusted and s.trusted_batch < 4:
        yield f"trusted_batch: student_trusted halves it; expected at least 4, got {s.trusted_batch}"
    if s.precision == "bf16-mixed" and s.jvp == "finite-difference":
        yield "precision and jvp: finite differences drown in the rounding of bfloat16; change one of the two"
    if s.meta_gradient == "exact" and s.jvp == "finite-difference":
        yield (
            "meta_gradient and jvp: finite differences cannot give the exact meta-gradient; change one of "
            "the two"
        )
    for name in ("noisy_augmentation", "trusted_augmentation"):
        for augmentation in getattr(s, name) or ():
            if augmentation not in get_args(Augmentation):
                yield f"{name}: expected any of {', '.join(get_args(Augmentation))}, got {augmentation!r}"
    yield from _network_problems(s)
    yield from _schedule_problems(s)


def _network_problems(s: Settings) -> Iterator[str]:
    yield from backbone_problems(s)
    other_backbone = s.teacher_backbone not in (None, s.backbone)
    if other_backbone and s.init != "none" and s.teacher_init is None:
        yield (
            "teacher_init: needed with init, as teacher_backbone differs from backbone; none: random weights"
        )


def _may_include_trusted(data: str) -> bool:
    """Return whether the data may include trusted samples: clothing1m does, a folder may.

    The path is not opened: settings of a run are read even where its data are gone.
    """
    is_file = data.lower().endswith((".csv", ".parquet", ".npz"))
    return data == "clothing1m" or not (data in NAMED_SOURCES or is_file)


def _schedule_problems(s: Settings) -> Iterator[str]:
    epochs = s.schedule_epochs
    if (s.schedule == "step") != bool(epochs):
        yield (
            "schedule and schedule_epochs: --schedule step needs schedule_epochs, and no other schedule "
            "takes them"
        )
    elif epochs and not all(
        earlier < later
        for earlier, later in zip([0, *epochs], [*epochs, s.epochs or sys.maxsize], strict=True)
    ):
        most = "" if s.epochs is None else f" to {s.epochs - 1}"
        yield f"schedule_epochs: expected rising numbers from 1{most}, got {epochs}"
