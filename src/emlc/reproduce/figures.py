"""The plot of an experiment as a PNG file: our figures filled, the paper's hollow."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from emlc.reproduce.cache import Outcome
from emlc.reproduce.features import feature_map
from emlc.reproduce.plan import LAST, Measure, Part, Picture
from emlc.reproduce.results import Results
from emlc.reproduce.tables import Values, quartiles
from emlc.runtime.colours import AMBER, BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY
from emlc.runtime.files import atomic_write

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, BLACK)
_MARKERS = "osD^vP*X"
_POINTS_OF_A_LINE = 200
_PANELS_ACROSS = 5


def save(path: Path, results: Results) -> None:
    """Plot an experiment in the kind of picture that its grid names."""
    with _style():
        figure = _PICTURES[results.grid.picture](results)
        figure.suptitle("\n".join(_title(results)))
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120)


def save_bars(path: Path, title: str, measure: Measure, labels: Sequence[str], values: Values) -> None:
    """Plot the median and quartiles of one measure of one column as bars, the paper's figures as markers."""
    shown = [(label, v) for label, v in zip(labels, values.values(), strict=True) if v.ours]
    with _style():
        figure = Figure(figsize=(7, 1.4 + 0.45 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        for y, (_, (ours, paper)) in enumerate(reversed(shown)):
            lower, middle, upper = quartiles(ours)
            spread = [[middle - lower], [upper - middle]]
            axes.barh(y, middle, 0.6, xerr=spread, color=_COLOURS[0], capsize=3)
            if paper is not None:
                axes.plot(paper.mean, y, "D", markersize=9, **_HOLLOW)
        axes.set_yticks(range(len(shown)), [label for label, _ in reversed(shown)])
        axes.set(title=title, xlabel=measure.title)
        axes.grid(False, axis="y")
        axes.legend(handles=[_key("s", "ours"), _key("D", "paper", hollow=True)], loc="best")
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120)


def _title(results: Results) -> Iterator[str]:
    grid = results.grid
    yield grid.title
    if grid.picture in ("accuracies", "against"):
        counts = sorted({len(each) for each in results.outcomes.values() if each})
        seeds = " to ".join(map(str, counts[:1] + counts[1:][-1:]))
        yield f"{grid.measures[0].title}; mean ± standard deviation of {seeds} seed(s)"


def _accuracies(results: Results) -> Figure:
    """Plot one panel per column: each row's mean and standard deviation, with last epoch and paper."""
    main = results.grid.measures[0]
    chosen, last = results.values(main), results.values(LAST)
    columns = [c for c in results.grid.columns if any(chosen[r.label, c.label].ours for r in results.rows)]
    rows = [r for r in results.rows if any(chosen[r.label, c.label].ours for c in columns)]
    across = min(_PANELS_ACROSS, max(1, len(columns)))
    down = math.ceil(len(columns) / across)
    size = (max(7.0, 2.2 + 2.4 * across), 1.2 + down * (0.6 + 0.33 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).flatten()
    for unused in panels[len(columns) :]:
        unused.remove()
    places = range(len(rows) - 1, -1, -1)
    for axes, column in zip(panels, columns, strict=False):
        for y, row in zip(places, rows, strict=True):
            ours, paper = chosen[row.label, column.label]
            if at_end := last[row.label, column.label].ours:
                axes.plot(mean(at_end), y, "|", color="black", markersize=11, markeredgewidth=1.5)
            if ours:
                colour = "grey" if row.ceiling else _COLOURS[row.label.startswith("emlc")]
                axes.errorbar(mean(ours), y, xerr=_spread(ours), fmt="o", color=colour, capsize=3)
            if paper is not None:
                axes.plot(paper.mean, y, "D", markersize=7, **_HOLLOW)
        axes.set_title(column.label, fontsize=10)
        axes.set_yticks(list(places), [row.label for row in rows])
        axes.set_ylim(-0.7, len(rows) - 0.3)
    keys = [_key("o", "chosen epoch"), _key("|", "last epoch", colour="black")]
    if any(value.paper for value in chosen.values()):
        keys.append(_key("D", "paper (its data, its networks)", hollow=True))
    figure.legend(handles=keys, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _against(results: Results) -> Figure:
    """Plot accuracy against the quantity in which the rows differ, such as k."""
    main = results.grid.measures[0]
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.add_subplot()
    drawn = ((main, "-", "chosen epoch"), (LAST, "--", "last epoch"))
    for (measure, style, name), colour in zip(drawn, _COLOURS, strict=False):
        values = results.values(measure)
        for column, marker in zip(results.grid.columns, _MARKERS, strict=False):
            cells = [(row, values[row.label, column.label]) for row in results.rows if row.at is not None]
            ours = [(row.at, mean(v.ours), _spread(v.ours)) for row, v in cells if v.ours]
            if ours:
                x, y, spread = zip(*ours, strict=True)
                label = f"{column.label}, {name}"
                axes.errorbar(x, y, spread, fmt=marker + style, color=colour, capsize=3, label=label)
            paper = [(row.at, v.paper.mean) for row, v in cells if v.paper is not None]
            if paper:
                axes.plot(
                    *zip(*paper, strict=True), "D", markersize=9, label=f"paper, {column.paper}", **_HOLLOW
                )
    axes.set(xlabel="look-ahead steps, k", ylabel="test accuracy, %")
    axes.set_xticks([row.at for row in results.rows if row.at is not None])
    axes.legend(fontsize=9)
    return figure


def _epochs(results: Results) -> Figure:
    """Plot label recovery per epoch, one panel per column: all labels solid, wrong labels dashed."""
    figure, panels = _panels(results.grid.columns)
    for axes, column in zip(panels, results.grid.columns, strict=True):
        for row, colour in zip(results.rows, _COLOURS, strict=False):
            outcomes = results.outcomes[row.label, column.label]
            for name, style in (("label_recovery", "-"), ("wrong_label_recovery", "--")):
                _line(axes, [_series(o.epochs, "epoch", name) for o in outcomes], colour, style)
        axes.set_title(column.label, fontsize=10)
        axes.set(xlabel="epoch", ylim=(0, 101))
    panels[0].set_ylabel("labels recovered, %")
    _legend(figure, results.rows)
    styles = [
        Line2D([], [], color="black", label="all labels"),
        Line2D([], [], color="black", linestyle="--", label="wrong labels"),
    ]
    panels[0].legend(handles=styles, loc="lower right", fontsize=9)
    return figure


def _steps(results: Results) -> Figure:
    """Plot the smoothed meta objective per student step."""
    figure, panels = _panels(results.grid.columns)
    units: dict[str, None] = {}
    for axes, column in zip(panels, results.grid.columns, strict=True):
        for row, colour in zip(results.rows, _COLOURS, strict=False):
            outcomes = [o for o in results.outcomes[row.label, column.label] if "meta_objective" in o.steps]
            _line(axes, [_smooth(o) for o in outcomes], colour, "-")
            units |= dict.fromkeys(o.meta_objective.unit for o in outcomes)
        axes.set_title(column.label, fontsize=10)
        axes.set(xlabel="student steps", yscale="log")
    panels[0].set_ylabel(f"meta objective ({'; '.join(units)})" if units else "meta objective")
    _legend(figure, results.rows)
    return figure


def _features(results: Results) -> Figure:
    """Plot one t-SNE map per row, of the first seed; classes differ in colour and marker."""
    drawn = [
        (row, column, outcomes[0])
        for row in results.rows
        for column in results.grid.columns
        if (outcomes := results.outcomes[row.label, column.label])
    ]
    figure = Figure(figsize=(5.2 * len(drawn) + 1.2, 5.2), layout="constrained")
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, (row, column, outcome) in zip(panels, drawn, strict=True):
        points, labels, classes = feature_map(outcome.folder)
        for k, name in enumerate(classes):
            x, y = points[labels == k].T
            look = {
                "color": _COLOURS[k % len(_COLOURS)],
                "marker": _MARKERS[k // len(_COLOURS) % len(_MARKERS)],
            }
            axes.scatter(x, y, s=12, label=name, alpha=0.8, linewidths=0, **look)
        accuracy = outcome.figure("test_accuracy")
        axes.set_title(f"{row.label}, {column.label}: {accuracy:.1f} % of test samples right", fontsize=10)
        axes.set(xticks=[], yticks=[])
    panels[-1].legend(title="true class", loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


_PICTURES: dict[Picture, Callable[[Results], Figure]] = {
    "accuracies": _accuracies,
    "against": _against,
    "epochs": _epochs,
    "steps": _steps,
    "features": _features,
}

_HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": "black"}


def _style() -> AbstractContextManager[None]:
    return matplotlib.rc_context(
        {"font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}
    )


def _panels(columns: Sequence[Part]) -> tuple[Figure, NDArray[np.object_]]:
    figure = Figure(figsize=(max(7.0, 3.6 * len(columns) + 0.6), 4.4), layout="constrained")
    return figure, figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]


def _key(marker: str, label: str, *, hollow: bool = False, colour: str = _COLOURS[0]) -> Line2D:
    look: dict[str, Any] = _HOLLOW if hollow else {"color": colour}
    return Line2D([], [], linestyle="", marker=marker, label=label, **look)


def _legend(figure: Figure, rows: Sequence[Part]) -> None:
    keys = [Line2D([], [], color=c, label=row.label) for row, c in zip(rows, _COLOURS, strict=False)]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=9)


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _series(table: pd.DataFrame, x: str, y: str) -> pd.Series:
    return table.set_index(x)[y] if y in table else pd.Series(dtype=float)


def _smooth(outcome: Outcome) -> pd.Series:
    """Average the meta objective over windows of a fiftieth of the steps, and thin it for the plot."""
    values = _series(outcome.steps, "iteration", "meta_objective").dropna()
    smooth = values.rolling(max(1, len(values) // 50), min_periods=1).mean()
    return smooth.iloc[:: max(1, len(smooth) // _POINTS_OF_A_LINE)]


def _line(axes: Axes, series: Sequence[pd.Series], colour: str, style: str) -> None:
    """Plot the mean over the seeds, with a band of one standard deviation to either side."""
    if not any(len(each) for each in series):
        return
    table = pd.concat(series, axis=1)
    centre, spread = table.mean(axis=1), table.std(axis=1).fillna(0)
    axes.plot(centre.index, centre, style, color=colour)
    axes.fill_between(centre.index, centre - spread, centre + spread, color=colour, alpha=0.15, linewidth=0)
