"""The figures of an experiment as Markdown, for people, and as a data frame, for CSV files."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

import pandas as pd

from emlc.reproduce.paper import Published
from emlc.reproduce.plan import LESS_IS_BETTER, Measure, Part


class Value(NamedTuple):
    """A cell of a table.

    Attributes:
        ours: Values of the finished runs, one per seed.
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
    # Runs of earlier versions did not record the machine.
    machine = f"{summary['cores']} cores, {summary['machine']}; " if "cores" in summary else ""
    return (
        f"{summary['device']}, {summary['precision']}, {summary['processes']} process(es) of "
        f"{summary['threads']} thread(s), {machine}"
        f"Python {summary['versions']['python']}, torch {summary['versions']['torch'].split('+')[0]}"
    )


def tidy(measure: Measure, rows: Sequence[Part], columns: Sequence[Part], values: Values) -> pd.DataFrame:
    """Return one row per cell: number of seeds, their mean and standard deviation, the paper's figures."""
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
                    "mean": mean(ours) if ours else None,
                    "sd": stdev(ours) if len(ours) > 1 else None,
                    "paper_mean": paper.mean if paper else None,
                    "paper_sd": paper.sd if paper else None,
                }
            )
    return pd.DataFrame(lines)


def markdown(measure: Measure, rows: Sequence[Part], columns: Sequence[Part], values: Values) -> str:
    """Format a table with the best row of each column in bold, and the paper's figure after ours.

    Rows without any figure, ours or the paper's, are left out.
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
            text = cell(ours, digits)
            text += f" (n = {len(ours)})" if 0 < len(ours) < most[column.label] else ""
            text = f"**{text}**" if row.label in best[column.label] else text
            texts.append(f"{text} (paper {paper})" if paper else text)
        lines.append(texts)
    return f"## {measure.title}\n\n{markdown_table(['', *(c.label for c in columns)], lines)}"


def _best(measure: Measure, column: Part, rows: Sequence[Part], values: Values, digits: int) -> set[str]:
    """Return the labels of the rows with the best mean, as rounded for print, among those with all seeds.

    Of fewer than two rows none is best.
    """
    sign = -1 if measure.name in LESS_IS_BETTER else 1
    most = max((len(values[row.label, column.label].ours) for row in rows), default=0)
    means = {
        row.label: sign * round(mean(ours), digits)
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
