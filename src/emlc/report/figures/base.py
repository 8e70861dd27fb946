"""What all figures have in common: their form, and how they show text.

Colours of text, grid and background are the page's, which knows whether it is light or dark.
"""

import html
import unicodedata
from dataclasses import dataclass
from typing import Any

import pandas as pd

NAME_LENGTH = 22
"""Characters of a class name on an axis."""


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


def plain(values: "pd.Series[Any]") -> list[float | None]:
    """Numbers for JSON, to five significant digits; None where there is none."""
    return [None if pd.isna(v) else float(f"{v:.5g}") for v in values]
