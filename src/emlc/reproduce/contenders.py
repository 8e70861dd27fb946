"""The methods of the paper's tables, with what each has of its own beside the protocol that all share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emlc.reproduce.plan import PRETRAIN, Part
from emlc.reproduce.protocol import Protocol


@dataclass(frozen=True)
class Contender:
    """A row of a table of methods.

    Attributes:
        method: As on the command line.
        label: As it is shown, and in ``paper.yaml``.
        settings: What it always has.
        small: What it has at small scale, whose runs are short.
        paper: What it has in the full protocol.
        pretrained: Whether it is self-supervised pretraining that makes the method.
        ceiling: Whether it knows what the others do not.
    """

    method: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    ceiling: bool = False

    def row(self, protocol: Protocol) -> Part:
        """It as a row of an experiment of this protocol."""
        own = {**self.settings, **(self.small if protocol.scale == "small" else self.paper)}
        if self.pretrained and protocol.pretrain is not None:
            own[PRETRAIN] = protocol.pretrain
        return Part(self.label, {"method": self.method, **own}, paper=self.label, ceiling=self.ceiling)


def _of_one_name(method: str, **own: Any) -> Contender:
    return Contender(method, method, **own)


_ALL = [
    _of_one_name("cross-entropy"),
    _of_one_name("trusted-only"),
    _of_one_name("fine-tuning"),
    _of_one_name("mlc"),
    _of_one_name("mw-net"),
    _of_one_name("mslc"),
    _of_one_name("mlnt"),
    _of_one_name("fasten"),
    _of_one_name("dividemix"),
    _of_one_name("elr-plus"),
    _of_one_name("c2d", pretrained=True),
    _of_one_name("joint-optim"),
    _of_one_name("pencil"),
    _of_one_name("augdesc"),
    _of_one_name("sanm"),
    _of_one_name("famus"),
    _of_one_name("mslg"),
    _of_one_name("metacleaner"),
    _of_one_name("smp"),
    Contender("emlc", "emlc, k = 1", {"look_ahead": 1}),
    Contender("emlc", "emlc, k = 5", {"look_ahead": 5}),
    _of_one_name("true-labels", ceiling=True),
]

CONTENDERS = {each.label: each for each in _ALL}
"""By label, in the order of the tables."""
