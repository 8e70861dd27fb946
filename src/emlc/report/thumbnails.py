"""Thumbnails of samples, as data URIs that are embedded in the page."""

import base64
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from emlc.data import Samples
from emlc.data.images.decode import check_regular
from emlc.data.images.formats import for_display, readable_formats

_SIDE = 160
"""Longer side of a thumbnail in pixels, as a card shows it. The browser scales up smaller images."""

_BLOCK = 256
"""Images that are read at a time if they are not held in memory."""


def thumbnails(samples: Samples) -> list[str]:
    """Return one data URI per sample.

    Image files are opened again, since networks often see fewer pixels than reviewers want to. An image
    whose file cannot be opened any more is shown as the network sees it.
    """
    pictures: list[Image.Image | None] = [None] * len(samples)
    if samples.files is not None:
        with ThreadPoolExecutor(cpu_count()) as pool:  # PIL decodes without holding the interpreter's lock
            pictures = list(pool.map(_open, samples.files.to_pylist()))
    assert samples.pictures is not None
    missing = np.array([k for k, picture in enumerate(pictures) if picture is None], dtype=np.int64)
    for block in np.array_split(missing, -(-len(missing) // _BLOCK) or 1):
        for k, pixels in zip(block, samples.pictures[torch.from_numpy(block)], strict=True):
            pictures[k] = _picture(pixels)
    return [data_uri(picture) for picture in pictures if picture is not None]


def data_uri(picture: Image.Image) -> str:
    """Encode a picture: as PNG, without loss, up to 64 pixels; larger ones as JPEG, to save space."""
    file = io.BytesIO()
    small = max(picture.size) <= 64
    kind = "png" if small else "jpeg"
    picture.save(file, kind, optimize=True, quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def encoded_thumbnails(images: Iterable[Path | bytes | None]) -> list[str]:
    """Return one data URI per image file, or content of one; of one that cannot be opened, an empty text."""
    pictures = (_open(io.BytesIO(image) if isinstance(image, bytes) else image) for image in images)
    return ["" if picture is None else data_uri(picture) for picture in pictures]


def _open(path: Any) -> Image.Image | None:
    try:
        if isinstance(path, Path):
            check_regular(path)
        with Image.open(path, formats=readable_formats()) as opened:
            opened.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # decodes JPEG at reduced size, which is faster
            picture = for_display(ImageOps.exif_transpose(opened))
            picture = picture.convert("RGBA" if picture.mode == "P" else picture.mode)
            picture.thumbnail((_SIDE, _SIDE))
            return picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
    except Exception:  # PIL's plugins raise anything on broken files
        return None


def _picture(pixels: Tensor) -> Image.Image:
    """Make a picture of an image (channels, height, width), uint8 or float32 in [0, 1]."""
    if pixels.is_floating_point():
        pixels = (255 * pixels).round().to(torch.uint8)
    array = pixels.numpy()
    picture = Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))
    picture.thumbnail((_SIDE, _SIDE))
    return picture
