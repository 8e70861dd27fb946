"""The protocol that all methods of an experiment share: data, networks, initial weights, number of epochs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emlc.config import DataSettings, NoiseSettings, Settings, names_of
from emlc.config.presets import preset_path
from emlc.errors import InputError
from emlc.reproduce.plan import FEATURES
from emlc.reproduce.pretrained import PretrainedFeatures, human_labels_of
from emlc.runtime.files import read_yaml

Scale = Literal["small", "features", "paper"]
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
        scale: small: a few samples, for a laptop; features: all images as features; paper: the paper's
            protocol.
        data: Name of the data set.
        settings: Settings of every run.
        pretrain: Settings of the pretraining on the same images that every run starts from, if any.
        human_labels: Columns of the data with labels that people gave, if any.
    """

    scale: Scale
    data: DataName
    settings: Mapping[str, Any]
    pretrain: Mapping[str, Any] | None
    human_labels: tuple[str, ...] = ()


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


_ON_FEATURES = {"cifar10": 100, "cifar100": 10}
"""Trusted samples per class on features, by data set: 1,000 in all, as in the paper."""


def make_protocol(
    scale: Scale, data: DataName, data_root: str | None = None, trusted_per_class: int | None = None
) -> Protocol:
    """Return the protocol of a data set.

    Args:
        scale: small, features or paper.
        data: The data set.
        data_root: Folder that holds data sets given by name.
        trusted_per_class: At scale features, in place of 1,000 trusted samples in all.

    Raises:
        InputError: The data set has no protocol at this scale.
    """
    protocols: dict[Scale, Mapping[str, Any]]
    protocols = {"small": _SMALL, "features": _ON_FEATURES, "paper": _PRESETS}
    known = protocols[scale]
    if data not in known:
        raise InputError(f"data: --scale {scale} has {', '.join(known)}, got {data!r}")
    source: dict[str, Any] = {"data": data} | ({} if data_root is None else {"data_root": data_root})
    if scale == "small":
        pretrain = _SMALL_PRETRAIN[data] | source
        return Protocol(scale, data, _SMALL[data] | source, pretrain)
    if scale == "features":
        features = PretrainedFeatures(data, data_root or DataSettings.data_root)
        per_class = _ON_FEATURES[data] if trusted_per_class is None else trusted_per_class
        source |= {"label_column": "label", "trusted_per_class": per_class, FEATURES: features}
        return Protocol(scale, data, source, None, features.human_labels)
    training, pretraining = _PRESETS[data]
    values = read_yaml(preset_path(training, "train"))
    of_one_run = names_of(NoiseSettings) | names_of(Settings, lambda facts: facts.path == "output")
    values = {name: value for name, value in values.items() if name not in of_one_run} | source
    if pretraining is None:
        return Protocol(scale, data, values, None)
    del values["init"]  # set when the pretraining is finished
    simclr = read_yaml(preset_path(pretraining, "pretrain")) | source
    del simclr["output"]
    human = human_labels_of(data, data_root or DataSettings.data_root)
    if human:  # it learns from no label: named here, the columns share one pretraining
        simclr |= {"label_column": "label", "true_label_column": "label"}
    return Protocol(scale, data, values, simclr, human)
