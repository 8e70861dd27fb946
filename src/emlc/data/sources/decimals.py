"""Read numbers with decimal commas, as spreadsheets write them where cells are separated by semicolons."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from emlc.data.classes import shorten

_log = logging.getLogger(__name__)

_NUMBER = r"^\s*[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?\s*$"
_WITH_COMMA = r"^\s*[+-]?[\d.]+,\d"
_MISSING = ["", "?", "-", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"]


def with_decimal_points(table: pa.Table, path: Path, as_text: Sequence[str]) -> pa.Table:
    """Return a table whose columns of numbers with decimal commas have points; in others nothing changes.

    Points between thousands are removed. Missing values such as ``?`` stay as they are.
    """
    found, fields = [], []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name not in as_text and pa.types.is_string(column.type) and _has_decimal_commas(column):
            found.append(name)
            column = _converted(column)
        fields.append(column)
    if not found:
        return table
    _log.info(f"{path}: read decimal commas in: {shorten(found)}")
    doubtful = [
        name
        for name, column in zip(table.column_names, table.columns, strict=True)
        if pa.types.is_floating(column.type)
    ]
    if doubtful:
        _log.warning(f"{path}: other columns have decimal points, and are read so: {shorten(doubtful)}")
    return pa.Table.from_arrays(fields, names=table.column_names)


def _has_decimal_commas(column: pa.ChunkedArray) -> bool:
    values = column.filter(_present(column))
    return bool(
        len(values)
        and pc.all(pc.match_substring_regex(values, _NUMBER)).as_py()
        and pc.any(pc.match_substring_regex(values, _WITH_COMMA)).as_py()
    )


def _present(column: pa.ChunkedArray) -> pa.ChunkedArray:
    missing = pc.is_in(pc.utf8_trim_whitespace(column), pa.array(_MISSING))
    return pc.and_(pc.invert(missing), pc.is_valid(column))


def _converted(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = pc.replace_substring(pc.replace_substring(pc.utf8_trim_whitespace(column), ".", ""), ",", ".")
    if pc.all(_present(text)).as_py():
        return text.cast(pa.float64())
    return text
