"""The image formats that are read, and the pixels of images with alpha channels or more than 8 bits."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Ghostscript would execute the programs that EPS files are; the others cannot be decoded by Pillow itself.
_NOT_READ = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}
_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}


@cache
def readable_formats() -> tuple[str, ...]:
    """Return the names of the formats that Pillow decodes by itself, in the order in which they are tried."""
    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_READ)


@cache
def readable_endings() -> tuple[str, ...]:
    """Return the endings of files in :func:`readable_formats`, in lower case and with their dot."""
    formats = {*readable_formats(), "MPO"}  # which opens as JPEG
    return tuple(sorted(e for e, name in Image.registered_extensions().items() if name in formats))


def is_deep(mode: str) -> bool:
    """Return whether the pixels of a Pillow mode are 16-bit or 32-bit integers, or floats."""
    return mode in ("I", "F") or mode.startswith("I;16")


def deep_values(picture: Image.Image) -> NDArray[np.float64]:
    """Return the values (h, w) of a deep image.

    Raises:
        ValueError: A value is not finite.
    """
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("has values that are not finite numbers")
    return values


def to_8_bits(picture: Image.Image, value_range: tuple[float, float] | None) -> Image.Image:
    """Scale a deep image to 256 levels of equal width; values outside the range become black or white.

    Raises:
        ValueError: A value is not finite, or the range is not known.
    """
    values = deep_values(picture)
    if value_range is None:
        raise ValueError(
            f"has values from {values.min():g} to {values.max():g}, where the first image has 8 bits; "
            '--image_range "[LOW, HIGH]" says which values are black and white'
        )
    low, high = value_range
    levels = np.floor((values - low) * (256 / (high - low)))  # cuts 16 bits to their upper 8
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def flatten(picture: Image.Image, background: str | None) -> Image.Image:
    """Compose an image that may be transparent on a colour; None: its alpha channel is dropped."""
    if picture.mode not in _ALPHA_MODES and "transparency" not in picture.info:
        return picture
    picture = picture.convert("RGBA")  # converted directly to RGB, PIL warns of transparent palettes
    if background is None:
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)


def for_display(picture: Image.Image) -> Image.Image:
    """Return an image for people to look at: opaque on white, and a deep one scaled by its own range."""
    if is_deep(picture.mode):
        values = deep_values(picture)
        low = float(values.min())
        picture = to_8_bits(picture, (low, max(float(values.max()), low + 1e-6)))
    return flatten(picture, "white")
