"""The settings of a pretraining run."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from emlc.config.checks import backbone_problems, data_problems, out_of_range, wrong_types
from emlc.config.data import DataSettings
from emlc.config.groups import PrecisionSetting, groups
from emlc.config.setting import WIDEST, expand_home, setting
from emlc.errors import raise_together

View = Literal["crop", "flip", "colour", "grey", "blur"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveSettings:
    """Self-supervised pretraining with SimCLR.

    Attributes:
        backbone: Network to pretrain, named as for ``emlc train``.
        stem: First layers of torchvision's residual networks, as for ``emlc train``.
        width: Units of the mlp's hidden layers; channels of the cnn's first stage.
        epochs: Passes over the images.
        batch: Images per step, over all devices. Each image is contrasted with all others of its batch.
        optimizer: sgd | lars, for batches of thousands.
        learning_rate: Highest learning rate (default: batch / 256 times 0.12 for sgd, 0.3 for lars).
        momentum: Momentum of the optimiser.
        weight_decay: Weight decay of all parameters but biases and norms (default: 5e-4 for sgd, 1e-6 for
            lars).
        warm_up_epochs: First epochs, in which the learning rate rises (default: a tenth of all, at most
            10); afterwards it falls to zero along a cosine.
        temperature: Temperature of the loss, by which similarities are divided.
        projection_dim: Width of the projections that are compared; the hidden layer of the projection head is
            as wide as the backbone's features.
        views: Augmentations by which the two views of an image differ, any of crop, flip, colour, grey, blur
            (default: all, but no flip and grey for grey images, and no blur for images below 64 pixels).
        smallest_crop: Smallest share of the image's area that a crop covers.
        colour_strength: Strength of the colour changes (default: 0.5 for images below 64 pixels, else 1).
        seed: Seed of the split, the initial weights, the order and the views.
        device: auto | cpu | cuda | cuda:N. With several processes each takes a GPU of its own.
        devices: Number of GPUs, or of CPU processes, of this machine to train on. On several machines start
            ``emlc pretrain`` by ``torchrun`` instead.
        precision: float32 | bf16-mixed: forward passes in bfloat16, weights and losses in float32. auto:
            bf16-mixed for images, on GPUs and CPUs that compute with bfloat16 natively, else float32.
        workers: Threads that decode images which are not held in memory (default: one per core).
    """

    backbone: str = "auto"
    stem: Literal["auto", "cifar", "imagenet"] = setting("auto", expert=True)
    width: int | None = setting(None, at_least=1, at_most=WIDEST)
    epochs: int = setting(100, at_least=1)
    batch: int = setting(256, at_least=2)
    optimizer: Literal["sgd", "lars"] = "sgd"
    learning_rate: float | None = setting(None, above=0)
    momentum: float = setting(0.9, expert=True, at_least=0, below=1)
    weight_decay: float | None = setting(None, expert=True, at_least=0)
    warm_up_epochs: int | None = setting(None, expert=True, at_least=0)
    temperature: float = setting(0.5, above=0)
    projection_dim: int = setting(128, expert=True, at_least=1, at_most=WIDEST)
    views: list[View] | None = setting(None, expert=True)
    smallest_crop: float = setting(0.08, expert=True, above=0, at_most=1)
    colour_strength: float | None = setting(None, expert=True, at_least=0, at_most=1)
    seed: int = setting(0, at_least=0, at_most=2**63 - 1)
    device: str = setting("auto", free_on_resume=True)
    devices: int = setting(1, free_on_resume=True, at_least=1)
    precision: PrecisionSetting = setting("auto", expert=True)
    workers: int | None = setting(None, free_on_resume=True, expert=True, at_least=1)


@dataclass(frozen=True, kw_only=True)
class PretrainRunSettings:
    """Where the pretrained network is kept.

    Attributes:
        output: Run directory (default: runs/pretrain-DATA-BACKBONE).
        checkpoint_every: Steps between checkpoints (default: one checkpoint per epoch).
    """

    output: str | None = setting(None, path="output", free_on_resume=True)
    checkpoint_every: int | None = setting(None, free_on_resume=True, expert=True, at_least=1)


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(PretrainRunSettings, ContrastiveSettings, DataSettings):
    """All settings of ``emlc pretrain``, validated when built.

    Raises:
        InputError: lists every field out of range and every pair of fields that clash.
    """

    def __post_init__(self) -> None:
        expand_home(self)
        raise_together(list(_pretrain_problems(self)), "the settings")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values by name, in the order of the groups."""
        values = asdict(self)
        return {f.name: values[f.name] for group in groups(type(self)) for f in fields(group)}


def _pretrain_problems(s: PretrainSettings) -> Iterator[str]:
    if wrong := list(wrong_types(s)):
        yield from wrong
        return
    yield from out_of_range(s)
    yield from data_problems(s)
    yield from backbone_problems(s)
    if s.text_column is not None:
        yield "text_column: pretraining is for images; the text_model of `emlc train` is pretrained already"
    if s.image_model not in ("auto", "none"):
        yield "image_model: pretraining is for images as they are; the image_model is pretrained already"
    trusted = [n for n in ("trusted", "trusted_column", "trusted_per_class") if getattr(s, n) is not None]
    if len(trusted) > 1:
        yield f"trusted, trusted_column, trusted_per_class: give at most one, got {' and '.join(trusted)}"
    for name in ("validation", "validation_fraction", "test"):
        if not trusted and getattr(s, name) is not None:
            yield f"{name}: needs trusted samples (trusted, trusted_column or trusted_per_class)"
    if s.optimizer == "lars" and s.weight_decay == 0:
        # lightly's LARS leaves parameters without weight decay to plain SGD.
        yield "weight_decay: optimizer lars needs a value above 0"
    if s.warm_up_epochs is not None and s.warm_up_epochs >= s.epochs > 0:
        yield f"warm_up_epochs: expected fewer than epochs ({s.epochs}), got {s.warm_up_epochs}"
    if s.views is not None and not s.views:
        yield "views: expected at least one augmentation; without any, the two views of an image are equal"
    for view in s.views or ():
        if view not in get_args(View):
            yield f"views: expected any of {', '.join(get_args(View))}, got {view!r}"
