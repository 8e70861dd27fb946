"""The protocol that all methods of an experiment share: data, networks, initial weights, number of epochs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emlc.config import NoiseSettings, Settings, names_of
from emlc.config.presets import preset_path
from emlc.errors import InputError
from emlc.runtime.files import read_yaml

Scale = Literal["small", "paper"]
DataName = Literal["digits", "cifar10", "cifar100", "clothing1m"]

DISPLAY_NAMES = {
    "digits": "digits",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "clothing1m": "Clothing1M",
}
"""Data set -> its name in tables."""


@dataclass(frozen=True)
class Protocol:
    """The settings that all runs on one data set share.

    Attributes:
        scale: small: runs for a laptop; paper: the paper's protocol.
        data: Name of the data set.
        settings: Settings of every run.
        pretrain: Settings of the pretraining on the same images that every run starts from, if any.
    """

    scale: Scale
    data: DataName
    settings: Mapping[str, Any]
    pretrain: Mapping[str, Any] | None


_SMALL: dict[str, dict[str, Any]] = {
    # Three of 135 digits per class are trusted: 2 %, as in the paper's 1,000 of 50,000 images.
    "digits": {"trusted_per_class": 3, "epochs": 30, "schedule": "cosine"},
    # As in docs/tutorial-cifar10.md: a fifth of the images, at half their size.
    "cifar10": {
        "trusted_per_class": 100,
        "validation_fraction": 0.2,
        "noisy_limit": 10_000,
        "image_size": 16,
        "backbone": "cnn",
        "trusted_augmentation": ["flip", "crop"],
        "learning_rate": 0.05,
        "schedule": "cosine",
        "epochs": 30,
    },
}
_SMALL_PRETRAIN: dict[str, dict[str, Any]] = {
    "digits": {"trusted_per_class": 3, "epochs": 100},
    "cifar10": {
        "trusted_per_class": 100,
        "noisy_limit": 10_000,
        "image_size": 16,
        "backbone": "cnn",
        "temperature": 0.2,
        "epochs": 30,
    },
}

_PRESETS: dict[str, tuple[str, str | None]] = {
    "cifar10": ("cifar10", "simclr-cifar10-resnet34"),
    "cifar100": ("cifar100", "simclr-cifar100-resnet50"),
    "clothing1m": ("clothing1m", None),
}
"""Presets of training and of pretraining with the paper's values (Table 5), by data set."""


def make_protocol(scale: Scale, data: DataName, data_root: str | None = None) -> Protocol:
    """Return the protocol of a data set.

    Raises:
        InputError: The data set has no protocol at this scale.
    """
    known = _SMALL if scale == "small" else _PRESETS
    if data not in known:
        raise InputError(f"data: --scale {scale} has {', '.join(known)}, got {data!r}")
    source: dict[str, Any] = {"data": data} | ({} if data_root is None else {"data_root": data_root})
    if scale == "small":
        pretrain = _SMALL_PRETRAIN[data] | source
        return Protocol(scale, data, _SMALL[data] | source, pretrain)
    training, pretraining = _PRESETS[data]
    values = read_yaml(preset_path(training, "train"))
    of_one_run = names_of(NoiseSettings) | names_of(Settings, lambda facts: facts.path == "output")
    values = {name: value for name, value in values.items() if name not in of_one_run} | source
    if pretraining is None:
        return Protocol(scale, data, values, None)
    del values["init"]  # set when the pretraining is finished
    simclr = read_yaml(preset_path(pretraining, "pretrain")) | source
    del simclr["output"]
    return Protocol(scale, data, values, simclr)
