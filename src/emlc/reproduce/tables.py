"""The figures of an experiment for people (Markdown) and for programs (CSV)."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

import pandas as pd

from emlc.reproduce.paper import Published
from emlc.reproduce.plan import LESS_IS_BETTER, Measure, Part


class Value(NamedTuple):
    """A cell of a table.

    Attributes:
        ours: The seeds' values, as far as they are there.
        paper: The paper's figure, if it has one.
    """

    ours: Sequence[float]
    paper: Published | None = None


Values = Mapping[tuple[str, str], Value]
"""Row label and column label -> value."""


def cell(values: Iterable[float | None], digits: int = 1) -> str:
    """Mean ± standard deviation of what is known, or a dash."""
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{mean(known):.{digits}f}{spread}"


def hardware(summary: Mapping[str, Any]) -> str:
    """What a run was made on: device, precision, processes, threads, versions."""
    # Runs of earlier versions do not say on what machine they were made.
    machine = f"{summary['cores']} cores, {summary['machine']}; " if "cores" in summary else ""
    return (
        f"{summary['device']}, {summary['precision']}, {summary['processes']} process(es) of "
        f"{summary['threads']} thread(s), {machine}"
        f"Python {summary['versions']['python']}, torch {summary['versions']['torch'].split('+')[0]}"
    )


def tidy(measure: Measure, rows: Sequence[Part], columns: Sequence[Part], values: Values) -> pd.DataFrame:
    """One line a cell: how many seeds, their mean and standard deviation, the paper's figures."""
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
    """A table with the best of each column in bold, and the paper's figure behind ours where there is one.

    Rows of which nothing is known, neither by us nor by the paper, are left out.
    """
    rows = [r for r in rows if any(any(values[r.label, c.label]) for c in columns)]
    digits = _digits([v for r in rows for c in columns for v in values[r.label, c.label].ours])
    most = {c.label: max(len(values[r.label, c.label].ours) for r in rows) for c in columns} if rows else {}
    best = {c.label: _best(measure, c, rows, values, digits) for c in columns}
    lines = [f"| | {' | '.join(c.label for c in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        texts = []
        for column in columns:
            ours, paper = values[row.label, column.label]
            text = cell(ours, digits)
            text += f" (n = {len(ours)})" if 0 < len(ours) < most[column.label] else ""
            text = f"**{text}**" if row.label in best[column.label] else text
            texts.append(f"{text} (paper {paper})" if paper else text)
        lines.append(f"| {row.label} | {' | '.join(texts)} |")
    return f"## {measure.title}\n\n" + "\n".join(lines)


def _best(measure: Measure, column: Part, rows: Sequence[Part], values: Values, digits: int) -> set[str]:
    """The labels of the best rows with all seeds, as they are printed; none of fewer than two rows."""
    sign = -1 if measure.name in LESS_IS_BETTER else 1
    most = max((len(values[row.label, column.label].ours) for row in rows), default=0)
    means = {
        row.label: sign * round(mean(ours), digits)
        for row in rows
        if not row.ceiling and len(ours := values[row.label, column.label].ours) == most > 0
    }
    return (
        {label for label, each in means.items() if each == max(means.values())} if len(means) > 1 else set()
    )


def _digits(values: Sequence[float]) -> int:
    """Behind the point: one of per cents and seconds, three of what is around one."""
    return 1 if max(map(abs, values), default=0) >= 10 else 3
