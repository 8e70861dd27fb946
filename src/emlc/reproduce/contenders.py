"""The methods of the paper's tables, with what each has of its own beside the protocol that all share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emlc.reproduce.plan import Part
from emlc.reproduce.protocol import Protocol, Scale


@dataclass(frozen=True)
class Contender:
    """A row of a table of methods.

    Attributes:
        method: As on the command line.
        label: As it is shown, and in ``paper.yaml``.
        settings: What it always has.
        small: What it has at small scale, whose runs are short.
        paper: What it has in the full protocol.
        ceiling: Whether it knows what the others do not.
    """

    method: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)
    ceiling: bool = False

    def own(self, scale: Scale) -> dict[str, Any]:
        """What it has beside what all share."""
        return {**self.settings, **(self.small if scale == "small" else self.paper)}

    def row(self, protocol: Protocol) -> Part:
        """It as a row of an experiment of this protocol."""
        own = self.own(protocol.scale)
        return Part(self.label, {"method": self.method, **own}, paper=self.label, ceiling=self.ceiling)


def _of_one_name(method: str, **own: Any) -> Contender:
    return Contender(method, method, **own)


_MLNT = {
    "meta_start": 5,
    "meta_full": 30,
    "last_decay": 0.99,
    "fake_learning_rate": 0.2,
    "fake_sets": 3,
    "consistency_weight": 2.0,
}
"""Of runs of hundreds of steps: the published ones begin after 500 and are in full force after 2,000."""

_MLNT_PAPER = {"meta_start": 250, "meta_full": 1000}
"""Half of the published ones, which are of twice as many steps."""

_RAMP = {"hyper": {"ramp_epochs": 1.0}}
"""Published are 16 of 300 epochs; the paper's protocol has 15, or 3."""

_ALL = [
    _of_one_name("cross-entropy"),
    _of_one_name("trusted-only"),
    _of_one_name("fine-tuning"),
    _of_one_name("mlc"),
    _of_one_name("mw-net"),
    _of_one_name("mslc", small={"warm_up_epochs": 10}),
    _of_one_name(
        "mlnt", small={"warm_up_epochs": 5, "hyper": _MLNT}, paper={"warm_up_epochs": 1, "hyper": _MLNT_PAPER}
    ),
    _of_one_name("fasten"),
    _of_one_name("glc"),
    _of_one_name("dividemix", small={"warm_up_epochs": 3, "hyper": {"ramp_epochs": 8.0}}, paper=_RAMP),
    _of_one_name("elr-plus", settings={"hyper": {"weight_ramp_steps": 0}}),
    _of_one_name("c2d", small={"warm_up_epochs": 5, "hyper": {"ramp_epochs": 8.0}}, paper=_RAMP),
    _of_one_name("joint-optim", small={"hyper": {"averaged_epochs": 5}}),
    _of_one_name("pencil", small={"hyper": {"label_learning_rate": 50.0}}),
    _of_one_name("augdesc", small={"warm_up_epochs": 3, "hyper": {"ramp_epochs": 8.0}}, paper=_RAMP),
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
