"""Tables and a plot of a benchmark's measurements."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from emlc.runtime.colours import AMBER, BLUE, GREEN, ORANGE, SKY
from emlc.runtime.files import atomic_write
from emlc.timing.cases import Case, Group
from emlc.timing.cost import ERM_PASSES, Part, forward_passes
from emlc.timing.options import EMLC_METHODS
from emlc.timing.step import Record

PLOT = "emlc bench"
"""Metadata of the plot, by which it is known to be of emlc."""

_COLOURS: dict[Part, str] = {
    "student": BLUE,
    "teacher": SKY,
    "trusted gradient": GREEN,
    "Jacobian products": AMBER,
}


def tables(records: Sequence[Record], hardware: str) -> Iterator[Table]:
    """Yield one table per network and batch size, its cases sorted by their ratio to plain training.

    Traits that all cases share stand in the title. The last column is the time to load and augment the
    images of a step, in per cent of the step's.

    Args:
        records: Records of :func:`~emlc.timing.step.measure_steps`.
        hardware: Name of the device.
    """
    for group, members in _grouped(records):
        yield _table(group, sorted(members, key=_ratio), hardware)


_TRAITS: dict[str, Callable[[Record], str]] = {
    "step": lambda r: f"{r.method} k={r.k}" if r.method in EMLC_METHODS else r.method,
    "teacher": lambda r: r.teacher or "",
    "gradient": lambda r: r.meta_gradient or "",
    "JVP": lambda r: r.engine or "",
    "precision": lambda r: r.precision,
    "memory": lambda r: r.memory_format,
    "CUDA graph": lambda r: "yes" if r.captured else "",
}


def _table(group: Group, records: Sequence[Record], hardware: str) -> Table:
    common = {name for name, trait in _TRAITS.items() if name != "step" and len({*map(trait, records)}) == 1}
    shared = [_TRAITS[name](records[0]) for name in ("precision", "memory") if name in common]
    table = Table(title="; ".join([_title(group), *shared, hardware]), box=SIMPLE_HEAD, pad_edge=False)
    for name in _TRAITS:
        if name not in common:
            table.add_column(name)
    for heading in ("ms/image", "x ERM", "quartiles", "/model", "x plain", "x authors", "MiB", "load %"):
        table.add_column(heading, justify="right", no_wrap=True)
    loading = {r.case.erm: r.seconds_per_image for r in records if r.method == "data"}
    for r in records:
        row = [trait(r) for name, trait in _TRAITS.items() if name not in common]
        table.add_row(*row, *(_figures(r, loading) if r.problem is None else ("failed",)))
    problems = {f"{r.case.name}: {r.problem}" for r in records if r.problem is not None}
    table.caption = "\n".join(sorted(problems)) or None
    return table


def _figures(record: Record, loading: Mapping[Case, float | None]) -> Iterator[str]:
    assert record.seconds_per_image is not None
    yield f"{1e3 * record.seconds_per_image:.3g}"
    yield _number(record.ratio_to_erm)
    yield "-".join(_number(quartile) for quartile in record.ratio_spread or ())
    yield _number(record.over_model)
    yield _number(record.ratio_to_plain)
    yield _number(record.ratio_to_authors)
    peak = record.peak_memory_bytes
    yield "" if peak is None else f"{peak / 2**20:,.0f}"
    # Loading does not depend on whether the step is captured.
    load = loading.get(replace(record.case.erm, captured=False))
    no_share = load is None or record.method == "data"
    yield "" if no_share else f"{100 * (load or 0) / record.seconds_per_image:.1f}"


def save_plot(records: Sequence[Record], path: Path) -> bool:
    """Plot the cost per image in forward passes, as measured and by the parts of the cost model.

    Args:
        records: Records of :func:`~emlc.timing.step.measure_steps`; those without figures and those of
            data are left out.
        path: The PNG file to write.

    Returns:
        Whether there was anything to plot: else no file is written.
    """
    measured = [r for r in records if r.ratio_to_erm is not None and r.method != "data"]
    if not measured:
        return False
    groups = [(group, sorted(members, key=_ratio, reverse=True)) for group, members in _grouped(measured)]
    counts = [len(members) for _, members in groups]
    with matplotlib.rc_context(
        {"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}
    ):
        figure = Figure(figsize=(9, sum(1.2 + 0.32 * n for n in counts)), layout="constrained")
        axes = figure.subplots(len(groups), squeeze=False, height_ratios=[4 + n for n in counts])[:, 0]
        for each, (group, members) in zip(axes, groups, strict=True):
            _plot_group(each, members)
            each.set_title(_title(group), loc="left")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120, metadata={"Software": PLOT})
    return True


def _plot_group(axes: Axes, records: Sequence[Record]) -> None:
    rows = np.arange(len(records))
    ratios = [r.ratio_to_erm or 0 for r in records]
    axes.barh(rows + 0.2, [ERM_PASSES * r for r in ratios], 0.36, color=ORANGE, label="measured")
    parts = [forward_passes(r.case, r.noisy_batch, r.trusted_batch) for r in records]
    left = np.zeros(len(records))
    for part, colour in _COLOURS.items():
        widths = np.array([each.get(part, 0.0) for each in parts])
        axes.barh(rows - 0.2, widths, 0.36, left, color=colour, label=f"model: {part}")
        left += widths
    axes.set_yticks(rows, [", ".join([r.case.name, *([r.teacher] if r.teacher else [])]) for r in records])
    axes.set(xlabel="cost per noisy image (forward passes, of which plain training takes 3)")
    axes.set_ylim(-0.7, len(records) - 0.3)
    axes.grid(False, axis="y")


def _grouped(records: Sequence[Record]) -> Iterator[tuple[Group, list[Record]]]:
    for group, members in groupby(records, key=lambda r: r.group):
        yield group, list(members)


def _ratio(record: Record) -> float:
    return float("inf") if record.ratio_to_erm is None else record.ratio_to_erm


def _title(group: Group) -> str:
    return (
        f"{group.network}, {group.noisy_batch} noisy + {group.trusted_batch} trusted, {group.classes} classes"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
