"""Matrices over pairs of classes, as heat maps."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emlc.report.figures.base import NAME_LENGTH, Figure, plot_text

MOST_CLASSES = 150
"""Largest number of classes in a matrix; of more, those with most samples off the diagonal are shown."""

_ALL_NAMED = 20
"""Largest number of classes whose cells hold text; a figure with more scrolls instead."""

_PAIRS = 50
"""Number of entries in the table of a large matrix."""


def matrix(
    key: str,
    title: str,
    caption: str,
    values: NDArray[Any],
    classes: tuple[str, ...],
    axes: tuple[str, str],
) -> Figure:
    """Plot a matrix (C, C) over pairs of classes as a heat map.

    Args:
        key: See :class:`Figure`.
        title: See :class:`Figure`.
        caption: See :class:`Figure`.
        values: int64 counts, which are coloured by their share of the row, or float64 shares in [0, 1].
        classes: C names.
        axes: Titles of the rows and of the columns.
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
        texts = part.astype(str) if counted else np.array([[share_cell(v) for v in row] for row in part])
        trace |= {"text": texts.tolist(), "texttemplate": "%{text}"}
    ticks = {
        "tickmode": "array",
        "tickvals": list(range(n)),
        "ticktext": [plot_text(name, NAME_LENGTH) for name in names],
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


def _matrix_table(
    values: NDArray[Any], classes: tuple[str, ...], axes: tuple[str, str]
) -> tuple[pd.DataFrame, str]:
    """Return a small matrix as a table, or a large one's largest entries off the diagonal, and a caption."""
    if len(classes) <= _ALL_NAMED:
        cells = values if values.dtype.kind == "i" else [[share_cell(v) for v in row] for row in values]
        table = pd.DataFrame(cells, columns=list(classes), dtype=object)
        table.insert(0, f"{axes[0]} \\ {axes[1]}", list(classes), allow_duplicates=True)
        return table, ""
    pairs = largest_pairs(values, _PAIRS)
    table = pd.DataFrame(
        {
            axes[0]: [classes[a] for a, _ in pairs],
            axes[1]: [classes[b] for _, b in pairs],
            "samples" if values.dtype.kind == "i" else "share": [
                values[a, b] if values.dtype.kind == "i" else share_cell(values[a, b]) for a, b in pairs
            ],
        }
    )
    return table, f"the {len(pairs)} largest entries off the diagonal"


def largest_pairs(values: NDArray[Any], most: int) -> list[tuple[int, int]]:
    """Return row and column of the largest entries above 0 off the diagonal, largest first."""
    off = np.nan_to_num(values.astype(np.float64))
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    return [(int(k // len(off)), int(k % len(off))) for k in order if off.flat[k] > 0]


def share_cell(share: float) -> str:
    """Format a share in [0, 1] in per cent, short enough for a cell."""
    if np.isnan(share):
        return ""
    return "0" if share < 0.0005 else f"{100 * share:.1f}" if share < 0.1 else f"{100 * share:.0f}"


def _rounded(values: NDArray[Any]) -> list[list[float | None]]:
    return [[None if np.isnan(v) else round(float(v), 4) for v in row] for row in values]
