"""Describe in one line how columns become features."""

from collections.abc import Iterator, Sequence

from emlc.data.columns.encoding import CategoryColumn, Column, NumberColumn, VectorColumn

_MOST_NAMED = 20
"""Maximum number of columns of a kind that are named; of more, the first ones and their number."""


def describe_columns(columns: Sequence[Column]) -> str:
    """Describe in one line how columns become features: their names by kind, with what is special."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        groups.setdefault(_kind(column), []).append(_named(column))
    if groups.keys() == {"numbers"}:
        return _listed(groups["numbers"])
    return "; ".join(f"{kind} {_listed(names)}" for kind, names in groups.items())


def _kind(column: Column) -> str:
    if isinstance(column, CategoryColumn):
        return "categories"
    if isinstance(column, VectorColumn):
        return "vectors"
    return "times" if isinstance(column, NumberColumn) and column.format is not None else "numbers"


def _named(column: Column) -> str:
    remarks = ", ".join(_remarks(column))
    return f"{column.name} ({remarks})" if remarks else column.name


def _remarks(column: Column) -> Iterator[str]:
    if isinstance(column, CategoryColumn):
        others = f" and {len(column.others)} rare" if column.others else ""
        yield f"{len(column.levels)}{others}"
    if isinstance(column, VectorColumn):
        yield str(len(column.fill))
    if isinstance(column, NumberColumn) and column.power is not None:
        yield "skewed: also transformed"
    if isinstance(column, NumberColumn) and column.format not in (None, "ISO8601"):
        yield f"as {column.format}"
    if column.missing:
        yield f"{column.missing:,} missing"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return shown if len(names) <= _MOST_NAMED else f"{shown} ... ({len(names)} in all)"
