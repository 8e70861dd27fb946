"""A file of decoded pixels, written once, from which training then reads its images."""

import json
import logging
import os
import shutil
import zlib
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

_VERSION = 2  # of the files' layout; another layout makes files of another name
_COMMIT_BYTES = 64 * 2**20  # at most so many bytes of pixels are decoded again after a kill


class ImageCache:
    """The decoded images of one source, in one format, in three files of a folder.

    ``NAME.pixels`` has a place for every image of the source, and takes disk space for those that were
    needed so far. ``NAME.done`` has a checksum per image once its pixels are on the disk, else 0, so that an
    interrupted write goes on where it stopped, and damage is found. ``NAME.json`` describes the source: the
    paths of the images, their order, and the format. NAME is a hash of this description, so that another list
    or size makes other files. The images themselves are not read again: after changing them in place, delete
    the folder.

    Args:
        folder: Folder of the files, created together with them.
        images: All images of the source.
        form: Format that they are decoded to.

    Raises:
        InputError: If the files are not what ``NAME.json`` says.
    """

    _checksums: NDArray[np.uint32]

    def __init__(self, folder: Path, images: EncodedImages, form: ImageFormat) -> None:
        self._images = images
        self._form = form
        description = asdict(form) | {
            "version": _VERSION,
            "images": len(images),
            "fingerprint": images.fingerprint(),
        }
        self._description: dict[str, Any] = json.loads(json.dumps(description))
        name = _name(description)
        self._pixels, self._done, self._json, self._lock = (
            folder / f"{name}.{ending}" for ending in ("pixels", "done", "json", "lock")
        )
        self._checksums = np.zeros(0, np.uint32)
        before = folder / f"{_name(description | {'version': 1})}.pixels"
        if self._json.exists():
            self._check()
        elif before.exists():
            _log.info(f"image_cache: {before} has no checksums and is not used any more; delete it")

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the pixels of rows (m,), which must be in the cache: (m, channels, height, width) uint8.

        Raises:
            InputError: If the file has become shorter, or other pixels than were written.
        """
        if len(self._checksums) == 0 or (len(rows) and not self._checksums[rows].all()):
            self._checksums = np.fromfile(self._done, np.uint32)
        pixels = np.empty((len(rows), *self._form.shape), dtype=np.uint8)
        # Not memory-mapped: that takes twice the time, and cannot be sent to a loading process.
        with self._pixels.open("rb") as file:
            for row, image in zip(rows.tolist(), pixels, strict=True):
                file.seek(row * image.nbytes)
                if file.readinto(image.data) < image.nbytes:
                    raise InputError(f"image_cache: {self._pixels} has become shorter; delete it")
                stored = self._checksums[row]  # 0 of an image that cannot be decoded
                if stored and _checksum(image) != stored:
                    raise InputError(
                        f"image_cache: {self._pixels} is damaged at image {row} of {self._images.where}; "
                        f"delete {self._pixels.with_suffix('.*')}, and the images are decoded again"
                    )
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
        return np.flatnonzero(np.fromfile(self._done, np.uint32)[rows] == 0)

    def _create(self) -> None:
        with self._pixels.open("wb") as file:
            file.truncate(len(self._images) * prod(self._form.shape))
        # Zeros are written: a memory map of a sparse file would kill the process when the disk is full.
        self._done.write_bytes(bytes(4 * len(self._images)))
        write_json(self._json, self._description | {"source": self._images.where})

    def _check(self) -> None:
        expected = {
            self._pixels: len(self._images) * prod(self._form.shape),
            self._done: 4 * len(self._images),
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
        uncommitted: dict[int, int] = {}
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
                            uncommitted[int(rows[position])] = _checksum(image)
                    if len(uncommitted) * size >= _COMMIT_BYTES:
                        self._commit(file, uncommitted)
                        uncommitted = {}
            finally:
                self._commit(file, uncommitted)
        return failures

    def _commit(self, file: IO[bytes], checksums: dict[int, int]) -> None:
        """Note the checksums of rows once their pixels are certainly on the disk."""
        file.flush()
        os.fsync(file.fileno())
        if checksums:
            done = np.memmap(self._done, np.uint32, "r+")
            done[list(checksums)] = list(checksums.values())
            done.flush()


def _name(description: dict[str, Any]) -> str:
    return blake2b(json.dumps(description).encode(), digest_size=12).hexdigest()


def _checksum(image: NDArray[np.uint8]) -> int:
    """Return the CRC-32 of an image, or 1 where it is 0, which stands for none."""
    return zlib.crc32(image.data) or 1
