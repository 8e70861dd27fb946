"""Turn images into the contents of files: the original ones, or their pixels as PNG."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from emlc.data.images.decode import check_regular
from emlc.data.images.formats import for_display, readable_formats
from emlc.data.images.stored import StoredImages
from emlc.data.samples import Samples
from emlc.errors import InputError

_BLOCK = 256  # images that are in memory at a time
_SHOWN_BY_BROWSERS = {"image/png", "image/jpeg", "image/gif", "image/webp"}
_JPEG_ALBUM = "MPO"  # a JPEG file with further images behind the first, as many phones write it


def png(pixels: Tensor) -> bytes:
    """Encode an image (channels, height, width), uint8 (without loss) or floats in [0, 1], as a PNG file."""
    if pixels.is_floating_point():
        pixels = (pixels * 255).round().to(torch.uint8)
    array = pixels.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file, "PNG")
    return file.getvalue()


def pixel_images(samples: Samples) -> Iterator[bytes]:
    """Yield the pixels of n images, as the networks see them, each as a PNG file."""
    assert samples.pictures is not None
    for rows in torch.arange(len(samples)).split(_BLOCK):
        for pixels in samples.pictures[rows]:
            yield png(pixels)


def can_be_copied(samples: Samples) -> bool:
    """Return whether the original images are available, and not only their pixels."""
    return samples.files is not None or isinstance(samples.pictures, StoredImages)


def original_images(samples: Samples) -> Iterator[bytes]:
    """Yield n original images, for samples that :func:`can_be_copied`.

    Raises:
        InputError: If an image is no longer there.
    """
    for start in range(0, len(samples), _BLOCK):
        block = slice(start, start + _BLOCK)
        if samples.files is not None:
            images: list[Path | bytes | None] = [Path(path) for path in samples.files[block].to_pylist()]
        else:
            assert isinstance(samples.pictures, StoredImages)
            images = _fetch(samples.pictures, samples.pictures.rows[block])
        for image, sample_id in zip(images, samples.ids[block], strict=True):
            yield _content(image, sample_id)


def _fetch(stored: StoredImages, rows: NDArray[np.int64]) -> list[Path | bytes | None]:
    images: list[Path | bytes | None] = [None] * len(rows)
    for positions, block in stored.images.fetch(rows, _BLOCK):
        for position, image in zip(positions, block, strict=True):
            images[position] = image
    return images


def _content(image: Path | bytes | None, sample_id: str) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        if image is None:
            raise OSError("no image in this row")
        check_regular(image)
        return image.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"the image of {sample_id!r} cannot be read: {error}") from error


def browser_image(content: bytes) -> tuple[str, bytes]:
    """Return the MIME type and content of an image that browsers show: the image as it is, or as PNG.

    Browsers turn an image as its EXIF orientation says; the pixels of a PNG are turned here.
    """
    with Image.open(io.BytesIO(content), formats=readable_formats()) as opened:
        kind = "image/jpeg" if opened.format == _JPEG_ALBUM else Image.MIME.get(opened.format or "", "")
        if kind in _SHOWN_BY_BROWSERS:
            return kind, content
        file = io.BytesIO()
        for_display(ImageOps.exif_transpose(opened)).convert("RGB").save(file, "PNG")
    return "image/png", file.getvalue()
