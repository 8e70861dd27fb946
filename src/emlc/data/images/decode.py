"""Decode one image, from a file or from bytes, to a given shape."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.v2 import functional

EncodedImage = Path | bytes | None  # a file, a file's content, or nothing where a table has no image

_ORIENTATION = 0x0112
_GREY_MODES = {"1", "L", "LA", "La", "I", "F"}  # and "I;16" with its variants


@dataclass(frozen=True)
class ImageFormat:
    """The format that images are decoded to.

    Attributes:
        shape: (channels, height, width); one channel is grey, three are RGB.
        any_size: Whether an image of another size is resized; if not, it is refused.
        resize: Resize the shorter side to this many pixels, then crop (height, width) from the centre.
            None: stretch the image to (height, width).
    """

    shape: tuple[int, int, int]
    any_size: bool = False
    resize: int | None = None


@dataclass(frozen=True)
class Header:
    """What is known about an image without decoding it: its size in pixels, and whether it is grey."""

    height: int
    width: int
    is_grey: bool


def read_header(image: EncodedImage) -> Header | str:
    """Read the header of an image, or return the reason why it cannot be read."""
    try:
        with _open(image) as opened:
            # A photograph's EXIF orientation may swap its sides when it is decoded. (Without an "exif"
            # entry, getexif would decode a whole PNG file in search of one.)
            turned = "exif" in opened.info and opened.getexif().get(_ORIENTATION, 1) >= 5
            width, height = opened.size[::-1] if turned else opened.size
            return Header(height, width, opened.mode in _GREY_MODES or opened.mode.startswith("I;16"))
    except Exception as error:  # PIL's plugins raise anything on broken files
        return _reason(error)


def decode(image: EncodedImage, form: ImageFormat, out: NDArray[np.uint8]) -> str | None:
    """Decode an image of any mode as grey or RGB; transparency is dropped.

    Args:
        image: A file or an embedded image.
        form: Format to decode it to.
        out: (channels, height, width) uint8, which the pixels are written to.

    Returns:
        The reason why it cannot be decoded, or None.
    """
    channels, height, width = form.shape
    try:
        with _open(image) as opened:
            picture = _convert(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
        out[:] = np.asarray(_resized(picture, form)).reshape(height, width, channels).transpose(2, 0, 1)
    except Exception as error:  # PIL's plugins raise anything on broken files
        return _reason(error)
    return None


def _open(image: EncodedImage) -> Image.Image:
    if image is None:
        raise ValueError("no image in this row")
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)


def _convert(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode.startswith("I;16"):  # PIL would clip 16 bits at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode == "P":  # converted directly to RGB, PIL warns of transparent palettes
        picture = picture.convert("RGBA")
    return picture if picture.mode == mode else picture.convert(mode)


def _resized(picture: Image.Image, form: ImageFormat) -> Image.Image:
    _, height, width = form.shape
    if form.resize is not None:
        resized = functional.resize(picture, [form.resize])
        cropped: Image.Image = functional.center_crop(resized, [height, width])
        return cropped
    if picture.size == (width, height):
        return picture
    if not form.any_size:
        raise ValueError(f"{picture.height} x {picture.width} pixels, expected {height} x {width}")
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error) or type(error).__name__
