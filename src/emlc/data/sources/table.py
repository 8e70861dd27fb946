"""A table on disk, whose columns are read on demand."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emlc.data.sources.columns import missing_column
from emlc.errors import InputError

UNREADABLE = (OSError, pa.ArrowException)
"""Errors that a damaged file raises."""


@dataclass(frozen=True)
class Table:
    """A table, whose columns are read on demand.

    Attributes:
        name: Name for messages.
        files: The files on disk.
        dataset: Their rows, or some of them.
        integer_names: By column, the class names that the files have for its integers.
        first_row: Number of the first row in the files.
    """

    name: str
    files: Sequence[Path]
    dataset: pads.Dataset
    integer_names: Mapping[str, tuple[str, ...]]
    first_row: int = 0

    @property
    def folder(self) -> Path:
        """The folder of the first file."""
        return self.files[0].parent

    @property
    def folders(self) -> list[Path]:
        """The folders that the files lie in, each once."""
        return list(dict.fromkeys(file.parent for file in self.files))

    @property
    def columns(self) -> list[str]:
        return list(self.dataset.schema.names)

    def type_of(self, column: str) -> pa.DataType:
        return self.dataset.schema.field(column).type

    def column(self, name: str) -> "pd.Series[Any]":
        """Return all values of a column, (n,)."""
        column = self._read(self.dataset.to_table, columns=[name])[name]
        # Integers beside missing values would become floats, and be rounded.
        values: pd.Series[Any] = column.to_pandas(integer_object_nulls=True)
        return values

    def texts(self, name: str) -> pa.Array:
        """Return all values of a column of text, (n,), as Arrow's strings."""
        values = self._read(self.dataset.to_table, columns=[name])[name]
        return values.cast(pa.large_string()).combine_chunks()

    def paths(self, name: str) -> pa.Array:
        """Return the paths in a column of text, (n,), relative to :attr:`folder` or absolute.

        In the files, paths are relative to the folder of their own file. Where the files lie in several
        folders, the paths returned are absolute. The rows must be all those of the files.
        """
        texts = self.texts(name)
        if len(self.folders) == 1:
            return texts
        parts, start = [], 0
        for file in self.files:
            folder, size = os.path.abspath(file.parent), self._size(file)
            values = texts.slice(start, size).to_pylist()
            joined = [os.path.join(folder, path) if path else path for path in values]
            parts.append(pa.array(joined, pa.large_string()))
            start += size
        return pa.concat_arrays(parts)

    def _size(self, file: Path) -> int:
        try:
            return int(pq.read_metadata(file).num_rows)
        except UNREADABLE as error:
            raise InputError(f"{file}: cannot be read: {error}") from error

    def rows(self, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Return the values of some columns in some rows, in their order.

        Raises:
            InputError: If a column is missing.
        """
        for column in columns:
            if column not in self.columns:
                raise missing_column([column], "feature_columns", self.columns, self.name)
        return self._read(self.dataset.take, indices=pa.array(rows), columns=list(columns))

    def _read(self, read: Any, **arguments: Any) -> pa.Table:
        try:
            # Not with pandas' metadata, which may be damaged and say nothing that is needed here.
            return read(**arguments).replace_schema_metadata(None)
        except UNREADABLE as error:
            raise InputError(f"{self.name}: cannot be read: {error}") from error
