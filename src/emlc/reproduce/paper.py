"""The figures that the paper prints, for comparison with ours."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Published(NamedTuple):
    """A figure of the paper, and its standard deviation if it is printed."""

    mean: float
    sd: float | None = None

    def __str__(self) -> str:
        return f"{self.mean:g}" + (f" ± {self.sd:g}" if self.sd is not None else "")


def published(table: str | None, row: str | None, column: str | None) -> Published | None:
    """Return the figure that the paper prints in a cell of one of its tables, or None."""
    if table is None or row is None or column is None:
        return None
    contents = _tables()[table]
    if column not in contents["columns"]:
        return None
    figures = contents["rows"].get(row)
    value = figures[contents["columns"].index(column)] if figures else None
    if value is None:
        return None
    return Published(*value) if isinstance(value, list) else Published(value)


@cache
def _tables() -> dict[str, dict[str, Any]]:
    text = Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8")
    tables: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return tables
