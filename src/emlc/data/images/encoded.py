"""The encoded images of a source, in files or in rows of parquet files, which are read on demand."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emlc.data.images.decode import EncodedImage
from emlc.errors import InputError

_BUFFER = 2**20  # bytes read at a time within a row group, which may be larger than memory
_BATCH = 32  # rows read at a time; with fewer, reaching a row in the middle of a group takes too many steps

_UNUSUAL_PATH = r"(^|/)\.{1,2}(/|$)|//|/$|^$|[\\:]"  # normpath may change it; on Windows, it may be absolute

EncodedBlock = tuple[NDArray[np.int64], list[EncodedImage]]


class EncodedImages(ABC):
    """All images of a source, still encoded, and numbered from 0. Light enough to send to other processes.

    Attributes:
        where: File or folder, for messages.
        way_out: What a message advises where images cannot be read.
    """

    way_out = "--skip_unreadable leaves them out"

    def __init__(self, where: str) -> None:
        self.where = where

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def fetch(self, rows: NDArray[np.int64], block: int) -> Iterator[EncodedBlock]:
        """Yield the images of rows (m,), in whichever order is fastest.

        Yields:
            Positions in ``rows``, (b,) int64 with b about ``block``, and the images there.
        """

    @abstractmethod
    def name(self, row: int, image: EncodedImage) -> str:
        """Return the name of an image for messages."""

    @abstractmethod
    def identities(self, rows: NDArray[np.int64]) -> pa.Array:
        """Return (m,) texts that identify the images of rows (m,) among all images on this machine."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of the names of the images, in order; their content does not enter it."""


class ImageFiles(EncodedImages):
    """Images that are files of their own.

    Args:
        where: File or folder, for messages.
        folder: What the paths are relative to.
        paths: (n,) paths, null or empty where there is no image. Arrow's strings take a third of the
            memory of Python's, and are not copied by the processes that only read them.
        in_table: Whether the paths come from a table, so that messages give the number of the row.
    """

    def __init__(self, where: str, folder: Path, paths: pa.Array, *, in_table: bool = False) -> None:
        super().__init__(where)
        self._folder = folder
        self._paths = paths
        self._in_table = in_table

    def __len__(self) -> int:
        return len(self._paths)

    def fetch(self, rows: NDArray[np.int64], block: int) -> Iterator[EncodedBlock]:
        for start in range(0, len(rows), block):
            paths = self._paths_of(rows[start : start + block])
            images: list[EncodedImage] = [self._folder / path if path else None for path in paths]
            yield np.arange(start, start + len(images)), images

    def name(self, row: int, image: EncodedImage) -> str:
        return _row_name(row, image) if self._in_table else str(self._paths[row])

    def identities(self, rows: NDArray[np.int64]) -> pa.Array:
        folder = os.path.abspath(self._folder)
        paths = self._paths.take(pa.array(rows)).fill_null("")
        start, slash = (pa.scalar(text, pa.large_string()) for text in (folder, "/"))
        joined = pc.binary_join_element_wise(start, paths, slash)
        identities = pc.if_else(pc.starts_with(paths, "/"), paths, joined)
        # Two ways to write one path must not hide that two sets share an image.
        unusual = pc.match_substring_regex(paths, _UNUSUAL_PATH)
        normal = [
            os.path.normpath(os.path.join(folder, path)) if path else f"{self.where}:{row}"
            for path, row in zip(paths.filter(unusual).to_pylist(), rows[np.asarray(unusual)], strict=True)
        ]
        return pc.replace_with_mask(identities, unusual, pa.array(normal, pa.large_string()))

    def fingerprint(self) -> str:
        return _hash([os.path.abspath(self._folder), *(path or "" for path in self._paths.to_pylist())])

    def _paths_of(self, rows: NDArray[np.int64]) -> list[str | None]:
        paths: list[str | None] = self._paths.take(pa.array(rows)).to_pylist()
        return paths


class ParquetImages(EncodedImages):
    """Images embedded in a column of parquet files, as bytes or as Hugging Face's structs.

    Parquet is read by row groups. That is fast in order, but reading a single row takes as long as reading
    its whole group, though not as much memory.

    Args:
        where: File or folder, for messages.
        files: The files; their rows are numbered consecutively.
        column: Name of the column.
    """

    def __init__(self, where: str, files: Sequence[Path], column: str) -> None:
        super().__init__(where)
        self._files = list(files)
        self._column = column
        metadata = [pq.read_metadata(file) for file in self._files]
        self._groups = [
            (file, group) for file, of_file in enumerate(metadata) for group in range(of_file.num_row_groups)
        ]
        sizes = [metadata[file].row_group(group).num_rows for file, group in self._groups]
        self._starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def fetch(self, rows: NDArray[np.int64], block: int) -> Iterator[EncodedBlock]:
        order = np.argsort(rows, kind="stable")
        group_of = np.searchsorted(self._starts, rows[order], side="right") - 1
        for group in np.unique(group_of):
            positions = order[group_of == group]
            inside = rows[positions] - self._starts[group]
            done = 0
            try:
                for images in self._fetch_from(int(group), inside, block):
                    yield positions[done : done + len(images)], images
                    done += len(images)
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"{self.where}: cannot be read: {error}") from error

    def _fetch_from(self, group: int, rows: NDArray[np.int64], block: int) -> Iterator[list[EncodedImage]]:
        """Yield the images of sorted rows of a row group."""
        file, group_of_file = self._groups[group]
        folder = self._files[file].parent
        start = done = 0
        with pq.ParquetFile(self._files[file], buffer_size=_BUFFER) as parquet:
            batches = parquet.iter_batches(
                max(block, _BATCH),
                row_groups=[group_of_file],
                columns=[self._column],
                use_threads=False,  # Arrow's threads do not survive the fork that starts a loading process
            )
            for batch in batches:
                stop = int(np.searchsorted(rows, start + len(batch)))
                if stop > done:
                    cells = batch.column(0).take(pa.array(rows[done:stop] - start)).to_pylist()
                    yield [_image_in(cell, folder) for cell in cells]
                if stop == len(rows):
                    return
                start, done = start + len(batch), stop

    def name(self, row: int, image: EncodedImage) -> str:
        return _row_name(row, image)

    def identities(self, rows: NDArray[np.int64]) -> pa.Array:
        group_of = np.searchsorted(self._starts, rows, side="right") - 1
        groups = [f"{os.path.abspath(self._files[file])}:{group}" for file, group in self._groups]
        within = (rows - self._starts[group_of]).tolist()
        identities = [f"{groups[group]}:{row}" for group, row in zip(group_of, within, strict=True)]
        return pa.array(identities, pa.large_string())

    def fingerprint(self) -> str:
        files = [f"{os.path.abspath(file)}:{file.stat().st_size}" for file in self._files]
        return _hash([*files, self._column])


def _image_in(cell: object, folder: Path) -> EncodedImage:
    """Return the image in a cell: a file's content, a path relative to ``folder``, or a struct of both."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    return folder / cell if isinstance(cell, str) and cell else cell if isinstance(cell, bytes) else None


def _row_name(row: int, image: EncodedImage) -> str:
    return f"row {row} ({image})" if isinstance(image, Path) else f"row {row}"


def _hash(texts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
