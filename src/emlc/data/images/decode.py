"""Decode one image, from a file or from bytes, to a given shape."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from emlc.data.images.formats import deep_values, flatten, is_deep, readable_formats, to_8_bits

EncodedImage = Path | bytes | None  # a file, a file's content, or nothing where a table has no image

_ORIENTATION = 0x0112
_GREY_MODES = {"1", "L", "LA", "La"}  # and the deep ones


@dataclass(frozen=True)
class ImageFormat:
    """The format that images are decoded to.

    Attributes:
        shape: (channels, height, width); one channel is grey, three are RGB.
        any_size: Whether an image of another size is resized; if not, it is refused.
        resize: Resize the shorter side to this many pixels, then crop (height, width) from the centre.
            None: stretch the image to (height, width).
        background: Colour on which transparent images are composed, by name or as #rrggbb. None: their
            alpha channel is dropped.
        value_range: Values that become black and white in images of more than 8 bits; None: such images are
            refused.
    """

    shape: tuple[int, int, int]
    any_size: bool = False
    resize: int | None = None
    background: str | None = "white"
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Header:
    """What is known about an image without decoding it: its size in pixels, and its kind of pixels."""

    height: int
    width: int
    is_grey: bool
    is_deep: bool = False


def read_header(image: EncodedImage) -> Header | str:
    """Read the header of an image, or return the reason why it cannot be read."""
    try:
        with _open(image) as opened:
            # A photograph's EXIF orientation may swap its sides when it is decoded. (Without an "exif"
            # entry, getexif would decode a whole PNG file in search of one.)
            turned = "exif" in opened.info and opened.getexif().get(_ORIENTATION, 1) >= 5
            width, height = opened.size[::-1] if turned else opened.size
            deep = is_deep(opened.mode)
            return Header(height, width, deep or opened.mode in _GREY_MODES, deep)
    except Exception as error:  # PIL's plugins raise anything on broken files
        return _reason(error)


def read_values(image: EncodedImage) -> NDArray[np.float64] | None:
    """Return the values (h, w) of an image of more than 8 bits; None of others, and of unreadable ones."""
    try:
        with _open(image) as opened:
            return deep_values(opened) if is_deep(opened.mode) else None
    except Exception:  # decoding it will tell why
        return None


def decode(image: EncodedImage, form: ImageFormat, out: NDArray[np.uint8]) -> str | None:
    """Decode an image of any mode as grey or RGB: upright, opaque, and with 8 bits.

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
            picture = _convert(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB", form)
        out[:] = np.asarray(resized(picture, form)).reshape(height, width, channels).transpose(2, 0, 1)
    except Exception as error:  # PIL's plugins raise anything on broken files
        return _reason(error)
    return None


def check_regular(path: Path) -> None:
    """Raise a ValueError if something other than a file is at a path: opening a pipe would wait for ever."""
    if path.exists() and not path.is_file():
        raise ValueError("not a file")


def _open(image: EncodedImage) -> Image.Image:
    if image is None:
        raise ValueError("no image in this row")
    if isinstance(image, Path):
        check_regular(image)
    return Image.open(io.BytesIO(image) if isinstance(image, bytes) else image, formats=readable_formats())


def _convert(picture: Image.Image, mode: str, form: ImageFormat) -> Image.Image:
    if is_deep(picture.mode):  # PIL would clip the values at 255
        picture = to_8_bits(picture, form.value_range)
    picture = flatten(picture, form.background)
    return picture if picture.mode == mode else picture.convert(mode)


def resized(picture: Image.Image, form: ImageFormat) -> Image.Image:
    """Resize a picture to a format's height and width.

    Raises:
        ValueError: If it has another size, and the format takes only its own.
    """
    _, height, width = form.shape
    if form.resize is not None:
        # torchvision takes as long to import as torch, and most data need none of it.
        from torchvision.transforms.v2 import functional

        smaller = functional.resize(picture, [form.resize])
        cropped: Image.Image = functional.center_crop(smaller, [height, width])
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
