"""The paper's tables and figures as experiments, at either scale."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from emlc.errors import InputError
from emlc.reproduce.contenders import CONTENDERS, ON_CIFAR_ONLY, PAPER
from emlc.reproduce.plan import (
    CHOSEN,
    LAST,
    LAST_RECOVERY,
    LAST_WRONG_RECOVERY,
    META_OBJECTIVE,
    PRETRAIN,
    SEPARATION,
    Grid,
    Part,
    Timing,
)
from emlc.reproduce.protocol import DISPLAY_NAMES, DataName, Protocol, Scale, make_protocol
from emlc.timing.options import StepOptions

_QUOTED = (
    "The paper quotes other methods from their authors, whose networks, epochs and trusted samples were "
    "their own. Here all share data, split, noise, network and number of epochs."
)
_SMALL = "The paper's figures are of other data and larger networks: only the order of the methods compares."
_STANDS_IN = (
    "There is no small Clothing1M. 40 % asymmetric noise stands in for it: it confuses similar classes, as "
    "the labels of Clothing1M do. Nothing here is measured on Clothing1M."
)


class Choice:
    """The options of the command that decide what an experiment consists of.

    Args:
        scale: small or paper.
        data: At small scale, the data set to use instead of digits; at scale paper, the only one to run.
        data_root: Folder that holds data sets given by name.
    """

    def __init__(self, scale: Scale, data: str | None = None, data_root: str | None = None) -> None:
        self.scale, self._data, self._data_root = scale, data, data_root

    def protocols(self, *names: DataName) -> list[Protocol]:
        """Return the protocols of an experiment that the paper ran on these data sets; one at small scale.

        Raises:
            InputError: The chosen data set is none of the experiment's.
        """
        chosen: Iterable[Any] = [self._data or "digits"] if self.scale == "small" else names
        if self.scale == "paper" and self._data is not None:
            chosen = [name for name in names if name == self._data]
            if not chosen:
                raise InputError(f"data: expected one of {', '.join(names)} here, got {self._data!r}")
        return [make_protocol(self.scale, name, self._data_root) for name in chosen]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Default seeds: three at small scale, else five as in the paper."""
        return tuple(range(3 if self.scale == "small" else 5))


def _noise(protocol: Protocol, kind: str, per_cent: int, paper: str | None = None) -> Part:
    """Return the column for one kind and rate of noise.

    ``paper`` names the column of the paper's table that it is, or stands in for.
    """
    label = f"{kind} {per_cent} %"
    settings: dict[str, Any] = {**protocol.settings, "noise": kind, "noise_rate": per_cent / 100}
    if protocol.pretrain is not None:
        settings[PRETRAIN] = protocol.pretrain
    shown = label if protocol.scale == "small" else f"{DISPLAY_NAMES[protocol.data]} {label}"
    default = f"{DISPLAY_NAMES['cifar10' if protocol.data == 'digits' else protocol.data]} {label}"
    return Part(shown, settings, paper=paper or default)


def _clothing(protocol: Protocol) -> Part:
    """Return the column of Clothing1M, or the one that stands in for it."""
    if protocol.data != "clothing1m":
        return _noise(protocol, "asymmetric", 40, paper="Clothing1M")
    return Part("Clothing1M", protocol.settings, paper="Clothing1M")


def _rows(protocol: Protocol, labels: Sequence[str]) -> tuple[Part, ...]:
    return tuple(CONTENDERS[label].row(protocol) for label in labels)


def _grid(choice: Choice, name: str, title: str, protocol: Protocol, **more: Any) -> Grid:
    small = (_SMALL,) if choice.scale == "small" else ()
    notes = (*more.pop("notes", ()), *small)
    shown = f"{title} ({DISPLAY_NAMES[protocol.data]})" if choice.scale == "small" else title
    return Grid(name, shown, common={}, seeds=choice.seeds, notes=notes, **more)


_TABLE_1 = (
    *("cross-entropy", "trusted-only", "fine-tuning", "mlc", "mw-net", "mslc", "mlnt", "fasten"),
    *("glc", "dividemix", "elr-plus", "c2d", "emlc (paper), k = 1", "emlc (paper), k = 5"),
    *(*ON_CIFAR_ONLY, "emlc, noise-aware", "true-labels"),
)


def _table1(choice: Choice) -> Grid:
    protocols = choice.protocols("cifar10", "cifar100")
    columns = []
    for protocol in protocols:
        columns += [_noise(protocol, "symmetric", rate) for rate in (20, 50, 80, 90)]
        columns += [] if protocol.data == "cifar100" else [_noise(protocol, "asymmetric", 40)]
    return _grid(
        choice,
        "table1",
        "Table 1: methods by kind and rate of noise",
        protocols[0],
        rows=_rows(protocols[0], _TABLE_1),
        columns=tuple(columns),
        paper="table1",
        notes=(_QUOTED,),
    )


def _table2(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("clothing1m")
    without = [*ON_CIFAR_ONLY, *(["true-labels"] if choice.scale == "paper" else [])]
    labels = [each for each in CONTENDERS if each not in without]
    return _grid(
        choice,
        "table2",
        "Table 2: methods on labels wrong as people make them",
        protocol,
        rows=_rows(protocol, labels),
        columns=(_clothing(protocol),),
        paper="table2",
        notes=(_QUOTED, *((_STANDS_IN,) if choice.scale == "small" else ())),
    )


def _table3(choice: Choice) -> Timing:
    common: dict[str, Any] = {
        "methods": ["cross-entropy", "mlc", "emlc"],
        "engines": ["forward"],
        "meta_gradients": ["approximate"],
        "memory_formats": ["channels_last"],
        "precisions": ["float32"],
        "classes": [14],
    }
    if choice.scale == "small":
        scaled: dict[str, Any] = {"networks": ["resnet18"], "noisy_batch": [16], "trusted_batch": [16]}
        scaled |= {"image_size": 32, "repetitions": 3, "captured": "false"}
        scaled |= {"engines": ["finite-difference", "forward"]}  # the default on CPUs, and on GPUs
    else:
        scaled = {"networks": ["resnet50"], "noisy_batch": [128], "trusted_batch": [128], "image_size": 224}
        scaled |= {"precisions": ["bf16-mixed"], "repetitions": 11, "captured": "both"}
    return Timing(
        "table3",
        "Time of an epoch (Table 3, Section 4.3)",
        StepOptions(**(common | scaled)),
        images=1_000_000,
        paper="times",
        notes=(
            "Table 3 of the paper compares the two meta-gradients in words; its times are in Section 4.3. "
            "Steps are measured in turns on random images, without loading; "
            "hours are those of a million images.",
        ),
    )


_WEAK = {"digits": ["crop"], "cifar10": ["flip", "crop"], "clothing1m": ["flip"]}
"""Augmentation of trusted images without AutoAugment, by data set."""


def _table4(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("clothing1m")
    weak = _WEAK[protocol.data]
    plain: dict[str, Any] = {**PAPER, "method": "emlc", "look_ahead": 1, "trusted_augmentation": weak}
    rows = (
        Part("no meta loss, no corruption", {**plain, "meta_weight": 0.0, "bce_weight": 0.0}, paper="none"),
        Part("+ meta loss", {**plain, "bce_weight": 0.0}, paper="meta"),
        Part("+ random corruption", {**plain, "corruption": "random"}, paper="random"),
        Part("adversarial corruption instead", plain, paper="adversarial"),
        Part(
            "+ AutoAugment",
            {**plain, "trusted_augmentation": [*weak, "autoaugment"]},
            paper="autoaugment",
        ),
    )
    columns: tuple[Part, ...] = (_clothing(protocol),)
    notes = ["Without corruption there is no binary cross-entropy: the meta loss alone trains the gate."]
    if choice.scale == "small":
        columns = (*(replace(_noise(protocol, "symmetric", rate), paper=None) for rate in (50, 80)), *columns)
        notes.append(_STANDS_IN)
    return _grid(
        choice,
        "table4",
        "Table 4: what each part of EMLC adds, k = 1",
        protocol,
        rows=rows,
        columns=columns,
        paper="table4",
        notes=tuple(notes),
    )


def _recovery(choice: Choice, name: str, title: str, rates: Sequence[int]) -> Grid:
    (protocol,) = choice.protocols("cifar10")
    simclr, random = {PRETRAIN: protocol.pretrain}, {PRETRAIN: None}
    emlc, mlc = (CONTENDERS[label].row(protocol).settings for label in ("emlc (paper), k = 1", "mlc"))
    rows = (
        Part("emlc, SimCLR", {**emlc, **simclr}),
        Part("emlc", {**emlc, **random}),
        Part("mlc, SimCLR", {**mlc, **simclr}),
        Part("mlc", {**mlc, **random}),
    )
    return _grid(
        choice,
        name,
        title,
        protocol,
        rows=rows,
        columns=tuple(_noise(protocol, "symmetric", rate) for rate in rates),
        measures=(LAST_RECOVERY, LAST_WRONG_RECOVERY, CHOSEN, LAST),
        picture="epochs",
        notes=("SimCLR: from self-supervised weights of the same images; else from random weights.",),
    )


def _fig1(choice: Choice) -> Grid:
    return _recovery(choice, "fig1", "Figure 1: labels recovered at 90 % noise", [90])


def _fig8(choice: Choice) -> Grid:
    return _recovery(choice, "fig8", "Figure 8: labels recovered", [20, 50, 80, 90])


def _fig4(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("clothing1m")
    return _grid(
        choice,
        "fig4",
        "Figure 4: t-SNE of the student's features",
        protocol,
        rows=_rows(protocol, ["emlc (paper), k = 1", "mlc"]),
        columns=(_clothing(protocol),),
        measures=(SEPARATION, CHOSEN, LAST),
        picture="features",
        notes=(
            "Features of validation samples, or else of test samples; drawn is the first seed.",
            *((_STANDS_IN,) if choice.scale == "small" else ()),
        ),
    )


def _fig5(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("clothing1m")
    return _grid(
        choice,
        "fig5",
        "Figure 5: the meta objective during training",
        protocol,
        rows=_rows(protocol, ["emlc (paper), k = 1", "emlc (paper), k = 5", "mlc"]),
        columns=(_clothing(protocol),),
        measures=(META_OBJECTIVE, CHOSEN, LAST),
        picture="steps",
        notes=(_STANDS_IN,) if choice.scale == "small" else (),
    )


_LOOK_AHEAD = (1, 2, 3, 5, 10)


def _look_ahead(choice: Choice, name: str, title: str, protocol: Protocol, column: Part, *notes: str) -> Grid:
    rows = tuple(
        Part(f"emlc, k = {k}", {**PAPER, "method": "emlc", "look_ahead": k}, paper=f"emlc, k = {k}", at=k)
        for k in _LOOK_AHEAD
    )
    source = "The paper prints this figure as a plot: its values here are those of its tables."
    fewer = "The teacher takes one step every k batches: in runs this short, a large k leaves too few."
    notes = (*notes, *((fewer,) if choice.scale == "small" else ()))
    return _grid(
        choice,
        name,
        title,
        protocol,
        rows=rows,
        columns=(column,),
        picture="against",
        paper=name,
        notes=(source, *notes),
    )


def _fig6(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("cifar100")
    column = _noise(protocol, "symmetric", 50, paper="CIFAR-100 symmetric 50 %")
    return _look_ahead(choice, "fig6", "Figure 6: look-ahead steps", protocol, column)


def _fig7(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("clothing1m")
    notes = (_STANDS_IN,) if choice.scale == "small" else ()
    return _look_ahead(choice, "fig7", "Figure 7: look-ahead steps", protocol, _clothing(protocol), *notes)


EXPERIMENTS: dict[str, Callable[[Choice], Grid | Timing]] = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "fig1": _fig1,
    "fig4": _fig4,
    "fig5": _fig5,
    "fig6": _fig6,
    "fig7": _fig7,
    "fig8": _fig8,
}
"""Experiments by the names that `emlc reproduce` takes."""


def restricted(grid: Grid, seeds: Sequence[int] | None, methods: Sequence[str] | None) -> Grid:
    """Return a grid with these seeds and methods only; None leaves all.

    Raises:
        InputError: The grid has no such method.
    """
    if seeds is not None:
        grid = replace(grid, seeds=tuple(seeds))
    if methods is None:
        return grid
    known = {str(row.settings.get("method", "emlc")) for row in grid.rows}
    if unknown := [method for method in methods if method not in known]:
        raise InputError(f"methods: {grid.name} has {', '.join(sorted(known))}; got {', '.join(unknown)}")
    rows = tuple(row for row in grid.rows if row.settings.get("method", "emlc") in methods)
    return replace(grid, rows=rows)
