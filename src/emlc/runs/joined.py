"""Parts of tables, which are written by themselves, and joined in their order."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emlc.errors import InputError
from emlc.runs.parts import Parts
from emlc.runtime.files import atomic_write, to_csv


def write_csv_part(path: Path, table: pd.DataFrame) -> None:
    """Write rows of a table as CSV, without the names of the columns, which the joined table gets."""
    with atomic_write(path) as temporary:
        to_csv(table, temporary, header=False)


def join_csv(parts: Parts, temporary: Path, columns: Sequence[str]) -> None:
    """Write one CSV file of the rows of all parts."""
    to_csv(pd.DataFrame(columns=list(columns)), temporary)
    with temporary.open("ab") as joined:
        for path in parts.files(".csv"):
            with path.open("rb") as part:
                shutil.copyfileobj(part, joined, 2**20)


def join_parquet(parts: Parts, temporary: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """Write one parquet file of the row groups of all parts, and yield these as they are in the parts.

    Args:
        parts: The parts, which may have further columns.
        temporary: The file to write.
        schema: The columns to write; a part that lacks one has nulls in its place.
    """
    with pq.ParquetWriter(temporary, schema) as joined:
        for path in parts.files(".parquet"):
            for table in _row_groups(path):
                joined.write_table(_with_columns(table, schema))
                yield table


def longest_schema(parts: Parts) -> pa.Schema:
    """Return the schema of the part with the most columns."""
    return max((pq.read_schema(path) for path in parts.files(".parquet")), key=len)


def _row_groups(path: Path) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path) as part:
            for group in range(part.num_row_groups):
                yield part.read_row_group(group)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: cannot be read: {error}; delete its folder, and give the command again"
        ) from error


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
