"""Read rows of parquet files block by block, in bounded memory however large the row groups are."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emlc.errors import InputError

_BUFFER = 2**16  # bytes read at a time of each column within a row group, which may be larger than memory
_BATCH = 4096  # rows


class RowBlocks:
    """The rows of parquet files, numbered consecutively.

    Blocks are fast in order. For one in the middle of a row group, the rows above it are read, too.

    Args:
        files: The files.
        schema: The columns to read; a file that lacks one has nulls in its place.
        where: Name of the files, for messages.
    """

    def __init__(self, files: Sequence[Path], schema: pa.Schema, where: str) -> None:
        self._files, self._schema, self._where = files, schema, where
        self._sizes = [[group.num_rows for group in _groups(file, where)] for file in files]
        self._starts = np.cumsum([0, *(size for sizes in self._sizes for size in sizes)])
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._next = len(self)  # the row that the next batch begins with
        self._rest: pa.Table | None = None  # rows before that one, which no block has had yet

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> pa.Table:
        """Return the rows from ``start`` to before ``stop``.

        Raises:
            InputError: If they cannot be read.
        """
        try:
            self._seek(start)
            pieces = [self._take(0)]
            while (missing := stop - start - sum(map(len, pieces))) > 0:
                pieces.append(self._take(missing))
            return pa.concat_tables(pieces)
        except (OSError, pa.ArrowException, StopIteration) as error:
            raise InputError(f"{self._where}: cannot be read: {error}") from error

    def _seek(self, row: int) -> None:
        """Go to a row: onwards, if it is in the row group at hand, else from the start of its own."""
        at = self._next - (0 if self._rest is None else len(self._rest))
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if row < at or self._starts[group] > at:
            self._batches, self._rest = self._from(group), None
            self._next = at = int(self._starts[group])
        while at < row:
            at += len(self._take(row - at))

    def _take(self, most: int) -> pa.Table:
        """Return the next rows, of one batch."""
        if self._rest is None or len(self._rest) == 0:
            if most == 0:
                return self._schema.empty_table()
            batch = next(self._batches)
            self._next += len(batch)
            self._rest = _as(pa.Table.from_batches([batch]), self._schema)
        taken, self._rest = self._rest.slice(0, most), self._rest.slice(most)
        return taken

    def _from(self, group: int) -> Iterator[pa.RecordBatch]:
        for file, sizes in zip(self._files, self._sizes, strict=True):
            groups = list(range(len(sizes)))[group:] if group > 0 else list(range(len(sizes)))
            group -= len(sizes)
            if not groups:
                continue
            with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as parquet:
                there = [name for name in self._schema.names if name in parquet.schema_arrow.names]
                yield from parquet.iter_batches(_BATCH, row_groups=groups, columns=there, use_threads=False)


def _groups(file: Path, where: str) -> Iterator[pq.RowGroupMetaData]:
    try:
        metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{where}: cannot be read: {error}") from error
    return (metadata.row_group(k) for k in range(metadata.num_row_groups))


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
