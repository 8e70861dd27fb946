"""Image sets: kept in memory if they fit the memory budget, else read and decoded on demand."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from emlc.config import DataSettings
from emlc.data.classes import shorten
from emlc.data.images.cache import ImageCache
from emlc.data.images.decode import ImageFormat
from emlc.data.images.decode_many import (
    check_size,
    common_format,
    decode_all,
    find_value_range,
    first_header,
)
from emlc.data.images.encoded import EncodedImages
from emlc.errors import InputError

_log = logging.getLogger(__name__)

_LOOKED_AT = 1000  # images of which the constant ones are counted, where all are decoded
_BATCH_LOOKED_AT = 16  # the least number where they are decoded in batches
_MANY_CONSTANT = 0.1  # share of them from which a warning is due
_NEARLY_BLACK = 32

Rows = NDArray[np.int64]


class StoredImages:
    """Images on disk that stand in for a tensor (n, channels, height, width) uint8.

    Indexing reads and decodes them, from the image files or from the cache, to the same pixels that images
    in memory have.

    Args:
        images: All images of the source.
        rows: (n,) int64, the rows of these images in the source.
        form: Format that they are decoded to.
        cache: Cache of their decoded pixels, if any.
    """

    ndim = 4
    dtype = torch.uint8

    def __init__(
        self, images: EncodedImages, rows: Rows, form: ImageFormat, cache: ImageCache | None = None
    ) -> None:
        self.images = images
        self.rows = rows
        self.form = form
        self.cache = cache
        self._looked_at = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, channels, height, width)."""
        return len(self.rows), *self.form.shape

    @property
    def nbytes(self) -> int:
        """Number of bytes that the pixels would take in memory."""
        return prod(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Read the images at indices (m,) with as many threads as there are cores; see :meth:`read`."""
        return self.read(rows)

    def read(self, rows: Tensor, threads: int | None = None) -> Tensor:
        """Read the images at indices (m,) int64: (m, channels, height, width) uint8.

        Raises:
            InputError: If an image cannot be decoded; names it.
        """
        source_rows = self.rows[rows.numpy()]
        if self.cache is not None:
            return torch.from_numpy(self.cache.read(source_rows))
        pixels = torch.empty((len(source_rows), *self.form.shape), dtype=torch.uint8)
        for block in decode_all(self.images, source_rows, self.form, threads=threads):
            for failure in block.failures.values():
                raise InputError(
                    f"{self.images.where}: {failure}; this image cannot be read. Mend it and go on with "
                    "--resume, or begin anew with --skip_unreadable, which finds all such images at the start"
                )
            pixels[torch.from_numpy(block.positions)] = torch.from_numpy(block.pixels)
        if not self._looked_at and len(pixels) >= _BATCH_LOOKED_AT:
            self._looked_at = True
            warn_of_empty_images(pixels, self.images.where)
        return pixels

    def take(self, rows: Rows) -> "StoredImages":
        """Return the images at indices (m,) int64, still on disk."""
        return StoredImages(self.images, self.rows[rows], self.form, self.cache)

    def identities(self) -> pa.Array:
        """Return (n,) texts that identify the images: the path, or the file and row of an embedded image."""
        return self.images.identities(self.rows)


Inputs = Tensor | StoredImages


def load_images(
    sets: Mapping[str, tuple[EncodedImages, Rows]],
    settings: DataSettings,
    input_shape: tuple[int, ...] = (),
    *,
    background: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> dict[str, tuple[Inputs, NDArray[np.bool_]]]:
    """Open several image sets, which share their format and the memory budget.

    If all sets together fit ``memory_gib`` they are decoded into memory, else all stay on disk, which is
    logged. With an ``image_cache`` the pixels are written there first, and read from there. Unreadable
    images are noticed while decoding. Sets that stay on disk without a cache are decoded during training,
    where an unreadable image is an error; leaving such images out (``skip_unreadable``) takes a pass over
    all images beforehand.

    Args:
        sets: By role, the images of a source and the rows (m,) to read. Without an ``input_shape``, the
            first set decides on the format.
        settings: Settings with ``image_size``, ``resize``, ``memory_gib``, ``image_cache`` and
            ``skip_unreadable``.
        input_shape: (channels, height, width) of the data, if known.
        background: Colour on which transparent images are composed; None: their alpha channel is dropped.
        value_range: Values that become black and white in images of more than 8 bits. None: such images are
            refused if the ``input_shape`` is known, and else the range is that of the first set.

    Returns:
        By role, the images (k, channels, height, width) uint8, and a mask (m,) of the k rows that could be
        read.

    Raises:
        InputError: If images cannot be read (it lists them all), differ in size or from the data, or stay
            on disk without an ``image_size``.
    """
    if not sets:
        return {}
    form = _format(sets, settings, input_shape)
    if value_range is None and not input_shape:
        value_range = find_value_range(*next(iter(sets.values())))
    form = replace(form, background=background, value_range=value_range)
    folder = Path(settings.image_cache).expanduser() if settings.image_cache else None
    stored = {
        role: StoredImages(images, rows, form, ImageCache(folder, images, form) if folder else None)
        for role, (images, rows) in sets.items()
    }
    size = sum(images.nbytes for images in stored.values())
    in_memory = size <= settings.memory_gib * 2**30
    if in_memory and not form.any_size:
        for images, rows in list(sets.values())[0 if input_shape else 1 :]:
            check_size(images, rows, form.shape[1:])
    if not in_memory:
        _log.info(
            f"images stay on disk: {sum(map(len, stored.values())):,} of {' x '.join(map(str, form.shape))} "
            f"bytes take {_gib(size)}, more than the {settings.memory_gib:g} GiB of --memory_gib"
        )
    opened = {role: _open(images, settings, in_memory=in_memory) for role, images in stored.items()}
    names = [(stored[role].images.where, opened[role][1]) for role in opened]
    report_unreadable(names, settings, next(iter(stored.values())).images.way_out)
    readable = {role: _without(inputs, failures) for role, (inputs, failures) in opened.items()}
    for role, (inputs, _) in readable.items():
        if in_memory or folder:
            rows = np.linspace(0, len(inputs) - 1, min(len(inputs), _LOOKED_AT)).astype(np.int64)
            warn_of_empty_images(inputs[torch.from_numpy(rows)], stored[role].images.where)
    return readable


def _format(
    sets: Mapping[str, tuple[EncodedImages, Rows]], settings: DataSettings, input_shape: tuple[int, ...]
) -> ImageFormat:
    images, rows = next(iter(sets.values()))
    if not input_shape:
        if settings.image_size is None:
            _check_first_fits(sets, settings.memory_gib)
        return common_format(images, rows, settings.image_size, settings.resize)
    if len(input_shape) != 3:
        raise InputError(f"{images.where}: images, but each input of the data has shape {input_shape}")
    channels, height, width = input_shape
    return ImageFormat((channels, height, width), settings.image_size is not None, settings.resize)


def _check_first_fits(sets: Mapping[str, tuple[EncodedImages, Rows]], memory_gib: float) -> None:
    """Refuse images that will stay on disk while no size is set that they are resized to."""
    images, rows = next(iter(sets.values()))
    header = first_header(images, rows)
    if header is None:
        return
    n = sum(len(rows) for _, rows in sets.values())
    size = n * header.height * header.width * (1 if header.is_grey else 3)
    if size > memory_gib * 2**30:
        raise InputError(
            f"{images.where}: {n:,} images of {header.height} x {header.width}, as the first, take "
            f"{_gib(size)}, more than the {memory_gib:g} GiB of --memory_gib. Images that stay on disk need "
            "--image_size N, which stretches them to N pixels a side, or --resize M --image_size N, which "
            "cuts a square out of the centre"
        )


def _open(stored: StoredImages, settings: DataSettings, *, in_memory: bool) -> tuple[Inputs, dict[int, str]]:
    """Return the images and, for each unreadable one by position, its name and the reason."""
    if stored.cache is not None:
        failures = stored.cache.fill(stored.rows)
        return (torch.from_numpy(stored.cache.read(stored.rows)) if in_memory else stored), failures
    if in_memory:
        return _decode(stored)
    return stored, _find_unreadable(stored) if settings.skip_unreadable else {}


def _decode(stored: StoredImages) -> tuple[Tensor, dict[int, str]]:
    pixels = torch.empty(stored.shape, dtype=torch.uint8)
    failures: dict[int, str] = {}
    for block in decode_all(stored.images, stored.rows, stored.form, "Decoding images"):
        pixels[torch.from_numpy(block.positions)] = torch.from_numpy(block.pixels)
        failures |= block.failures
    return pixels, failures


def _find_unreadable(stored: StoredImages) -> dict[int, str]:
    failures: dict[int, str] = {}
    for block in decode_all(stored.images, stored.rows, stored.form, "Looking for unreadable images"):
        failures |= block.failures
    return failures


def report_unreadable(
    sets: Sequence[tuple[str, dict[int, str]]], settings: DataSettings, way_out: str = EncodedImages.way_out
) -> None:
    """Raise one error for the unreadable images of all sets, or log that they are left out."""
    unreadable: dict[str, list[str]] = {}
    for where, failures in sets:
        unreadable.setdefault(where, []).extend(failures[position] for position in sorted(failures))
    lines = []
    for where, names in unreadable.items():
        if names and settings.skip_unreadable:
            _log.warning(f"{where}: left out {len(names)} unreadable images: {shorten(names, 3)}")
        elif names:
            lines.append(f"{where}: {len(names)} images cannot be read; {way_out}:")
            lines += [f"  - {name}" for name in names]
    if lines:
        raise InputError("\n".join(lines))


def warn_of_empty_images(images: Tensor, where: str) -> None:
    """Warn if a tenth of the images (n, channels, height, width) have one colour, or all are nearly black."""
    pixels = images.flatten(2)
    if len(pixels) < 2 or pixels.shape[2] < 2:
        return
    constant = int((pixels == pixels[:, :, :1]).flatten(1).all(1).sum())
    if constant >= max(2, _MANY_CONSTANT * len(images)):
        _log.warning(
            f"{where}: {constant} of {len(images)} images that were looked at have one colour all over. "
            "Behind transparent ones --background sets it; of those with more than 8 bits --image_range sets "
            "the values that become black and white"
        )
    elif (largest := int(pixels.max())) < _NEARLY_BLACK:
        _log.warning(
            f"{where}: {len(images)} images that were looked at are nearly black: no value is above "
            f"{largest} of 255. Of files with 16 bits per colour only the upper 8 are read: scale such files "
            "beforehand"
        )


def _without(inputs: Inputs, failures: dict[int, str]) -> tuple[Inputs, NDArray[np.bool_]]:
    readable = np.ones(len(inputs), dtype=np.bool_)
    readable[list(failures)] = False
    kept = np.flatnonzero(readable)
    if len(kept) == len(inputs):
        return inputs, readable
    if isinstance(inputs, StoredImages):
        return inputs.take(kept), readable
    for new, old in enumerate(kept.tolist()):  # in place: a copy would take twice the memory
        if new != old:
            inputs[new] = inputs[old]
    return inputs[: len(kept)], readable


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
