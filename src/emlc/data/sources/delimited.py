"""Read CSV files of any separator, encoding and compression, which are found by content and told."""

import csv
import io
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from emlc.config import DataSettings
from emlc.data.sources.decimals import with_decimal_points
from emlc.data.sources.text_files import TextFile, find_encoding, open_bytes
from emlc.errors import InputError
from emlc.runtime.files import COMPRESSED

_log = logging.getLogger(__name__)

_ENDINGS = (".csv", ".tsv", ".tab")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ROWS = 100  # that the separator is found by
_LARGEST_BLOCK = 2**31 - 1

csv.field_size_limit(_LARGEST_BLOCK)  # documents are longer than the standard library's 131,072 characters


def is_delimited(path: Path) -> bool:
    """Return whether a file's name is that of a CSV file, which may be compressed."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return name.endswith(_ENDINGS)


def read_delimited(path: Path, as_text: Sequence[str], settings: DataSettings) -> pa.Table:
    """Read a CSV file.

    Args:
        path: The file.
        as_text: Names of columns whose cells are kept as written.
        settings: Its ``separator`` and ``encoding``; by default they are found by content.

    Raises:
        InputError: If the file cannot be read; names the row (from 0) where that is known.
    """
    file, separator, text, skip = _dialect(path, as_text, settings)
    _tell(file, separator, settings)
    header = next(_rows(text, separator), [])
    table = _read(file, separator, skip, [cell for cell in header if cell.strip() in as_text])
    if file.quotes and table.num_rows + 1 + skip < file.lines:
        _check_quotes(file, separator)
    table = _without_blank_columns(_trimmed(table), path)
    return with_decimal_points(table, path, as_text) if separator != "," else table


def header_of(path: Path, settings: DataSettings) -> list[str]:
    """Return the names of the columns of a CSV file.

    Raises:
        InputError: If the file cannot be read.
    """
    _, separator, text, _ = _dialect(path, (), settings)
    return [cell.strip() for cell in next(_rows(text, separator), [])]


def _dialect(path: Path, wanted: Sequence[str], settings: DataSettings) -> tuple[TextFile, str, str, int]:
    """Find how a CSV file is written: its encoding, its separator, its first rows, and lines to skip."""
    file = find_encoding(path, settings.encoding)
    hint = re.match(r"\ufeff?sep=(.)\r?\n", file.start)  # Excel's own way to name the separator
    text = file.start[hint.end() :] if hint else file.start.removeprefix("\ufeff")
    separator = _named(settings.separator) or (hint[1] if hint else _find_separator(text, wanted))
    return file, separator, text, int(bool(hint))


def _named(separator: str | None) -> str | None:
    return "\t" if separator in ("tab", "\\t") else separator


def _find_separator(text: str, wanted: Sequence[str]) -> str:
    """Choose the separator with which the header has several cells and the rows have as many."""

    def fitness(separator: str) -> tuple[bool, bool, bool, int]:
        widths, names = [], set[str]()
        for row in _rows(text, separator):
            names = names or {cell.strip() for cell in row}
            widths.append(len(row))
        several = bool(widths) and widths[0] > 1
        return several, several and len(set(widths)) == 1, bool(names & set(wanted)), len(names)

    return max(_SEPARATORS, key=fitness)  # the first of equal ones


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    """Yield the first rows of cells of a text whose last line may break off."""
    whole = text[: text.rfind("\n") + 1] or text
    reader = csv.reader(io.StringIO(whole, newline=""), delimiter=separator)
    try:
        for _, row in zip(range(_ROWS), (row for row in reader if row), strict=False):
            yield row
    except csv.Error:  # a cell that is too long, or a quotation mark that is not closed
        return


def _tell(file: TextFile, separator: str, settings: DataSettings) -> None:
    if file.odd is not None:
        _log.warning(
            f"{file.path}: not in UTF-8; read as {file.encoding}, which gives {file.odd!r}, for example; if "
            "that is wrong, --encoding names the right one"
        )
    elif settings.encoding is None and not file.encoding.startswith("utf-8"):
        _log.info(f"{file.path}: read as {file.encoding}")
    if settings.separator is None and separator != ",":
        _log.info(f"{file.path}: cells are separated by {_SEPARATORS.get(separator, repr(separator))}")


def _check_quotes(file: TextFile, separator: str) -> None:
    """Check the cells with line breaks: those between two stray quotation marks would swallow rows.

    Raises:
        InputError: If a quotation mark is not closed, or not where a cell ends.
    """
    lines: list[str] = []
    row = -1
    with open_bytes(file.path) as binary:
        text = io.TextIOWrapper(binary, encoding=file.encoding, newline="")
        try:
            for cells in csv.reader(_remembered(text, lines), delimiter=separator):
                if len(lines) > 1:
                    list(csv.reader(lines, delimiter=separator, strict=True))
                row += bool(cells)
                lines.clear()
        except csv.Error as error:
            raise InputError(
                f"{file.path}: row {row}: a quotation mark is not closed where its cell ends ({error}); "
                "quotation marks within a cell must be doubled"
            ) from error


def _remembered(text: Iterable[str], lines: list[str]) -> Iterator[str]:
    for line in text:
        lines.append(line)
        yield line


def _read(file: TextFile, separator: str, skip: int, as_text: Sequence[str]) -> pa.Table:
    try:
        return _parse(file, separator, skip, as_text, use_threads=True)
    except pa.ArrowInvalid:
        # Types are found by the first block, and no row may be longer. Threads lose the row's number.
        try:
            return _parse(file, separator, skip, as_text, use_threads=False, block_size=file.size + 1)
        except pa.ArrowInvalid as error:
            if file.quotes:
                _check_quotes(file, separator)
            raise InputError(f"{file.path}: cannot be read: {_reason(str(error), skip)}") from error


def _parse(
    file: TextFile, separator: str, skip: int, as_text: Sequence[str], block_size: int = 0, **options: Any
) -> pa.Table:
    encoding = "utf-8" if file.encoding == "utf-8-sig" else file.encoding
    read = pyarrow.csv.ReadOptions(skip_rows=skip, encoding=encoding, **options)
    if block_size:
        read.block_size = min(max(block_size, read.block_size), _LARGEST_BLOCK)
    parse = pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=file.quotes > 0)
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(as_text, pa.string()))
    with open_bytes(file.path) as binary:
        return pyarrow.csv.read_csv(binary, read_options=read, parse_options=parse, convert_options=convert)


def _reason(error: str, skip: int) -> str:
    """Return Arrow's reason, with rows counted from 0 after the header."""
    ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", error, re.DOTALL)
    if ragged is None:
        return error
    row, expected, found, text = ragged.groups()
    return (
        f"row {int(row) - 2 - skip}: expected {expected} cells, found {found}: {text.strip()!r:.80}; cells "
        "that hold the separator must be in quotation marks, and --separator names another separator"
    )


def _trimmed(table: pa.Table) -> pa.Table:
    """Remove spaces around the names of columns, and before cells if each separator is followed by one."""
    names = table.column_names
    stripped = [name.strip() for name in names]
    if len(names) > 1 and all(name.startswith(" ") for name in names[1:]):
        columns = [
            pc.utf8_trim_whitespace(column) if pa.types.is_string(column.type) else column
            for column in table.columns
        ]
        table = pa.Table.from_arrays(columns, names=names)
    return table.rename_columns(stripped) if len({*stripped}) == len({*names}) else table


def _without_blank_columns(table: pa.Table, path: Path) -> pa.Table:
    """Leave out columns without a name and without content, as spreadsheets write them beside the table."""
    blank = [
        k
        for k, name in enumerate(table.column_names)
        if not name and (column := table.column(k)).null_count + _empty(column) == len(column)
    ]
    if len(blank) < 2 or len(table) == 0:
        return table
    _log.info(f"{path}: left out {len(blank)} columns without a name or content")
    return table.select([k for k in range(table.num_columns) if k not in blank])


def _empty(column: pa.ChunkedArray) -> int:
    if not pa.types.is_string(column.type):
        return 0
    return int(pc.sum(pc.equal(pc.utf8_trim_whitespace(column), "")).as_py() or 0)
