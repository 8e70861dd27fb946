"""The figures of a report, as plain Plotly specifications, each with a table that says the same.

Colours of text, grid and background are the page's, which knows whether it is light or dark.
"""

import colorsys
import html
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"
_CLASS_COLOURS = (
    *(BLUE, "#e69f00", GREEN, ORANGE, SKY, PURPLE, "#b8a900"),  # Okabe and Ito's, the yellow darkened
    *("#7f7f7f", "#7b3f1d", "#6a3d9a", "#e7298a", "#5aae61"),
)

MOST_CLASSES = 150
"""Rows of a matrix that can still be looked at; of more classes, those with most samples off the diagonal."""

_ALL_NAMED = 20  # classes; of more, cells hold no text and the figure scrolls
_NAME = 22  # characters of a class name on an axis


@dataclass(frozen=True)
class Figure:
    """A figure and its alternative.

    Attributes:
        key: Unique in the page.
        title: Its heading.
        caption: What it shows, and how to read it.
        spec: ``data`` and ``layout`` for Plotly; of a matrix, ``names``, ``counts`` and ``axes`` besides.
        table: The same in figures.
        table_caption: What the table holds, where that is less than all.
        wide: Whether it takes the whole width of the page.
    """

    key: str
    title: str
    caption: str
    spec: dict[str, Any]
    table: pd.DataFrame
    table_caption: str = ""
    wide: bool = False


def plot_text(text: str, limit: int | None = None) -> str:
    """Text as Plotly shows it literally, which otherwise takes it for HTML; shortened to ``limit``.

    Text that runs from right to left is kept from turning its surroundings round.
    """
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    escaped = html.escape(text, quote=False)
    if all(unicodedata.bidirectional(c) in _LEFT_TO_RIGHT for c in text):
        return escaped
    return f"\u2068{escaped}\u2069"  # first strong isolate, pop directional isolate


_LEFT_TO_RIGHT = {"L", "EN", "ES", "ET", "CS", "ON", "WS", "NSM", "BN", "S", "B", ""}


# --- training -----------------------------------------------------------------------------------


def learning_curves(metrics: pd.DataFrame, steps: pd.DataFrame | None, chosen: int | None) -> list[Figure]:
    """Accuracy, label recovery and losses per epoch, and the meta objective per step, as far as known."""
    groups = (
        (
            "accuracy",
            "Accuracy",
            "%",
            "Share of samples classified rightly, after every epoch. The test set takes part in no choice.",
            {
                "test_accuracy": ("student, test", GREEN),
                "validation_accuracy": ("student, validation", PURPLE),
                "trusted_accuracy": ("student, trusted", BLUE),
                "teacher_test_accuracy": ("teacher, test", ORANGE),
            },
        ),
        (
            "recovery",
            "Labels recovered",
            "%",
            "Share of the noisy samples whose corrected label is the true one.",
            {"label_recovery": ("all labels", BLUE), "wrong_label_recovery": ("wrong labels", ORANGE)},
        ),
        (
            "losses",
            "Losses",
            "nats",
            "Means over the steps of an epoch.",
            {
                "student_loss": ("student", BLUE),
                "teacher_ce": ("teacher, cross-entropy", ORANGE),
                "teacher_bce": ("gate, binary cross-entropy", PURPLE),
            },
        ),
    )
    figures = []
    for key, title, unit, caption, names in groups:
        shown = {
            name: named for name, named in names.items() if name in metrics and metrics[name].notna().any()
        }
        if shown:
            figures.append(_curves(key, title, unit, caption, metrics, shown, chosen))
    if steps is not None and "meta_objective" in steps and steps["meta_objective"].notna().any():
        figures.append(_meta_objective(steps))
    return figures


def _curves(
    key: str,
    title: str,
    unit: str,
    caption: str,
    metrics: pd.DataFrame,
    names: dict[str, tuple[str, str]],
    chosen: int | None,
) -> Figure:
    epochs = metrics["epoch"].tolist()
    dashes = ("solid", "dash", "dot", "dashdot")
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(epochs) < 60 else "lines",
            "x": epochs,
            "y": _plain(metrics[column]),
            "name": name,
            "line": {"color": colour, "dash": dash, "width": 2},
            "marker": {"size": 5},
            "hovertemplate": "%{y:.4g}",
        }
        for (column, (name, colour)), dash in zip(names.items(), dashes, strict=False)
    ]
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "epoch"}, "tickformat": "d", "rangemode": "tozero"},
        "yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
        "hovermode": "x unified",
    }
    if chosen is not None:
        caption += f" The dotted line marks epoch {chosen}, the chosen one."
        layout["shapes"] = [
            {
                "type": "line",
                "x0": chosen,
                "x1": chosen,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"dash": "dot", "width": 1},
            }
        ]
    table = metrics[["epoch", *names]].rename(columns={column: name for column, (name, _) in names.items()})
    return Figure(key, title, caption, {"data": data, "layout": layout}, table)


_STEPS_SHOWN = 600


def _meta_objective(steps: pd.DataFrame) -> Figure:
    values = steps.set_index("step")["meta_objective"].dropna()
    window = max(1, len(values) // 50)
    smooth = values.rolling(window, min_periods=1).mean()
    thin = max(1, -(-len(values) // _STEPS_SHOWN))
    raw, smooth = values.iloc[::thin], smooth.iloc[::thin]
    data = [
        {"type": "scatter", "mode": "lines", "x": raw.index.tolist(), "y": _plain(raw), "name": "a step",
         "line": {"color": SKY, "width": 1}, "opacity": 0.5},
        {"type": "scatter", "mode": "lines", "x": smooth.index.tolist(), "y": _plain(smooth),
         "name": f"mean of {window} steps", "line": {"color": BLUE, "width": 2}},
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "teacher step"}},
        "yaxis": {"title": {"text": "nats"}, "rangemode": "tozero"},
        "hovermode": "x unified",
    }
    tenths = np.unique(np.linspace(0, len(values) - 1, min(10, len(values))).astype(int))
    mean = values.rolling(window, min_periods=1).mean().iloc[tenths]
    return Figure(
        "meta",
        "Meta objective",
        "The student's loss on trusted batches: what the teacher's meta-gradient descends.",
        {"data": data, "layout": layout},
        pd.DataFrame({"teacher step": mean.index, f"mean of {window} steps (nats)": mean.to_numpy()}),
        "at ten steps",
    )


# --- matrices -----------------------------------------------------------------------------------


def matrix(
    key: str,
    title: str,
    caption: str,
    values: NDArray[Any],
    classes: tuple[str, ...],
    axes: tuple[str, str],
) -> Figure:
    """A matrix (C, C) over pairs of classes as a heat map.

    Args:
        key: See :class:`Figure`.
        title: See :class:`Figure`.
        caption: See :class:`Figure`.
        values: int64 counts, which are coloured by their share of the row, or float64 shares in [0, 1].
        classes: C names.
        axes: What rows and what columns are.
    """
    counted = values.dtype.kind == "i"
    shown = _most_confused(values)
    part, names = values[np.ix_(shown, shown)], [classes[k] for k in shown]
    with np.errstate(invalid="ignore"):
        shares = part / values.sum(axis=1)[shown, None] if counted else part
    n, rows, columns = len(shown), *axes
    if n < len(classes):
        caption += f" Of {len(classes):,} classes, the {n} with most samples off the diagonal are shown."
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": _rounded(shares),
        "zmin": 0,
        "zmax": 1,
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"tickformat": ".0%", "thickness": 10, "outlinewidth": 0},
    }
    if n <= _ALL_NAMED:
        texts = part.astype(str) if counted else np.array([[_cell(v) for v in row] for row in part])
        trace |= {"text": texts.tolist(), "texttemplate": "%{text}"}
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(n)),
        "ticktext": [plot_text(name, _NAME) for name in names],
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
    }
    layout: dict[str, Any] = {
        "xaxis": ticks | {"title": {"text": columns}, "tickangle": -45},
        "yaxis": ticks | {"title": {"text": rows}, "autorange": "reversed"},
        "height": 420,
    }
    if n > _ALL_NAMED:
        layout |= {"width": 15 * n + 260, "height": 15 * n + 220, "autosize": False, "font": {"size": 10}}
    spec = {
        "data": [trace],
        "layout": layout,
        "matrix": {
            "classes": shown.tolist(),
            "names": [plot_text(name, 60) for name in names],
            "counts": part.tolist() if counted else None,
            "axes": list(axes),
        },
    }
    table, what = _matrix_table(values, classes, axes)
    return Figure(key, title, caption, spec, table, what, wide=n > _ALL_NAMED)


def _most_confused(values: NDArray[Any]) -> NDArray[np.int64]:
    if len(values) <= MOST_CLASSES:
        return np.arange(len(values))
    off = np.nan_to_num(values.astype(np.float64))
    np.fill_diagonal(off, 0)
    weight = off.sum(axis=0) + off.sum(axis=1)
    return np.sort(np.argsort(-weight, kind="stable")[:MOST_CLASSES])


_PAIRS = 50


def _matrix_table(
    values: NDArray[Any], classes: tuple[str, ...], axes: tuple[str, str]
) -> tuple[pd.DataFrame, str]:
    """The whole matrix where it is small, else its largest entries off the diagonal."""
    if len(classes) <= _ALL_NAMED:
        cells = values if values.dtype.kind == "i" else [[_cell(v) for v in row] for row in values]
        table = pd.DataFrame(cells, columns=list(classes), dtype=object)
        table.insert(0, f"{axes[0]} \\ {axes[1]}", list(classes), allow_duplicates=True)
        return table, ""
    pairs = largest_pairs(values, _PAIRS)
    table = pd.DataFrame(
        {
            axes[0]: [classes[a] for a, _ in pairs],
            axes[1]: [classes[b] for _, b in pairs],
            "samples" if values.dtype.kind == "i" else "share": [
                values[a, b] if values.dtype.kind == "i" else _cell(values[a, b]) for a, b in pairs
            ],
        }
    )
    return table, f"the {len(pairs)} largest entries off the diagonal"


def largest_pairs(values: NDArray[Any], most: int) -> list[tuple[int, int]]:
    """Row and column of the largest entries off the diagonal that are above 0, largest first."""
    off = np.nan_to_num(values.astype(np.float64))
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    return [(int(k // len(off)), int(k % len(off))) for k in order if off.flat[k] > 0]


def _cell(share: float) -> str:
    """A share in [0, 1] in per cent, short enough for a cell."""
    if np.isnan(share):
        return ""
    return "0" if share < 0.0005 else f"{100 * share:.1f}" if share < 0.1 else f"{100 * share:.0f}"


# --- the student --------------------------------------------------------------------------------


def calibration(reliability: pd.DataFrame) -> Figure:
    """Accuracy against confidence."""
    shares = reliability["samples"] / reliability["samples"].sum()
    data = [
        {"type": "bar", "x": _plain(reliability["confidence"]), "y": _plain(shares), "width": 0.03,
         "name": "share of samples", "marker": {"color": SKY}, "opacity": 0.5,
         "hovertemplate": "%{y:.1%} of the samples<extra></extra>"},
        {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "calibrated",
         "line": {"color": "#7f7f7f", "dash": "dot", "width": 1}, "hoverinfo": "skip"},
        {"type": "scatter", "mode": "lines+markers", "x": _plain(reliability["confidence"]),
         "y": _plain(reliability["accuracy"]), "name": "student", "line": {"color": BLUE, "width": 2},
         "customdata": reliability["samples"].tolist(),
         "hovertemplate": "confidence %{x:.1%}<br>accuracy %{y:.1%}<br>%{customdata} samples<extra></extra>"},
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "confidence"}, "range": [-0.02, 1.03], "tickformat": ".0%"},
        "yaxis": {"title": {"text": "accuracy"}, "range": [-0.02, 1.03], "tickformat": ".0%"},
        "height": 420,
    }
    return Figure(
        "calibration",
        "Calibration",
        "Of samples that the student classifies with some confidence, how many it gets right. A calibrated "
        "classifier lies on the diagonal.",
        {"data": data, "layout": layout},
        reliability.rename(columns={"confidence": "mean confidence"}),
    )


def retain_weights(bins: pd.DataFrame) -> Figure:
    """Histogram of the retain weight; of right and of wrong labels, where truth is known."""
    colours = {
        "samples": (BLUE, "all labels"),
        "right": (BLUE, "right labels"),
        "wrong": (ORANGE, "wrong labels"),
    }
    centres = _plain((bins["from"] + bins["to"]) / 2)
    data = [
        {"type": "bar", "x": centres, "y": bins[name].tolist(), "name": f"{label} ({bins[name].sum():,})",
         "marker": {"color": colour}, "opacity": 0.7, "width": 1 / len(bins),
         "hovertemplate": "%{y} with a weight near %{x:.3f}"}
        for name, (colour, label) in colours.items() if name in bins
    ]  # fmt: skip
    layout = {
        "barmode": "overlay",
        "xaxis": {"title": {"text": "retain weight"}, "range": [0, 1]},
        "yaxis": {"title": {"text": "samples (logarithmic)"}, "type": "log", "dtick": 1},
        "height": 420,
        "showlegend": True,
    }
    tenths = bins.assign(tenth=(bins.index * 10) // len(bins)).groupby("tenth")
    table = tenths[[name for name in colours if name in bins]].sum()
    ranges = [f"{t / 10:.1f} to {(t + 1) / 10:.1f}" for t in table.index]
    table.insert(0, "retain weight", ranges)
    return Figure(
        "retain",
        "Retain weights",
        "How far the teacher keeps the given label: near 1 it believes it, near 0 it puts its own class "
        "in its place.",
        {"data": data, "layout": layout},
        table.rename(columns={"right": "right labels", "wrong": "wrong labels"}),
    )


def feature_map(points: pd.DataFrame, classes: tuple[str, ...], in_gallery: dict[str, int]) -> Figure:
    """The map of the student's features, coloured by class; label issues are crosses."""
    corrected = "corrected_label" in points
    if corrected:  # the legend shows each class's first symbol
        points = points.sort_values("is_label_issue", kind="stable", ignore_index=True)
    coloured_by = points["corrected_label" if corrected else "given_label"]
    issue = points["is_label_issue"] if corrected else pd.Series(False, index=points.index)
    data = []
    for name, colour in zip(classes, class_colours(len(classes)), strict=True):
        of_class = points[coloured_by == name]
        if of_class.empty:
            continue
        crosses = issue[of_class.index]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plot_text(name, _NAME),
                "x": _plain(of_class["x"]),
                "y": _plain(of_class["y"]),
                "text": [_hover(row) for row in of_class.to_dict("records")],
                "customdata": [in_gallery.get(str(key)) for key in of_class["id"]],
                "marker": {
                    "color": colour,
                    "size": 7,
                    "opacity": 0.8,
                    "symbol": np.where(crosses, "x", "circle").tolist(),
                },
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    axis = {"visible": False}
    layout = {
        "xaxis": axis,
        "yaxis": axis | {"scaleanchor": "x"},
        "height": 620,
        "showlegend": len(data) <= 40,
        "legend": {"itemsizing": "constant"},
    }
    table = pd.DataFrame({"class": list(classes)})
    table["points"] = [int((coloured_by == name).sum()) for name in classes]
    if corrected:
        table["label issues"] = [int((issue & (coloured_by == name)).sum()) for name in classes]
    caption = (
        "Each point is a noisy sample, coloured by its corrected class; crosses are label issues. A click on "
        "a point shows it in the gallery, if it is there."
        if corrected
        else "Each point is a noisy sample, coloured by its given class."
    )
    return Figure(
        "map", "Map of the samples", f"t-SNE of the student's features. {caption}",
        {"data": data, "layout": layout}, table, "points by class", wide=True,
    )  # fmt: skip


def _hover(row: Mapping[Any, Any]) -> str:
    lines = [f"<b>{plot_text(str(row['id']), 60)}</b>", f"given {plot_text(row['given_label'], 40)}"]
    if "corrected_label" in row:
        lines.append(f"corrected {plot_text(row['corrected_label'], 40)}")
        lines.append(f"retain weight {row['retain_weight']:.3f}")
    return "<br>".join(lines)


def class_colours(num_classes: int) -> list[str]:
    """Colours that can be told apart while they last, else evenly spaced hues."""
    if num_classes <= len(_CLASS_COLOURS):
        return list(_CLASS_COLOURS[:num_classes])
    colours = []
    for k in range(num_classes):
        red, green, blue = colorsys.hls_to_rgb(k / num_classes, (0.38, 0.55)[k % 2], 0.75)
        colours.append(f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}")
    return colours


def _plain(values: "pd.Series[Any]") -> list[float | None]:
    return [None if pd.isna(v) else float(f"{v:.5g}") for v in values]


def _rounded(values: NDArray[Any]) -> list[list[float | None]]:
    return [[None if np.isnan(v) else round(float(v), 4) for v in row] for row in values]
