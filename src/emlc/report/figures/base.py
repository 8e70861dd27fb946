"""The type that all figures share, and helpers for text and numbers in them.

Colours of text, grid and background are set by the page, which knows whether its theme is light or dark.
"""

import html
import unicodedata
from dataclasses import dataclass
from typing import Any

import pandas as pd

NAME_LENGTH = 22
"""Longest class name on an axis, in characters."""


@dataclass(frozen=True)
class Figure:
    """A figure, and a table of the same figures for readers who cannot see it.

    Attributes:
        key: Name of the figure, unique in the page.
        title: Heading.
        caption: What the figure shows, and how to read it.
        spec: ``data`` and ``layout`` for Plotly; for a matrix also ``matrix``, from which the page makes the
            hover texts and finds the classes of a cell.
        table: The figures as a table.
        table_caption: What the table holds, if not all of the figure.
        wide: Whether the figure takes the whole width of the page.
    """

    key: str
    title: str
    caption: str
    spec: dict[str, Any]
    table: pd.DataFrame
    table_caption: str = ""
    wide: bool = False


def plot_text(text: str, limit: int | None = None) -> str:
    """Escape a text, which Plotly would take for HTML, and shorten it to ``limit`` characters.

    Text that runs from right to left is isolated, so that it does not reorder the text around it.
    """
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    escaped = html.escape(text, quote=False)
    if all(unicodedata.bidirectional(c) in _LEFT_TO_RIGHT for c in text):
        return escaped
    return f"\u2068{escaped}\u2069"  # first strong isolate, pop directional isolate


_LEFT_TO_RIGHT = {"L", "EN", "ES", "ET", "CS", "ON", "WS", "NSM", "BN", "S", "B", ""}


def plain(values: "pd.Series[Any]") -> list[float | None]:
    """Round numbers to five significant digits for JSON; missing values become None."""
    return [None if pd.isna(v) else float(f"{v:.5g}") for v in values]
