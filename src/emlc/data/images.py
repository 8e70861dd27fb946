"""Decode image files and embedded images into one tensor."""

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from emlc.data.classes import shorten
from emlc.errors import InputError

EncodedImage = Path | bytes | None  # a file, a file's content, or nothing where a table has no image
_T = TypeVar("_T")

MAX_BYTES = 8 * 2**30
_PROGRESS_FROM = 2000  # images; fewer are decoded before a bar is worth it
_CHUNK = 64  # images a thread takes at a time; handing small ones over singly costs more than decoding
_ORIENTATION = 0x0112
_GREY_MODES = {"1", "L", "LA", "La", "I", "F"}  # and "I;16" with its variants


@dataclass(frozen=True)
class _Header:
    """What can be told of an image without decoding it."""

    height: int
    width: int
    is_grey: bool


def decode_images(
    images: Sequence[EncodedImage],
    names: Sequence[str],
    where: str,
    *,
    image_size: int | None = None,
    expected_shape: tuple[int, ...] = (),
    skip_unreadable: bool = False,
) -> tuple[torch.Tensor, NDArray[np.bool_]]:
    """Decode images of any mode as grey, if all are grey, or else as RGB; transparency is dropped.

    Args:
        images: n files or embedded images.
        names: n names, for messages.
        where: File or folder, for messages.
        image_size: Resize to this many pixels a side.
        expected_shape: (channels, height, width) to decode to, where known.
        skip_unreadable: Leave out what cannot be decoded, and print how many to standard error.

    Returns:
        (m, channels, height, width) uint8 and, (n,) bool, which m images could be decoded.

    Raises:
        InputError: If images cannot be decoded, differ in size, or exceed 8 GiB together.
    """
    headers = list(_in_threads(_read_header, images, "Reading image headers"))
    found = [header for header in headers if isinstance(header, _Header)]
    shape = _common_shape(found, where, image_size, expected_shape)
    _check_memory(len(found), shape, where)
    pixels = torch.empty((len(images), *shape), dtype=torch.uint8)

    def decode_into(row: int) -> str | None:
        header = headers[row]
        return header if isinstance(header, str) else _decode(images[row], pixels[row].numpy())

    failures = list(_in_threads(decode_into, range(len(images)), "Decoding images"))
    readable = np.array([failure is None for failure in failures], dtype=np.bool_)
    if readable.all():
        return pixels, readable
    unreadable = [f"{name}: {why}" for name, why in zip(names, failures, strict=True) if why is not None]
    _report_unreadable(unreadable, where, skip_unreadable)
    return pixels[torch.from_numpy(readable)], readable


def _in_threads(task: Callable[..., _T], items: Sequence[object], description: str) -> Iterable[_T]:
    chunks = [items[k : k + _CHUNK] for k in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL decodes without holding the interpreter's lock
        for results in track(
            pool.map(lambda chunk: [task(item) for item in chunk], chunks),
            description,
            total=len(chunks),
            console=Console(stderr=True),
            disable=len(items) <= _PROGRESS_FROM or not sys.stderr.isatty(),
        ):
            yield from results


def _open(image: EncodedImage) -> Image.Image:
    if image is None:
        raise ValueError("no image in this row")
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)


def _read_header(image: EncodedImage) -> _Header | str:
    try:
        with _open(image) as opened:
            # A photograph's EXIF orientation may swap its sides when it is decoded. (Without an "exif"
            # entry, getexif would decode a whole PNG file in search of one.)
            turned = "exif" in opened.info and opened.getexif().get(_ORIENTATION, 1) >= 5
            width, height = opened.size[::-1] if turned else opened.size
            return _Header(height, width, _is_grey(opened.mode))
    except Exception as error:  # PIL's plugins raise anything on broken files
        return _reason(error)


def _decode(image: EncodedImage, out: NDArray[np.uint8]) -> str | None:
    """Decode into ``out``, (channels, height, width); returns why it cannot be done, or None."""
    channels, height, width = out.shape
    try:
        with _open(image) as opened:
            picture = _convert(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        out[:] = np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)
    except Exception as error:  # PIL's plugins raise anything on broken files
        return _reason(error)
    return None


def _convert(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I;16"):  # PIL would clip 16 bits at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode == "P":  # directly to RGB, PIL warns of transparent palettes
        picture = picture.convert("RGBA")
    return picture if picture.mode == mode else picture.convert(mode)


def _is_grey(mode: str) -> bool:
    return mode in _GREY_MODES or mode.startswith("I;16")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error) or type(error).__name__


def _common_shape(
    headers: Sequence[_Header], where: str, image_size: int | None, expected: tuple[int, ...]
) -> tuple[int, int, int]:
    """(channels, height, width) that all images are decoded to."""
    channels = expected[0] if expected else 1 if all(header.is_grey for header in headers) else 3
    if image_size is not None:
        return channels, image_size, image_size
    sizes = Counter((header.height, header.width) for header in headers)
    if expected:
        sizes[expected[1], expected[2]] += 0
    if len(sizes) > 1:
        counts = [f"{height} x {width} ({count} images)" for (height, width), count in sizes.most_common()]
        of_data = f"; the data have {expected[1]} x {expected[2]}" if expected else ""
        raise InputError(
            f"{where}: images differ in size (height x width): {shorten(counts, 5)}{of_data}; "
            "pass --image_size N to resize them to N pixels a side"
        )
    return channels, *next(iter(sizes), (0, 0))


def _check_memory(n: int, shape: tuple[int, int, int], where: str) -> None:
    size = n * int(np.prod(shape))
    if size > MAX_BYTES:
        raise InputError(
            f"{where}: {n} images of {' x '.join(map(str, shape))} bytes take {size / 2**30:.1f} GiB, more "
            f"than {MAX_BYTES / 2**30:.0f} GiB; pass a smaller --image_size, or --noisy_limit to use fewer"
        )


def _report_unreadable(unreadable: Sequence[str], where: str, skip: bool) -> None:
    if skip:
        print(f"{where}: left out {len(unreadable)} unreadable images", file=sys.stderr)
        return
    listed = [f"  - {line}" for line in unreadable]
    heading = f"{where}: {len(unreadable)} images cannot be read; --skip_unreadable leaves them out:"
    raise InputError("\n".join([heading, *listed]))
