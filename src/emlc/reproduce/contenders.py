"""The methods of the paper's tables, each with the settings in which it departs from the shared protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from emlc.config.training import MethodSettings
from emlc.reproduce import by_noise
from emlc.reproduce.plan import ByNoise, Part
from emlc.reproduce.protocol import Protocol
from emlc.runtime.files import read_yaml


@dataclass(frozen=True)
class Contender:
    """A row of a table of methods.

    Attributes:
        method: Name of the method, as on the command line.
        label: Label of the row.
        settings: Settings of the method at all scales.
        small: Further settings at small scale, whose runs are short.
        paper: Further settings in the full protocol.
        needs_images: Whether it cannot learn from features.
        ceiling: Whether it uses knowledge that the others lack, such as the true labels.
        published: Label of its row in ``paper.yaml``, if it is not this one.
        by_noise: Hyper-parameters that its authors chose by the noise and the data.
    """

    method: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)
    needs_images: bool = False
    ceiling: bool = False
    published: str | None = None
    by_noise: ByNoise | None = None

    def settings_in(self, protocol: Protocol) -> dict[str, Any]:
        """Return the method's settings in a protocol, without those that all methods share."""
        further = {"small": self.small, "features": {}, "paper": self.paper}[protocol.scale]
        if protocol.scale == "features":
            found = _searched()
            further = found["cifar10"].get(self.method, {})
            if protocol.settings["trusted_per_class"] >= _MANY:
                further = found["cifar10-many-trusted"].get(self.method, further)
        return {**self.settings, **further}

    def row(self, protocol: Protocol) -> Part:
        """Return the row of an experiment with this protocol."""
        settings = {"method": self.method, **self.settings_in(protocol)}
        on_features = protocol.scale == "features"
        others = _searched()["cifar100"].get(self.method, {}) if on_features else {}
        return Part(
            self.label,
            settings,
            by_data={"cifar100": others} if others else {},
            paper=self.published or self.label,
            ceiling=self.ceiling,
            by_noise=self.by_noise,
            seeds=_FEWER_SEEDS if on_features and self.method not in _ALL_SEEDS else None,
        )


_ALL_SEEDS = ("emlc", "glc", "mslc", "fasten", "joint-optim")
"""Methods that have all seeds on features: EMLC, Gold Loss Correction, and three of the best other rivals."""
_FEWER_SEEDS = (0, 1, 2)
_MANY = 100
"""Trusted samples per class from which settings are those for many."""


@cache
def _searched() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    return read_yaml(Path(__file__).with_name("searched.yaml"))


def _method(name: str, **options: Any) -> Contender:
    """A contender whose label is the name of the method."""
    return Contender(name, name, **options)


_MLC_SMALL = {"hyper": {"skip": True}}
"""MLC in runs of hundreds of steps: its authors took tens of thousands, and ``skip`` for Clothing1M only.
Without it the meta-net's first labels are at random: on digits at 50 % noise 77.6 % of the test images are
right, with it 95.3 %. The authors' learning rate of 0.1 makes that 91.3 %: it is the one of all methods."""

_GLC_SMALL = {"learning_rate": 0.04, "hyper": {"trusted_weight": 44.0}}
"""GLC where 30 of 1,347 digits are trusted: together they count as much as the others, and steps are as for
all methods, halved with the weight of either half. As published, it ends at 89.1 % for 80 % noise, with
these at 93.4 %."""

_MLNT = {
    "meta_start": 5,
    "meta_full": 30,
    "last_decay": 0.99,
    "fake_learning_rate": 0.2,
    "fake_sets": 3,
    "consistency_weight": 20.0,
}
"""MLNT's schedule for runs of hundreds of steps: as published, it starts at step 500 and is full at 2,000."""

_MLNT_PAPER = {"meta_start": 250, "meta_full": 1000}
"""MLNT's schedule in the full protocol: half of the published steps, for runs of half the length."""

_RAMP = {"hyper": {"ramp_epochs": 1.0}}
"""DivideMix's ramp in the full protocol, of 15 or 3 epochs; as published, it takes 16 of 300."""

PAPER = {
    "teacher": "gate",
    "meta_weight": 1.0,
    "ce_weight": 1.0,
    "bce_weight": 1.0,
    "corruption": "adversarial",
}
"""EMLC's teacher and the weights of its losses by the paper's text (Sec. 3.6, Eq. 12)."""

_AUTHORS = {
    **PAPER,
    "look_ahead": 1,
    "trusted_batch": 128,
    "weight_decay": 5e-4,
    "teacher_momentum": 0.0,
    "teacher_weight_decay": 0.0,
}
"""What both public versions of the authors' code have on CIFAR, as the presets cifar10-authors-..."""

_AUTHORS_ON_CIFAR = [
    Contender("emlc", "emlc (authors' first version)", {**_AUTHORS, "student_trusted": True}),
    Contender("emlc", "emlc (authors' HEAD)", {**_AUTHORS, "bce_weight": 0.0}),
]

_DEFAULTS = {
    each.name: each.default for each in fields(MethodSettings) if each.name in {*PAPER, "student_trusted"}
}
"""EMLC as it is for people's own data, in place of what a protocol has for the paper's."""

_ALL = [
    _method("cross-entropy"),
    _method("trusted-only"),
    _method("fine-tuning"),
    _method("mlc", small=_MLC_SMALL, by_noise=by_noise.mlc),
    _method("mw-net"),
    _method("mslc", small={"warm_up_epochs": 10}),
    _method(
        "mlnt", small={"warm_up_epochs": 5, "hyper": _MLNT}, paper={"warm_up_epochs": 1, "hyper": _MLNT_PAPER}
    ),
    _method("fasten"),
    _method("glc", small=_GLC_SMALL),
    _method(
        "dividemix",
        small={"warm_up_epochs": 3, "hyper": {"ramp_epochs": 8.0}},
        paper=_RAMP,
        by_noise=by_noise.dividemix,
    ),
    _method("elr-plus", settings={"hyper": {"weight_ramp_steps": 0}}),
    _method(
        "c2d",
        small={"warm_up_epochs": 5, "hyper": {"ramp_epochs": 8.0}},
        paper=_RAMP,
        needs_images=True,
        by_noise=by_noise.c2d,
    ),
    _method("joint-optim", small={"hyper": {"averaged_epochs": 5}}),
    _method("pencil", small={"hyper": {"label_learning_rate": 50.0}}, by_noise=by_noise.pencil),
    _method(
        "augdesc",
        small={"warm_up_epochs": 3, "hyper": {"ramp_epochs": 8.0}},
        paper=_RAMP,
        needs_images=True,  # on features it has no augmentation, and is DivideMix
        by_noise=by_noise.dividemix,
    ),
    _method(
        "sanm",
        small={"warm_up_epochs": 3, "hyper": {"ramp_epochs": 8.0}},
        paper=_RAMP,
        needs_images=True,
        by_noise=by_noise.sanm,
    ),
    _method("famus"),
    _method("mslg"),
    _method("metacleaner"),
    _method("smp"),
    Contender("emlc", "emlc (paper), k = 1", {**PAPER, "look_ahead": 1}, published="emlc, k = 1"),
    Contender("emlc", "emlc (paper), k = 5", {**PAPER, "look_ahead": 5}, published="emlc, k = 5"),
    *_AUTHORS_ON_CIFAR,
    Contender("emlc", "emlc, noise-aware", _DEFAULTS),
    _method("true-labels", ceiling=True),
]

CONTENDERS = {each.label: each for each in _ALL}
"""Contenders by label, in the order of the tables."""

ON_CIFAR_ONLY = [each.label for each in _AUTHORS_ON_CIFAR]
"""Labels of the contenders for CIFAR only; for Clothing1M the authors' code has other values."""
