"""Every setting, typed once, for the command line, YAML files and Python alike.

The groups below become the sections of ``emlc train --help``. Types are checked by jsonargparse,
ranges and clashes here, when the settings are built: all problems are reported together, each
naming its field.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from emlc.errors import raise_together

Augmentation = Literal["flip", "crop", "autoaugment"]
Precision = Literal["float32", "bf16-mixed"]
PrecisionSetting = Literal["auto", "float32", "bf16-mixed"]
View = Literal["crop", "flip", "colour", "grey", "blur"]

NAMED_SOURCES = ("cifar10", "cifar100", "clothing1m", "digits")
"""Sources that are called by a name, not by a path."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the samples come from, and which of them are trusted.

    Attributes:
        data: cifar10 | cifar100 | clothing1m | digits | a .csv, .parquet or .npz file | a folder or glob of
            parquet files | the folder of Clothing1M | a folder with one sub-folder of images a class.
            None: samples are given from Python. CIFAR brings its test set, Clothing1M its trusted,
            validation and test sets.
        data_root: Folder of cifar10, cifar100 and clothing1m. CIFAR is downloaded into it if it is not
            there; parquet files of CIFAR may lie in it, too.
        trusted: Source of the trusted samples, of any kind that ``data`` may be.
        trusted_column: Name of a boolean column (or .npz array) of ``data`` that marks trusted rows.
        trusted_per_class: Draw this many trusted samples a class, for experiments where the true
            labels are known.
        validation: Source of samples for model choice; without it the trusted set serves.
        validation_fraction: Without ``validation``: hold this fraction of the trusted samples out for
            it, stratified by class. Accuracy on trusted samples that the teacher learns from is flattering.
        test: Source of test samples, which take part in no choice.
        test_fraction: Without ``test``: hold this fraction of ``data`` out, stratified by class. Where
            the true labels are not known, its labels are as doubtful as the others.
        label_column: Column with the given labels (default: label).
        true_label_column: Column with the true labels, where they are known; used for measuring
            only, for ``trusted_per_class``, and as the label of the test samples.
        id_column: Column with unique sample ids (default: id, else the row number).
        image_column: Column with image file paths or embedded images (default: found by content).
        feature_columns: Numeric columns to learn from (default: all that have no other role).
        human_labels: File with human labels of the data: CIFAR-10_human.pt or CIFAR-100_human.pt of CIFAR-N,
            or .npz or .csv with such columns. They become the given labels, the data's own the true
            ones, after its clean_label was compared with these row by row.
        human_labels_key: Which labels of that file: worst, aggregate, random1, random2 or random3 of
            CIFAR-10N, or a column's name (default: the only ones there are).
        classes: Class names in the wanted order (default: those found in the data, sorted).
        image_size: Resize images to this many pixels a side (default: as the images are).
        resize: Bring the shorter side of images to this many pixels, and cut a square of ``image_size``
            out of the centre; 256 and 224 are the usual for Clothing1M.
        memory_gib: Images are held in memory, decoded, if all sets together take no more than this many
            GiB. Others are read from disk whenever they are needed.
        image_cache: Folder in which decoded images are kept, so that no image is decoded twice. Filling it
            goes on where it was stopped. It takes channels x image_size x image_size bytes an image.
        noisy_limit: Use a random subset of this many noisy samples.
        skip_unreadable: Leave out images that cannot be read, and say how many. Of images that neither fit
            in memory nor have a cache, this takes a pass over all of them.
        overlap: What to do with a trusted sample that is also among the noisy ones.
    """

    data: str | None = None
    data_root: str = "~/.cache/emlc"
    trusted: str | None = None
    trusted_column: str | None = None
    trusted_per_class: int | None = None
    validation: str | None = None
    validation_fraction: float | None = None
    test: str | None = None
    test_fraction: float | None = None
    label_column: str | None = None
    true_label_column: str | None = None
    id_column: str | None = None
    image_column: str | None = None
    feature_columns: list[str] | None = None
    human_labels: str | None = None
    human_labels_key: str | None = None
    classes: list[str] | None = None
    image_size: int | None = None
    resize: int | None = None
    memory_gib: float = 8.0
    image_cache: str | None = None
    noisy_limit: int | None = None
    skip_unreadable: bool = False
    overlap: Literal["error", "drop"] = "error"


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Label noise to inject, for experiments where the given labels are right.

    Attributes:
        noise: symmetric: redraw uniformly over all classes. asymmetric: move to the similar class
            (CIFAR-10, CIFAR-100 and digits maps). matrix: draw from the rows of ``noise_matrix``.
        noise_rate: Fraction of the noisy samples that is redrawn (symmetric, asymmetric).
        noise_matrix: .csv or .npy file with a C x C transition matrix, rows = true class.
        noise_draw: sample: each sample independently. exact: an exact number of samples.
    """

    noise: Literal["none", "symmetric", "asymmetric", "matrix"] = "none"
    noise_rate: float = 0.0
    noise_matrix: str | None = None
    noise_draw: Literal["sample", "exact"] = "sample"


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Student and teacher networks.

    Attributes:
        backbone: auto | linear | mlp | cnn | a classification network of torchvision.models, such as
            resnet50 or convnext_tiny | module:factory, your own, found from the current directory or on
            Python's path. auto is mlp for features and cnn for images.
        teacher_backbone: The teacher's backbone (default: as the student's).
        stem: First layers of torchvision's residual networks. cifar: a 3 x 3 convolution of stride 1, no
            pooling. imagenet: as torchvision has them. auto: cifar for images below 64 pixels.
        init: Initial weights of the student's backbone. none: random | imagenet: torchvision's, downloaded |
            a file: what `emlc pretrain` wrote, a run's student.safetensors, or a checkpoint (.pt, .pth) of
            SupContrast, lightly or torchvision.
        teacher_init: The same for the teacher's backbone (default: as the student's).
        width: Units of the mlp's hidden layers; channels of the cnn's first stage.
        label_embedding_dim: Width of the teacher's label embedding.
        gate_hidden_dim: Hidden units of the teacher's gate.
    """

    backbone: str = "auto"
    teacher_backbone: str | None = None
    stem: Literal["auto", "cifar", "imagenet"] = "auto"
    init: str = "none"
    teacher_init: str | None = None
    width: int | None = None
    label_embedding_dim: int = 128
    gate_hidden_dim: int = 128


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """What is learned from which labels.

    Attributes:
        method: emlc | cross-entropy (on the given labels) | trusted-only.
        look_ahead: Student steps per teacher step, k.
        meta_gradient: approximate: Propositions 1 and 2 of the paper. exact: through the optimiser.
        jvp: How Jacobian-vector products are computed; auto picks by device and precision.
        save_memory: Compute again what is otherwise kept from a look-ahead step until its meta-gradient:
            the teacher's activations, and products of the student's layers. A further step of the
            look-ahead then takes as much memory as the student's weights, and each step one to two
            forward passes more.
        meta_weight: Weight of the meta loss (default: 1 / learning_rate, so that its share does not
            depend on the student's learning rate; the paper's tables have 1).
        ce_weight: Weight of the teacher's cross-entropy on trusted samples.
        bce_weight: Weight of the gate's binary cross-entropy on corrupted trusted samples.
        corruption: How half of each trusted batch is corrupted for the gate.
        student_trusted: Whether the student also learns from half of each trusted batch, with weight 1;
            the meta objective is then measured on the other half. The authors' code does so on
            Clothing1M; Eq. 6 of the paper does not.
        warm_up_epochs: First epochs in which the student learns from the labels as given, after which
            the teacher's network starts as a copy of the student's. Not in the paper, whose networks
            are pretrained; for networks that start from random weights.
    """

    method: Literal["emlc", "cross-entropy", "trusted-only"] = "emlc"
    look_ahead: int = 1
    meta_gradient: Literal["approximate", "exact"] = "approximate"
    jvp: Literal["auto", "forward", "finite-difference", "double-backward"] = "auto"
    save_memory: bool = False
    meta_weight: float | None = None
    ce_weight: float = 1.0
    bce_weight: float = 1.0
    corruption: Literal["random", "adversarial"] = "adversarial"
    student_trusted: bool = False
    warm_up_epochs: int = 0


@dataclass(frozen=True, kw_only=True)
class OptimisationSettings:
    """How long and how fast.

    Attributes:
        epochs: Passes over the noisy samples.
        noisy_batch: Noisy samples a student step, over all devices.
        trusted_batch: Trusted samples a teacher step, over all devices.
        learning_rate: Learning rate of the student's SGD, eta.
        teacher_learning_rate: Learning rate of the teacher's SGD (default: as the student's).
        momentum: Momentum of both.
        weight_decay: Weight decay of both.
        nesterov: Nesterov momentum in both.
        schedule: constant | cosine: to zero over all steps | step: after the ``schedule_epochs``.
        schedule_epochs: Epochs after each of which the learning rates fall (step).
        schedule_factor: What they are multiplied by each time (step).
        noisy_augmentation: Any of flip, crop, autoaugment, for noisy images
            (default: crop for grey images, flip and crop for colour).
        trusted_augmentation: The same for trusted images (default: also autoaugment for colour).
        seed: Seed of the split, the noise, the initial weights, the order and the augmentation.
        device: auto | cpu | cuda | cuda:N. With several processes each takes a GPU of its own.
        devices: GPUs, or CPU processes, of this machine to train on. For several machines start
            ``emlc train`` by ``torchrun``, and leave this alone.
        precision: float32 | bf16-mixed: forward passes in bfloat16, weights and losses in float32. auto is
            the latter for images, on GPUs and CPUs that compute with bfloat16 natively.
        workers: Threads that decode images which are not held in memory (default: one a core). The
            result does not depend on their number.
        cuda_graph: Whether the step is recorded as a CUDA graph and replayed, where it can be: with one GPU,
            and networks that draw no random numbers. The result does not depend on it.
    """

    epochs: int = 15
    noisy_batch: int = 128
    trusted_batch: int = 32
    learning_rate: float = 0.02
    teacher_learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: Literal["constant", "cosine", "step"] = "constant"
    schedule_epochs: list[int] | None = None
    schedule_factor: float = 0.1
    noisy_augmentation: list[Augmentation] | None = None
    trusted_augmentation: list[Augmentation] | None = None
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: PrecisionSetting = "auto"
    workers: int | None = None
    cuda_graph: bool = True


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where the run is kept.

    Attributes:
        output: Run directory (default: runs/DATA-METHOD-seedN).
        checkpoint_every: Teacher steps between checkpoints (default: one checkpoint an epoch).
    """

    output: str | None = None
    checkpoint_every: int | None = None


@dataclass(frozen=True, kw_only=True)
class Settings(
    RunSettings, OptimisationSettings, MethodSettings, NetworkSettings, NoiseSettings, DataSettings
):
    """All settings of a training run, validated when built.

    Raises:
        InputError: lists every field out of range and every pair of fields that clash.
    """

    def __post_init__(self) -> None:
        raise_together(list(_problems(self)), "the settings")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, in the order of the groups."""
        values = asdict(self)
        return {f.name: values[f.name] for group in groups(type(self)) for f in fields(group)}


@dataclass(frozen=True, kw_only=True)
class ContrastiveSettings:
    """Self-supervised pretraining with SimCLR.

    Attributes:
        backbone: As for ``emlc train``, whose backbone this is to become.
        stem: First layers of torchvision's residual networks, as for ``emlc train``.
        width: Units of the mlp's hidden layers; channels of the cnn's first stage.
        epochs: Passes over the images.
        batch: Images a step, over all devices. Each is told from all others of its batch.
        optimizer: sgd | lars, for batches of thousands.
        learning_rate: At its highest (default: 0.12 of sgd, 0.3 of lars, times batch / 256).
        momentum: Of both optimisers.
        weight_decay: Of weights, not of biases and norms (default: 5e-4 of sgd, 1e-6 of lars).
        warm_up_epochs: First epochs, in which the learning rate rises (default: a tenth of all, 10 at
            most); it falls to zero along a cosine afterwards.
        temperature: By which similarities are divided.
        projection_dim: Width of the projections that are compared; the head is as wide as the backbone.
        views: Any of crop, flip, colour, grey, blur: how two views of an image differ (default: all; no
            flip and grey for grey images, no blur for images below 64 pixels).
        smallest_crop: Share of the image that a crop covers at least.
        colour_strength: How much colours change (default: 0.5 for images below 64 pixels, else 1).
        seed: Seed of the split, the initial weights, the order and the views.
        device: auto | cpu | cuda | cuda:N. With several processes each takes a GPU of its own.
        devices: GPUs, or CPU processes, of this machine to train on. For several machines start
            ``emlc pretrain`` by ``torchrun``, and leave this alone.
        precision: float32 | bf16-mixed: forward passes in bfloat16, weights and losses in float32. auto is
            the latter for images, on GPUs and CPUs that compute with bfloat16 natively.
        workers: Threads that decode images which are not held in memory (default: one a core).
    """

    backbone: str = "auto"
    stem: Literal["auto", "cifar", "imagenet"] = "auto"
    width: int | None = None
    epochs: int = 100
    batch: int = 256
    optimizer: Literal["sgd", "lars"] = "sgd"
    learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    warm_up_epochs: int | None = None
    temperature: float = 0.5
    projection_dim: int = 128
    views: list[View] | None = None
    smallest_crop: float = 0.08
    colour_strength: float | None = None
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: PrecisionSetting = "auto"
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class PretrainRunSettings:
    """Where the pretrained network is kept.

    Attributes:
        output: Directory (default: runs/pretrain-DATA-BACKBONE).
        checkpoint_every: Steps between checkpoints (default: one checkpoint an epoch).
    """

    output: str | None = None
    checkpoint_every: int | None = None


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(PretrainRunSettings, ContrastiveSettings, DataSettings):
    """All settings of ``emlc pretrain``, validated when built.

    Raises:
        InputError: lists every field out of range and every pair of fields that clash.
    """

    def __post_init__(self) -> None:
        raise_together(list(_pretrain_problems(self)), "the settings")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, in the order of the groups."""
        values = asdict(self)
        return {f.name: values[f.name] for group in groups(type(self)) for f in fields(group)}


AnySettings = Settings | PretrainSettings


def groups(kind: type[AnySettings]) -> tuple[Any, ...]:
    """The groups, dataclasses too, that settings are composed of."""
    return kind.__bases__[::-1]


_LIMITS: dict[str, tuple[float, float]] = {
    "trusted_per_class": (1, math.inf),
    "image_size": (1, math.inf),
    "resize": (1, math.inf),
    "memory_gib": (0, math.inf),
    "noisy_limit": (1, math.inf),
    "noise_rate": (0, 1),
    "width": (1, math.inf),
    "label_embedding_dim": (1, math.inf),
    "gate_hidden_dim": (1, math.inf),
    "look_ahead": (1, math.inf),
    "meta_weight": (0, math.inf),
    "ce_weight": (0, math.inf),
    "bce_weight": (0, math.inf),
    "warm_up_epochs": (0, math.inf),
    "epochs": (1, math.inf),
    "noisy_batch": (2, math.inf),
    "trusted_batch": (2, math.inf),
    "weight_decay": (0, math.inf),
    "seed": (0, 2**63 - 1),
    "devices": (1, math.inf),
    "workers": (1, math.inf),
    "checkpoint_every": (1, math.inf),
    "batch": (2, math.inf),
    "projection_dim": (1, math.inf),
    "colour_strength": (0, 1),
}


def _wrong_types(s: AnySettings) -> Iterator[str]:
    """Values of another type than their field's; what the command line's parser checks already."""
    for name, kind in get_type_hints(type(s)).items():
        if get_origin(kind) is Literal:
            continue
        value = getattr(s, name)
        accepted = {get_origin(k) or k for k in (get_args(kind) or (kind,))}
        if float in accepted:
            accepted.add(int)
        if type(value) not in accepted:
            names = " or ".join(sorted("none" if k is type(None) else k.__name__ for k in accepted))
            yield f"{name}: expected {names}, got {value!r}"


def _data_problems(s: AnySettings) -> Iterator[str]:
    for name in ("validation", "test"):
        if getattr(s, name) is not None and getattr(s, f"{name}_fraction") is not None:
            yield f"{name} and {name}_fraction: give one of the two"
    if s.resize is not None and 0 < s.resize < (s.image_size or math.inf):
        yield f"resize: goes with an image_size of at most {s.resize}, got {s.image_size or 'none'}"
    if s.human_labels_key is not None and s.human_labels is None:
        yield "human_labels_key: says which labels of the file human_labels, which is not given"
    if s.human_labels is not None and s.true_label_column is not None:
        yield "human_labels and true_label_column: with human labels, the data's own labels are the true ones"


def _may_bring_trusted(data: str) -> bool:
    """Whether trusted samples may come with the data: with clothing1m they do, with a folder they may.

    Whether a path is a folder, and what is in it, is seen when it is opened: settings are read again
    where their files are gone.
    """
    is_file = data.lower().endswith((".csv", ".parquet", ".npz"))
    return data == "clothing1m" or not (data in NAMED_SOURCES or is_file)


def _out_of_range(s: AnySettings) -> Iterator[str]:
    """What is wrong with a field by itself, in settings of either kind."""
    for name, (low, high) in _LIMITS.items():
        value = getattr(s, name, None)
        if value is not None and not (low <= value <= high and value < math.inf):
            wanted = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            yield f"{name}: expected {wanted}, got {value}"
    for name in ("learning_rate", "teacher_learning_rate", "temperature"):
        value = getattr(s, name, None)
        if value is not None and not 0 < value < math.inf:
            yield f"{name}: expected more than 0, got {value}"
    if not 0 <= s.momentum < 1:
        yield f"momentum: expected at least 0 and below 1, got {s.momentum}"
    for name in ("validation_fraction", "test_fraction"):
        value = getattr(s, name)
        if value is not None and not 0 < value < 1:
            yield f"{name}: expected between 0 and 1, got {value}"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", s.device):
        yield f"device: expected auto, cpu, cuda or cuda:N, got {s.device!r}"
    for name, kind in get_type_hints(type(s)).items():
        if get_origin(kind) is Literal and getattr(s, name) not in get_args(kind):
            yield f"{name}: expected one of {', '.join(get_args(kind))}, got {getattr(s, name)!r}"


def _problems(s: Settings) -> Iterator[str]:
    if wrong := list(_wrong_types(s)):
        yield from wrong
        return
    yield from _out_of_range(s)
    yield from _data_problems(s)
    if s.nesterov and s.momentum == 0:
        yield "nesterov: needs momentum above 0"
    trusted = [n for n in ("trusted", "trusted_column", "trusted_per_class") if getattr(s, n) is not None]
    if s.data is not None and len(trusted) != 1 and (trusted or not _may_bring_trusted(s.data)):
        found = " and ".join(trusted) or "none"
        yield f"trusted, trusted_column, trusted_per_class: give exactly one of the three, got {found}"
    if s.human_labels is not None and s.noise != "none":
        yield "human_labels and noise: noise is injected into labels that are right"
    if s.noise in ("symmetric", "asymmetric") and s.noise_rate == 0:
        yield f"noise_rate: {s.noise} noise needs a rate above 0"
    if (s.noise == "matrix") != (s.noise_matrix is not None):
        yield "noise and noise_matrix: a matrix file goes with --noise matrix, and only with it"
    if s.noise in ("none", "matrix") and s.noise_rate != 0:
        yield f"noise_rate: has no meaning with --noise {s.noise}"
    if s.warm_up_epochs >= s.epochs > 0:
        yield f"warm_up_epochs: expected fewer than epochs ({s.epochs}), got {s.warm_up_epochs}"
    if s.warm_up_epochs > 0 and s.teacher_backbone not in (None, s.backbone):
        yield "warm_up_epochs and teacher_backbone: the teacher starts as a copy of the student's network"
    if s.student_trusted and s.trusted_batch < 4:
        yield f"trusted_batch: student_trusted halves it; expected at least 4, got {s.trusted_batch}"
    if s.precision == "bf16-mixed" and s.jvp == "finite-difference":
        yield "precision and jvp: finite differences drown in the rounding of bfloat16"
    if s.meta_gradient == "exact" and s.jvp == "finite-difference":
        yield "meta_gradient and jvp: finite differences cannot give the exact meta-gradient"
    for name in ("noisy_augmentation", "trusted_augmentation"):
        for augmentation in getattr(s, name) or ():
            if augmentation not in get_args(Augmentation):
                yield f"{name}: expected any of {', '.join(get_args(Augmentation))}, got {augmentation!r}"
    yield from _network_problems(s)
    yield from _schedule_problems(s)


def _network_problems(s: Settings) -> Iterator[str]:
    yield from _backbone_problems(s)
    other_backbone = s.teacher_backbone not in (None, s.backbone)
    if other_backbone and s.init != "none" and s.teacher_init is None:
        yield "teacher_init: needed beside init, as teacher_backbone is not the student's; may be none"
    if s.warm_up_epochs > 0 and s.teacher_init not in (None, s.init):
        yield "warm_up_epochs and teacher_init: the teacher starts as a copy of the student's network"


def _backbone_problems(s: AnySettings) -> Iterator[str]:
    for name in ("backbone", "teacher_backbone"):
        value = getattr(s, name, None)
        # Whether torchvision has it is found out when it is built: asking takes seconds here.
        if value is not None and not re.fullmatch(r"\w+|[\w.]+:[\w.]+", value):
            yield f"{name}: expected the name of a network or module:factory, got {value!r}"


def _schedule_problems(s: Settings) -> Iterator[str]:
    epochs = s.schedule_epochs
    if (s.schedule == "step") != bool(epochs):
        yield "schedule and schedule_epochs: epochs go with --schedule step, and only with it"
    elif epochs and not all(
        type(later) is int and earlier < later
        for earlier, later in zip([0, *epochs], [*epochs, s.epochs], strict=True)
    ):
        yield f"schedule_epochs: expected rising numbers from 1 to {s.epochs - 1}, got {epochs}"
    if not 0 < s.schedule_factor < 1:
        yield f"schedule_factor: expected between 0 and 1, got {s.schedule_factor}"


def _pretrain_problems(s: PretrainSettings) -> Iterator[str]:
    if wrong := list(_wrong_types(s)):
        yield from wrong
        return
    yield from _out_of_range(s)
    yield from _data_problems(s)
    yield from _backbone_problems(s)
    trusted = [n for n in ("trusted", "trusted_column", "trusted_per_class") if getattr(s, n) is not None]
    if len(trusted) > 1:
        yield f"trusted, trusted_column, trusted_per_class: give at most one, got {' and '.join(trusted)}"
    for name in ("validation", "validation_fraction"):
        if not trusted and getattr(s, name) is not None:
            yield f"{name}: goes with trusted samples"
    if s.optimizer == "lars" and s.weight_decay == 0:
        # lightly's LARS leaves parameters without weight decay to plain SGD.
        yield "weight_decay: lars needs more than 0"
    if s.warm_up_epochs is not None and s.warm_up_epochs >= s.epochs > 0:
        yield f"warm_up_epochs: expected fewer than epochs ({s.epochs}), got {s.warm_up_epochs}"
    if not 0 < s.smallest_crop <= 1:
        yield f"smallest_crop: expected more than 0 and at most 1, got {s.smallest_crop}"
    if s.views is not None and not s.views:
        yield "views: expected at least one, or two views of an image are the same"
    for view in s.views or ():
        if view not in get_args(View):
            yield f"views: expected any of {', '.join(get_args(View))}, got {view!r}"
