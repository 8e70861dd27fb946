"""A table on disk, whose columns are read on demand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
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
        return self.files[0].parent

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
