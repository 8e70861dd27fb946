"""The figures of an experiment as Markdown, for people, and as a data frame, for CSV files."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from emlc.reproduce.paper import Published
from emlc.reproduce.plan import LESS_IS_BETTER, Measure, Part


class Value(NamedTuple):
    """A cell of a table.

    Attributes:
        ours: Values of the finished runs, one per seed; of timings one per round.
        paper: The paper's figure, if it prints one.
    """

    ours: Sequence[float]
    paper: Published | None = None


Values = Mapping[tuple[str, str], Value]
"""Row label and column label -> value."""


def cell(values: Iterable[float | None], digits: int = 1) -> str:
    """Format mean ± standard deviation of the values that are not None, or a dash if there are none."""
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{mean(known):.{digits}f}{spread}"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    lower, middle, upper = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return lower, middle, upper


def _timing_cell(values: Sequence[float], digits: int) -> str:
    """Format the median and the quartiles, or a dash if there are no values."""
    if not values:
        return "-"
    lower, middle, upper = quartiles(values)
    spread = f" ({lower:.{digits}f} to {upper:.{digits}f})" if len(values) > 1 else ""
    return f"{middle:.{digits}f}{spread}"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table in Markdown, without a newline at its end.

    Args:
        headings: Of the columns.
        rows: As many cells in each.
    """
    return "\n".join([_line(headings), "|---" * len(headings) + "|", *map(_line, rows)])


def _line(cells: Iterable[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def hardware(summary: Mapping[str, Any]) -> str:
    """Describe what a run was made on: device, precision, processes, threads, versions."""
    return (
        f"{summary['device']}, {summary['precision']}, {summary['processes']} process(es) of "
        f"{summary['threads']} thread(s), {summary['cores']} cores, {summary['machine']}; "
        f"Python {summary['versions']['python']}, torch {summary['versions']['torch'].split('+')[0]}"
    )


def tidy(measure: Measure, rows: Sequence[Part], columns: Sequence[Part], values: Values) -> pd.DataFrame:
    """Return one row per cell: number of values, their mean and standard deviation, the paper's figures.

    Timings have median and quartiles in place of mean and standard deviation.
    """
    summarised = _quartiles_by_name if measure.of_rounds else _moments_by_name
    lines = []
    for row in rows:
        for column in columns:
            ours, paper = values[row.label, column.label]
            lines.append(
                {
                    "measure": measure.name,
                    "row": row.label,
                    "column": column.label,
                    "n": len(ours),
                    **summarised(ours),
                    "paper_mean": paper.mean if paper else None,
                    "paper_sd": paper.sd if paper else None,
                }
            )
    return pd.DataFrame(lines)


def _moments_by_name(values: Sequence[float]) -> dict[str, float | None]:
    return {
        "mean": mean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else None,
    }


def _quartiles_by_name(values: Sequence[float]) -> dict[str, float | None]:
    lower, middle, upper = quartiles(values) if values else (None, None, None)
    return {"median": middle, "lower_quartile": lower, "upper_quartile": upper}


def markdown(
    measure: Measure, rows: Sequence[Part], columns: Sequence[Part], values: Values, seeds: int = 0
) -> str:
    """Format a table with the best row of each column in bold, and the paper's figure after ours.

    Rows without any figure, ours or the paper's, are left out. Of cells with fewer values than the longest of
    the column, or than ``seeds`` or the row's own seeds, the number is told.
    """
    rows = [r for r in rows if any(any(values[r.label, c.label]) for c in columns)]
    digits = _digits([v for r in rows for c in columns for v in values[r.label, c.label].ours])
    most = {c.label: max(len(values[r.label, c.label].ours) for r in rows) for c in columns} if rows else {}
    best = {c.label: _best(measure, c, rows, values, digits) for c in columns}
    lines = []
    for row in rows:
        texts = [row.label]
        for column in columns:
            ours, paper = values[row.label, column.label]
            text = _timing_cell(ours, digits) if measure.of_rounds else cell(ours, digits)
            planned = max(most[column.label], seeds if row.seeds is None else len(row.seeds))
            text += f" (n = {len(ours)})" if 0 < len(ours) < planned else ""
            text = f"**{text}**" if row.label in best[column.label] else text
            texts.append(f"{text} (paper {paper})" if paper else text)
        lines.append(texts)
    return f"## {measure.title}\n\n{markdown_table(['', *(c.label for c in columns)], lines)}"


def _best(measure: Measure, column: Part, rows: Sequence[Part], values: Values, digits: int) -> set[str]:
    """Return the labels of the rows with the best mean, as rounded for print, among those with all seeds.

    Of timings it is the best median. Of fewer than two rows none is best.
    """
    if not measure.ranked:
        return set()
    sign = -1 if measure.name in LESS_IS_BETTER else 1
    most = max((len(values[row.label, column.label].ours) for row in rows), default=0)
    centre = median if measure.of_rounds else mean
    means = {
        row.label: sign * round(centre(ours), digits)
        for row in rows
        if not row.ceiling and 0 < len(ours := values[row.label, column.label].ours) == _all_seeds(row, most)
    }
    return (
        {label for label, each in means.items() if each == max(means.values())} if len(means) > 1 else set()
    )


def _all_seeds(row: Part, most: int) -> int:
    """Return how many seeds a row has when it is complete, if the longest of the table has ``most``."""
    return most if row.seeds is None else min(most, len(row.seeds))


def _digits(values: Sequence[float]) -> int:
    """Return the number of decimals: one for values of 10 or more, such as per cents, else three."""
    return 1 if max(map(abs, values), default=0) >= 10 else 3
