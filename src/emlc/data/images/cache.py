"""A file of decoded pixels, written once, from which training then reads its images."""

import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from emlc.data.images.decode import ImageFormat
from emlc.data.images.decode_many import DecodedBlock, decode_all
from emlc.data.images.encoded import EncodedImages
from emlc.errors import InputError
from emlc.runtime.files import write_json

_log = logging.getLogger(__name__)

_VERSION = 1  # of the files' layout; another layout makes files of another name
_COMMIT_BYTES = 64 * 2**20  # at most so many bytes of pixels are decoded again after a kill


class ImageCache:
    """The decoded images of one source, in one format, in three files of a folder.

    ``NAME.pixels`` has a place for every image of the source, and takes disk space for those that were
    needed so far. ``NAME.done`` has one byte per image, 1 once its pixels are on the disk, so that an
    interrupted write goes on where it stopped. ``NAME.json`` describes the source: the paths of the images,
    their order, and the format. NAME is a hash of this description, so that another list or size makes other
    files. The images themselves are not read again: after changing them in place, delete the folder.

    Args:
        folder: Folder of the files, created together with them.
        images: All images of the source.
        form: Format that they are decoded to.

    Raises:
        InputError: If the files are not what ``NAME.json`` says.
    """

    def __init__(self, folder: Path, images: EncodedImages, form: ImageFormat) -> None:
        self._images = images
        self._form = form
        description = asdict(form) | {
            "version": _VERSION,
            "images": len(images),
            "fingerprint": images.fingerprint(),
        }
        self._description: dict[str, Any] = json.loads(json.dumps(description))
        name = blake2b(json.dumps(description).encode(), digest_size=12).hexdigest()
        self._pixels, self._done, self._json, self._lock = (
            folder / f"{name}.{ending}" for ending in ("pixels", "done", "json", "lock")
        )
        if self._json.exists():
            self._check()

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the pixels of rows (m,), which must be in the cache: (m, channels, height, width) uint8.

        Raises:
            InputError: If the file has become shorter.
        """
        pixels = np.empty((len(rows), *self._form.shape), dtype=np.uint8)
        # Not memory-mapped: that takes twice the time, and cannot be sent to a loading process.
        with self._pixels.open("rb") as file:
            for row, image in zip(rows.tolist(), pixels, strict=True):
                file.seek(row * image.nbytes)
                if file.readinto(image.data) < image.nbytes:
                    raise InputError(f"image_cache: {self._pixels} has become shorter; delete it")
        return pixels

    def fill(self, rows: NDArray[np.int64]) -> dict[int, str]:
        """Write the images of rows (m,) that are not in the cache yet; a second process waits for the first.

        Returns:
            For each image that cannot be decoded, by position in ``rows``, its name and the reason. Such
            images are tried again each time.

        Raises:
            InputError: If the disk has no room.
        """
        if len(self._missing(rows)) == 0:
            return {}
        self._pixels.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock):
            if not self._json.exists():
                self._create()
            missing = self._missing(rows)
            self._check_disk_space(len(missing))
            blocks = decode_all(self._images, rows[missing], self._form, "Writing decoded images")
            failures = self._write(blocks, rows[missing])
        return {int(missing[position]): failure for position, failure in failures.items()}

    def _missing(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions in ``rows`` of the images that are not in the cache."""
        if not self._json.exists():
            return np.arange(len(rows))
        return np.flatnonzero(np.fromfile(self._done, np.uint8)[rows] == 0)

    def _create(self) -> None:
        with self._pixels.open("wb") as file:
            file.truncate(len(self._images) * prod(self._form.shape))
        # Zeros are written: a memory map of a sparse file would kill the process when the disk is full.
        self._done.write_bytes(bytes(len(self._images)))
        write_json(self._json, self._description | {"source": self._images.where})

    def _check(self) -> None:
        expected = {
            self._pixels: len(self._images) * prod(self._form.shape),
            self._done: len(self._images),
        }
        try:
            saved = json.loads(self._json.read_text(encoding="utf-8"))
            intact = all(saved.get(name) == value for name, value in self._description.items()) and all(
                file.stat().st_size == size for file, size in expected.items()
            )
        except (OSError, ValueError, AttributeError):
            intact = False
        if not intact:
            files = self._pixels.with_suffix(".*")
            raise InputError(f"image_cache: {files} do not belong together any more; delete these files")

    def _check_disk_space(self, n: int) -> None:
        """Raise an :class:`InputError` if n more images do not fit the disk, else log their size."""
        size = n * prod(self._form.shape)
        free = shutil.disk_usage(self._pixels.parent).free
        if size > free:
            raise InputError(
                f"image_cache: {n:,} decoded images take {size / 2**30:.3g} GiB, but "
                f"{self._pixels.parent} has {free / 2**30:.3g} GiB free"
            )
        _log.info(
            f"{self._images.where}: writing {n:,} decoded images, {size / 2**30:.3g} GiB, to {self._pixels}"
        )

    def _write(self, blocks: Iterable[DecodedBlock], rows: NDArray[np.int64]) -> dict[int, str]:
        failures: dict[int, str] = {}
        uncommitted: list[int] = []
        size = prod(self._form.shape)
        # Not memory-mapped: a write to a full disk must raise an error, not kill the process.
        with self._pixels.open("r+b") as file:
            try:
                for positions, pixels, block_failures in blocks:
                    failures |= block_failures
                    for position, image in zip(positions.tolist(), pixels, strict=True):
                        if position not in block_failures:
                            file.seek(int(rows[position]) * size)
                            file.write(image.data)
                            uncommitted.append(int(rows[position]))
                    if len(uncommitted) * size >= _COMMIT_BYTES:
                        self._commit(file, uncommitted)
                        uncommitted = []
            finally:
                self._commit(file, uncommitted)
        return failures

    def _commit(self, file: IO[bytes], rows: list[int]) -> None:
        """Mark rows as done once their pixels are certainly on the disk."""
        file.flush()
        os.fsync(file.fileno())
        if rows:
            done = np.memmap(self._done, np.uint8, "r+")
            done[rows] = 1
            done.flush()
