"""Rows of parquet files, and of .npz files that are not compressed, read some at a time."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from emlc.config import NAMED_SOURCES, DataSettings
from emlc.data.npz import check_sums, map_npz
from emlc.data.samples import Samples
from emlc.data.sources.arrays import NamedArrays
from emlc.data.sources.class_names import hugging_face_names
from emlc.data.sources.clothing1m import is_clothing1m
from emlc.data.sources.read import new_schema
from emlc.data.sources.row_blocks import RowBlocks
from emlc.data.sources.source import Role, Schema, Source
from emlc.data.sources.tables import open_dataset, open_rows, parquet_files, table_columns
from emlc.errors import NoSamplesError

_LOOKED_AT = 2**16
"""Number of rows whose ids and labels are looked at at a time."""

Annotated = tuple[ArrayLike | None, list[ArrayLike]]
"""Ids of some rows, if they have any, and their columns of labels."""


class Portions(ABC):
    """The samples of a source, some at a time.

    Attributes:
        rows: Number of its rows; some may be left out.
    """

    rows: int

    @abstractmethod
    def read(self, start: int, stop: int) -> Samples | None:
        """Read the samples of the rows from ``start`` to before ``stop``; None if all are left out.

        Raises:
            InputError: If a value is wrong.
        """

    @abstractmethod
    def identity(self) -> list[Any]:
        """Return plain values that change when the source does: of its files path, size and time."""


class RowsOnDisk(Portions):
    """Rows on disk that can be read without the others."""

    def __init__(self, settings: DataSettings, files: Sequence[Path]) -> None:
        self._settings, self._files = settings, files

    def identity(self) -> list[Any]:
        return [self.rows, *map(stated, self._files)]

    def read(self, start: int, stop: int) -> Samples | None:
        try:
            source = self._open(start, stop)
        except NoSamplesError:
            return None
        return take_or_none(source, source.rows_in_use, self._settings)

    @abstractmethod
    def _open(self, start: int, stop: int) -> Source:
        """Open some rows."""

    @abstractmethod
    def annotated(self, start: int, stop: int) -> Iterator[Annotated]:
        """Yield the ids and labels of some rows, block by block."""

    def check_file(self) -> None:
        """Compare what is on disk with its checksums, where the reader does not."""


class _ParquetRows(RowsOnDisk):
    def __init__(
        self, files: Sequence[Path], name: str, settings: DataSettings, role: Role, schema: Schema
    ) -> None:
        super().__init__(settings, files)
        types = open_dataset(files, settings, schema).schema
        self._columns = table_columns(types.names, settings, role, name)
        texts = schema.text_column or settings.text_column
        inputs = [*schema.feature_columns] or [name for name in (texts,) if name is not None]
        self._about = [name for name in self._columns.names() if name != self._columns.trusted]
        needed = dict.fromkeys([*self._columns.names(), *inputs])
        self.is_complete = bool(inputs) and set(inputs) <= set(types.names)
        chosen = [name for name in needed if name in types.names]
        self._blocks = RowBlocks(files, _only(types, chosen), name)
        self._annotations = RowBlocks(files, _only(types, self._about), name)
        self._opening = (files, name, settings, role, schema, hugging_face_names(files))
        self.rows = len(self._blocks)

    def _open(self, start: int, stop: int) -> Source:
        return open_rows(self._blocks.read(start, stop), start, *self._opening)

    def annotated(self, start: int, stop: int) -> Iterator[Annotated]:
        for first in range(start, stop if self._about else start, _LOOKED_AT):
            table = self._annotations.read(first, min(first + _LOOKED_AT, stop))
            values = {name: table[name].to_pandas(integer_object_nulls=True) for name in self._about}
            labels = [values[name] for name in self._about if name != self._columns.id]
            yield None if self._columns.id is None else values[self._columns.id], labels


class _ArrayRows(RowsOnDisk):
    def __init__(self, path: Path, arrays: NamedArrays) -> None:
        super().__init__(arrays.settings, [path])
        self._path, self._arrays = path, arrays
        self.rows = len(arrays.arrays[arrays.inputs])

    def _open(self, start: int, stop: int) -> Source:
        return self._arrays.open(slice(start, stop))

    def annotated(self, start: int, stop: int) -> Iterator[Annotated]:
        columns, arrays = self._arrays.columns, self._arrays.arrays
        names = [name for name in (columns.label, columns.true_label) if name is not None]
        for first in range(start, stop, _LOOKED_AT):
            rows = slice(first, min(first + _LOOKED_AT, stop))
            ids = None if columns.id is None else arrays[columns.id][rows]
            yield ids, [arrays[name][rows] for name in names]

    def check_file(self) -> None:
        check_sums(self._path)


def files_of(source: str, role: Role) -> list[Path]:
    """Return the parquet files, or the file, that a source is; none for other kinds of sources."""
    if source in NAMED_SOURCES or is_clothing1m(Path(source)):
        return []
    return parquet_files(source, role) or [path for path in (Path(source),) if path.is_file()]


def rows_on_disk(source: str, settings: DataSettings, role: Role, schema: Schema | None) -> RowsOnDisk | None:
    """Return the rows of a source that can be read in blocks, or None."""
    files, path = files_of(source, role), Path(source)
    known = schema or new_schema(settings)
    if files and files[0].suffix.lower() == ".parquet":
        rows = _ParquetRows(files, source, settings, role, known)
        return rows if rows.is_complete and rows.rows else None
    if files and path.suffix.lower() == ".npz" and not (known.text_column or settings.text_column):
        mapped = map_npz(path)
        arrays = None if mapped is None else NamedArrays.find(mapped, path, settings, role, known)
        return _ArrayRows(path, arrays) if arrays is not None and _is_table(arrays) else None
    return None


def _is_table(named: NamedArrays) -> bool:
    """Return whether the inputs are rows of features, and the ids and labels are as many."""
    inputs = named.arrays[named.inputs]
    names = [name for name in vars(named.columns).values() if name is not None]
    return (
        inputs.ndim == 2
        and len(inputs) > 0
        and all(named.arrays[name].shape == (len(inputs),) for name in names)
    )


def take_or_none(source: Source, rows: NDArray[np.int64], settings: DataSettings) -> Samples | None:
    """Read the samples of rows (m,) of a source; return None if none of them are left."""
    try:
        return source.take(rows, settings)
    except NoSamplesError:
        return None


def stated(path: Path) -> list[Any]:
    """Return the path, the size and the time of a file, or the path alone if it is not there."""
    try:
        facts = path.stat()
    except OSError:
        return [os.path.abspath(path)]
    return [os.path.abspath(path), facts.st_size, facts.st_mtime_ns]


def _only(types: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return the fields of a schema that have these names, without metadata."""
    return pa.schema([types.field(name) for name in names])
