"""Decode many images at once, in threads, and find out what they have in common."""

import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from emlc.data.classes import shorten
from emlc.data.images.decode import Header, ImageFormat, decode, read_header, read_values
from emlc.data.images.encoded import EncodedBlock, EncodedImages
from emlc.errors import InputError

_PROGRESS_FROM = 2000  # images; fewer are read before a progress bar is worth it
_BLOCK = 32  # images that a thread takes at a time; handing over small ones singly costs more than decoding

_CORES = os.cpu_count() or 1

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class DecodedBlock(NamedTuple):
    """A block of decoded images.

    Attributes:
        positions: (b,) int64, positions of these images among all that are decoded.
        pixels: (b, channels, height, width) uint8, undefined where decoding failed.
        failures: For each image that cannot be decoded, by position, its name and the reason.
    """

    positions: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    failures: dict[int, str]


class _HeaderBlock(NamedTuple):
    positions: NDArray[np.int64]
    headers: list[Header | str]


class _RangeBlock(NamedTuple):
    positions: NDArray[np.int64]
    ranges: list[tuple[float, float]]


_Block = TypeVar("_Block", DecodedBlock, _HeaderBlock, _RangeBlock)


def decode_all(
    images: EncodedImages,
    rows: NDArray[np.int64],
    form: ImageFormat,
    description: str | None = None,
    threads: int | None = None,
) -> Iterator[DecodedBlock]:
    """Decode the images of rows (m,) block by block, with a progress bar if there is a ``description``.

    By default there are as many threads as cores; PIL decodes without holding the interpreter's lock.
    """

    def decode_block(block: EncodedBlock) -> DecodedBlock:
        positions, encoded = block
        pixels = np.empty((len(encoded), *form.shape), dtype=np.uint8)
        failures = {
            int(position): f"{images.name(int(rows[position]), image)}: {reason}"
            for position, image, out in zip(positions, encoded, pixels, strict=True)
            if (reason := decode(image, form, out)) is not None
        }
        return DecodedBlock(positions, pixels, failures)

    threads = threads or _CORES
    block = min(_BLOCK, -(-len(rows) // threads))
    decoded = _in_threads(decode_block, images.fetch(rows, max(1, block)), threads)
    return decoded if description is None else _with_progress(decoded, description, len(rows))


def common_format(
    images: EncodedImages, rows: NDArray[np.int64], image_size: int | None, resize: int | None
) -> ImageFormat:
    """Choose the format of the first images that are read: grey if all of them are grey, else RGB.

    Without an ``image_size`` they have to be of one size. With it, headers are read only until one is not
    grey.

    Raises:
        InputError: If the images differ in size and there is no ``image_size``.
    """
    if image_size is not None:
        channels = 1 if all(header.is_grey for header in _headers(images, rows)) else 3
        return ImageFormat((channels, image_size, image_size), any_size=True, resize=resize)
    headers = list(_headers(images, rows))
    channels = 1 if all(header.is_grey for header in headers) else 3
    sizes = Counter((header.height, header.width) for header in headers)
    _check_one_size(sizes, images.where)
    return ImageFormat((channels, *next(iter(sizes), (0, 0))))


def check_size(images: EncodedImages, rows: NDArray[np.int64], size: tuple[int, int]) -> None:
    """Raise an :class:`InputError` unless all images have this size, (height, width)."""
    sizes = Counter((header.height, header.width) for header in _headers(images, rows))
    sizes[size] += 0
    _check_one_size(sizes, images.where, f"; the data have {size[0]} x {size[1]}")


def first_header(images: EncodedImages, rows: NDArray[np.int64]) -> Header | None:
    """Return the header of the first image whose header can be read, or None."""
    headers = (read_header(image) for _, block in images.fetch(rows, 1) for image in block)
    return next((header for header in headers if isinstance(header, Header)), None)


def find_value_range(images: EncodedImages, rows: NDArray[np.int64]) -> tuple[float, float] | None:
    """Return the smallest and the largest value of the images if the first has more than 8 bits, else None.

    If there is but one value, the range begins at 0 and ends at 1 or the largest value of 8, 16 or 32 bits.
    """
    first = first_header(images, rows)
    if first is None or not first.is_deep:
        return None

    def read(block: EncodedBlock) -> _RangeBlock:
        values = [each for image in block[1] if (each := read_values(image)) is not None and each.size]
        return _RangeBlock(block[0], [(float(each.min()), float(each.max())) for each in values])

    blocks = _in_threads(read, images.fetch(rows, _BLOCK), _CORES)
    ranges = [r for b in _with_progress(blocks, "Reading the range of values", len(rows)) for r in b.ranges]
    low, high = (min((r[0] for r in ranges), default=0.0), max((r[1] for r in ranges), default=0.0))
    if low < high:
        return low, high
    return min(low, 0.0), next(limit for limit in (1.0, 255.0, 65535.0, 2.0**32, abs(high)) if high <= limit)


def _headers(images: EncodedImages, rows: NDArray[np.int64]) -> Iterator[Header]:
    """Yield the headers that can be read, a few at a time."""

    def read(block: EncodedBlock) -> _HeaderBlock:
        return _HeaderBlock(block[0], [read_header(image) for image in block[1]])

    blocks = _in_threads(read, images.fetch(rows, _BLOCK), _CORES)
    for block in _with_progress(blocks, "Reading image headers", len(rows)):
        yield from (header for header in block.headers if isinstance(header, Header))


def _check_one_size(sizes: Counter[tuple[int, int]], where: str, expected: str = "") -> None:
    if len(sizes) > 1:
        counts = [f"{height} x {width} ({count} images)" for (height, width), count in sizes.most_common()]
        raise InputError(
            f"{where}: images differ in size (height x width): {shorten(counts, 5)}{expected}; "
            "pass --image_size N to resize them to N pixels a side"
        )


def _in_threads(task: Callable[[_In], _Out], items: Iterable[_In], threads: int) -> Iterator[_Out]:
    """Apply a task to items in threads, in order, and only a little ahead of the consumer.

    The results may be large.
    """
    if threads == 1:
        yield from map(task, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[_Out]] = deque()
        for item in items:
            pending.append(pool.submit(task, item))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _with_progress(blocks: Iterable[_Block], description: str, total: int) -> Iterator[_Block]:
    """Yield the blocks, and show a progress bar on a terminal."""
    hidden = total <= _PROGRESS_FROM or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=hidden) as progress:
        task = progress.add_task(description, total=total)
        for block in blocks:
            yield block
            progress.advance(task, len(block.positions))
