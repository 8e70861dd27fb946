"""Columns of the tables, kinds of noise, and notes on what stands in for data that a protocol lacks."""

from typing import Any

from emlc.reproduce.plan import PRETRAIN, Part
from emlc.reproduce.pretrained import HUMAN_LABELS
from emlc.reproduce.protocol import DISPLAY_NAMES, Protocol

_STANDS_IN = (
    "40 % asymmetric noise stands in for Clothing1M, which is not small: it confuses similar classes, as "
    "the labels of Clothing1M do. Nothing here is measured on Clothing1M."
)
_PEOPLE_STAND_IN = (
    "Labels of CIFAR-10 by people, of three the worst (CIFAR-10N), stand in for Clothing1M. Nothing here is "
    "measured on Clothing1M."
)


def noise_column(protocol: Protocol, kind: str, per_cent: int, paper: str | None = None) -> Part:
    """Return the column for one kind and rate of noise.

    ``paper`` names the column of the paper's table that it is, or stands in for.
    """
    label = f"{kind} {per_cent} %"
    noise = {"noise": kind, "noise_rate": per_cent / 100}
    settings: dict[str, Any] = {**protocol.settings, **noise, **_start(protocol)}
    shown = label if protocol.scale == "small" else f"{DISPLAY_NAMES[protocol.data]} {label}"
    default = f"{DISPLAY_NAMES['cifar10' if protocol.data == 'digits' else protocol.data]} {label}"
    return Part(shown, settings, paper=paper or default)


def human_column(protocol: Protocol, labels: str, paper: str | None = None) -> Part:
    """Return the column for labels that people gave."""
    settings: dict[str, Any] = {
        **protocol.settings,
        "label_column": labels,
        "true_label_column": "label",
        **_start(protocol),
    }
    return Part(f"{DISPLAY_NAMES[protocol.data]} human, {labels}", settings, paper=paper)


def _start(protocol: Protocol) -> dict[str, Any]:
    return {} if protocol.pretrain is None else {PRETRAIN: protocol.pretrain}


def clothing_column(protocol: Protocol) -> Part:
    """Return the column of Clothing1M, or the one that stands in for it."""
    if protocol.data == "clothing1m":
        return Part("Clothing1M", protocol.settings, paper="Clothing1M")
    if "worst" in protocol.human_labels:
        return human_column(protocol, "worst", paper="Clothing1M")
    return noise_column(protocol, "asymmetric", 40, paper="Clothing1M")


def stand_in_notes(protocol: Protocol) -> tuple[str, ...]:
    """Return a note on what stands in for Clothing1M, unless the protocol is of it."""
    if protocol.data == "clothing1m":
        return ()
    return (
        _PEOPLE_STAND_IN if "worst" in protocol.human_labels else _STANDS_IN,
        *missing_label_notes(protocol),
    )


def missing_label_notes(protocol: Protocol) -> tuple[str, ...]:
    """Return a note on the human labels that the data lack."""
    missing = [name for name in HUMAN_LABELS if name not in protocol.human_labels]
    if protocol.scale != "features" or protocol.data != "cifar10" or not missing:
        return ()
    names = " and ".join(missing)
    return (f"Left out: what needs columns of human labels (CIFAR-10N) that the data do not have, {names}.",)
