"""The paper's tables and figures as experiments, at every scale."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from emlc.errors import InputError
from emlc.reproduce.choice import Choice
from emlc.reproduce.columns import (
    clothing_column,
    human_column,
    missing_label_notes,
    noise_column,
    stand_in_notes,
)
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
    method_of,
)
from emlc.reproduce.protocol import DISPLAY_NAMES, Protocol, Scale
from emlc.timing.options import StepOptions

_QUOTED = (
    "The paper quotes other methods from their authors, whose networks, epochs and trusted samples were "
    "their own. Here all share data, split, noise, network and number of epochs."
)
_SMALL = "The paper's figures are of other data and larger networks: only the order of the methods compares."
_FEATURES = (
    "Student and teacher learn from features of all images, by EfficientNet-Lite0 as pretrained on ImageNet, "
    "and have one hidden layer. The paper's figures are of ResNets that learn from pixels: only the order of "
    "the methods compares."
)
_NOTES: dict[Scale, tuple[str, ...]] = {"small": (_SMALL,), "features": (_FEATURES,), "paper": ()}


def _rows(protocol: Protocol, labels: Sequence[str]) -> tuple[Part, ...]:
    return tuple(CONTENDERS[label].row(protocol) for label in labels)


def _methods(protocol: Protocol, labels: Iterable[str]) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Return the rows of a table of methods, and a note on those that cannot learn from features."""
    images = [label for label in labels if protocol.scale == "features" and CONTENDERS[label].needs_images]
    note = f"Left out, as they need images ({len(images)}): {', '.join(images)}."
    return _rows(protocol, [each for each in labels if each not in images]), (note,) if images else ()


def _grid(choice: Choice, name: str, title: str, protocol: Protocol, **more: Any) -> Grid:
    notes = (*more.pop("notes", ()), *_NOTES[choice.scale])
    shown = {
        "small": f"{title} ({DISPLAY_NAMES[protocol.data]})",
        "features": f"{title} (features)",
        "paper": title,
    }
    return Grid(name, shown[choice.scale], common={}, seeds=choice.seeds, notes=notes, **more)


_TABLE_1 = (
    *("cross-entropy", "trusted-only", "fine-tuning", "mlc", "mw-net", "mslc", "mlnt", "fasten"),
    *("glc", "dividemix", "elr-plus", "c2d", "emlc (paper), k = 1", "emlc (paper), k = 5"),
    *(*ON_CIFAR_ONLY, "emlc, noise-aware", "true-labels"),
)


_NOT_ON_FEATURES = ("emlc (authors' first version)",)
"""The row that takes a laptop too long. All other methods are there, more than in the paper."""


def _table1(choice: Choice) -> Grid:
    protocols = choice.protocols("cifar10", "cifar100")
    columns = []
    for protocol in protocols:
        columns += [noise_column(protocol, "symmetric", rate) for rate in (20, 50, 80, 90)]
        if protocol.data != "cifar100" or protocol.scale == "features":
            columns.append(noise_column(protocol, "asymmetric", 40))
        columns += [human_column(protocol, name) for name in protocol.human_labels]
    on_features = [each for each in CONTENDERS if each not in _NOT_ON_FEATURES]
    rows, left_out = _methods(protocols[0], on_features if choice.scale == "features" else _TABLE_1)
    return _grid(
        choice,
        "table1",
        "Table 1: methods by kind and rate of noise",
        protocols[0],
        rows=rows,
        columns=tuple(columns),
        paper="table1",
        notes=(
            _QUOTED,
            *left_out,
            *(note for protocol in protocols for note in missing_label_notes(protocol)),
        ),
    )


def _table2(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("clothing1m")
    without = [*ON_CIFAR_ONLY, *(["true-labels"] if choice.scale == "paper" else [])]
    rows, left_out = _methods(protocol, [each for each in CONTENDERS if each not in without])
    return _grid(
        choice,
        "table2",
        "Table 2: methods on labels wrong as people make them",
        protocol,
        rows=rows,
        columns=(clothing_column(protocol),),
        paper="table2",
        notes=(_QUOTED, *left_out, *stand_in_notes(protocol)),
    )


def _table3(choice: Choice) -> Timing:
    if choice.scale == "features":
        raise InputError("scale: table3 measures networks that learn from images, expected small or paper")
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
        scaled |= {"preset": "cifar10"}
    else:
        scaled = {"networks": ["resnet50"], "noisy_batch": [128], "trusted_batch": [128], "image_size": 224}
        scaled |= {"precisions": ["bf16-mixed"], "repetitions": 11, "captured": "both"}
        scaled |= {"preset": "clothing1m"}
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
            "EMLC has the paper's teacher, the gate, with the losses and optimisers of preset "
            f"{scaled['preset']}.",
        ),
    )


_WEAK = {"digits": ["crop"], "cifar10": ["flip", "crop"], "clothing1m": ["flip"]}
"""Augmentation of trusted images without AutoAugment, by data set."""


def _table4(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("clothing1m")
    if choice.scale == "features":
        return _table4_on_features(choice, protocol)
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
    columns: tuple[Part, ...] = (clothing_column(protocol),)
    notes = ["Without corruption there is no binary cross-entropy: the meta loss alone trains the gate."]
    if choice.scale == "small":
        columns = (
            *(replace(noise_column(protocol, "symmetric", rate), paper=None) for rate in (50, 80)),
            *columns,
        )
    notes += stand_in_notes(protocol)
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


_NO_META = {"meta_weight": 0.0}
_PARTS: Mapping[str, Mapping[str, Any]] = {
    "emlc, noise-aware": {},
    "no meta loss": _NO_META,
    "no likelihood of the given labels": {"likelihood_weight": 0.0},
    "no cross-entropy on trusted samples": {"ce_weight": 0.0},
    "no anchor of T": {"anchor_weight": 0.0},
    "no anchor of T, no meta loss": {"anchor_weight": 0.0, **_NO_META},
    "k = 5": {"look_ahead": 5},
}
"""The noise-aware EMLC without one of its parts each, or with a longer look-ahead."""
_GATES: Mapping[str, Mapping[str, Any]] = {
    "none": {"bce_weight": 0.0, **_NO_META},
    "meta": {"bce_weight": 0.0},
    "random": {"corruption": "random"},
    "adversarial": {},
}
"""The paper's teacher in its place, with the parts that Table 4 of the paper adds one after the other."""


def _table4_on_features(choice: Choice, protocol: Protocol) -> Grid:
    emlc = {"method": "emlc"}
    gates = {
        "none": "gate: no meta loss, no corruption",
        "meta": "gate: + meta loss",
        "random": "gate: + random corruption",
        "adversarial": "gate: adversarial corruption instead",
    }
    columns = [noise_column(protocol, "symmetric", rate) for rate in (50, 80)]
    columns += [noise_column(protocol, "asymmetric", 40)] if "worst" in protocol.human_labels else []
    return _grid(
        choice,
        "table4",
        "Table 4: what each part of EMLC adds",
        protocol,
        rows=(
            *(Part(label, {**emlc, **changed}) for label, changed in _PARTS.items()),
            *(Part(label, {**emlc, **PAPER, **_GATES[key]}, paper=key) for key, label in gates.items()),
        ),
        columns=(*(replace(column, paper=None) for column in columns), clothing_column(protocol)),
        paper="table4",
        notes=(
            "The first rows have the noise-aware teacher, each without one part. The others have the paper's "
            "gate, to which its parts are added one by one. The last part, AutoAugment, needs images.",
            *stand_in_notes(protocol),
        ),
    )


def _recovery(choice: Choice, name: str, title: str, rates: Sequence[int]) -> Grid:
    (protocol,) = choice.protocols("cifar10")
    simclr, random = {PRETRAIN: protocol.pretrain}, {PRETRAIN: None}
    emlc, mlc = (CONTENDERS[label].row(protocol).settings for label in ("emlc (paper), k = 1", "mlc"))
    rows: tuple[Part, ...] = (
        Part("emlc, SimCLR", {**emlc, **simclr}),
        Part("emlc", {**emlc, **random}),
        Part("mlc, SimCLR", {**mlc, **simclr}),
        Part("mlc", {**mlc, **random}),
    )
    note = "SimCLR: from self-supervised weights of the same images; else from random weights."
    if choice.scale == "features":
        rows = _rows(protocol, ["emlc, noise-aware", "emlc (paper), k = 1", "mlc"])
        note = "Features of a pretrained network stand in for SimCLR, so there are no rows without it."
    return _grid(
        choice,
        name,
        title,
        protocol,
        rows=rows,
        columns=tuple(noise_column(protocol, "symmetric", rate) for rate in rates),
        measures=(LAST_RECOVERY, LAST_WRONG_RECOVERY, CHOSEN, LAST),
        picture="epochs",
        notes=(note,),
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
        columns=(clothing_column(protocol),),
        measures=(SEPARATION, CHOSEN, LAST),
        picture="features",
        notes=(
            "Features of validation samples, or else of test samples; drawn is the first seed.",
            *stand_in_notes(protocol),
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
        columns=(clothing_column(protocol),),
        measures=(META_OBJECTIVE, CHOSEN, LAST),
        picture="steps",
        notes=(
            "The meta objective of all rows is the student's cross-entropy on trusted batches, in nats.",
            *stand_in_notes(protocol),
        ),
    )


_LOOK_AHEAD = (1, 2, 3, 5, 10)


def _look_ahead(choice: Choice, name: str, title: str, protocol: Protocol, column: Part, *notes: str) -> Grid:
    rows = tuple(
        Part(f"emlc, k = {k}", {"method": "emlc", "look_ahead": k}, paper=f"emlc, k = {k}", at=k)
        for k in _LOOK_AHEAD
    )
    columns = [replace(column, settings={**column.settings, **PAPER})]
    if choice.scale == "features":
        columns = [replace(columns[0], label=f"{column.label}, gate")]
        columns += [replace(column, label=f"{column.label}, noise-aware", paper=None)]
    source = "The paper prints this figure as a plot: its values here are those of its tables."
    fewer = "The teacher takes one step every k batches: in runs this short, a large k leaves too few."
    notes = (*notes, *((fewer,) if choice.scale == "small" else ()))
    return _grid(
        choice,
        name,
        title,
        protocol,
        rows=rows,
        columns=tuple(columns),
        picture="against",
        paper=name,
        notes=(source, *notes),
    )


def _fig6(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("cifar100")
    column = noise_column(protocol, "symmetric", 50, paper="CIFAR-100 symmetric 50 %")
    return _look_ahead(choice, "fig6", "Figure 6: look-ahead steps", protocol, column)


def _fig7(choice: Choice) -> Grid:
    (protocol,) = choice.protocols("clothing1m")
    title, column, notes = "Figure 7: look-ahead steps", clothing_column(protocol), stand_in_notes(protocol)
    return _look_ahead(choice, "fig7", title, protocol, column, *notes)


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
    """Return a grid with these seeds and methods only, by their names or rows; None leaves all.

    Raises:
        InputError: The grid has no such method.
    """
    if seeds is not None:
        rows = tuple(replace(row, seeds=None) for row in grid.rows)
        grid = replace(grid, rows=rows, seeds=tuple(seeds))
    if methods is None:
        return grid
    names = {row.label: {row.label, method_of(grid, row)} for row in grid.rows}
    known = set[str]().union(*names.values())
    if unknown := [method for method in methods if method not in known]:
        raise InputError(f"methods: {grid.name} has {', '.join(sorted(known))}; got {', '.join(unknown)}")
    return replace(grid, rows=tuple(row for row in grid.rows if names[row.label].intersection(methods)))
