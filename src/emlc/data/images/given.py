"""Images that a caller gives: paths of files, pictures of Pillow, or arrays that differ in size."""

import io
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from emlc.data.classes import shorten
from emlc.data.images.decode import EncodedImage
from emlc.data.images.encoded import EncodedBlock, EncodedImages
from emlc.data.images.formats import is_deep
from emlc.data.samples import array_inputs
from emlc.errors import InputError

_KEPT_BY_PNG = {"1", "L", "LA", "P", "RGB", "RGBA"}


class GivenImages(EncodedImages):
    """Images in a list, each a file or the content of one; they all stay in memory, still encoded.

    Args:
        where: Name of the list, for messages.
        images: The n images.
    """

    way_out = "leave them out of X and y"

    def __init__(self, where: str, images: Sequence[Path | bytes]) -> None:
        super().__init__(where)
        self._images = list(images)

    def __len__(self) -> int:
        return len(self._images)

    def fetch(self, rows: NDArray[np.int64], block: int) -> Iterator[EncodedBlock]:
        for start in range(0, len(rows), block):
            images: list[EncodedImage] = [self._images[row] for row in rows[start : start + block]]
            yield np.arange(start, start + len(images)), images

    def name(self, row: int, image: EncodedImage) -> str:
        return f"row {row} ({image})" if isinstance(image, Path) else f"row {row}"

    def identities(self, rows: NDArray[np.int64]) -> pa.Array:
        return pa.array([_identity(self._images[row]) for row in rows], pa.large_string())

    def fingerprint(self) -> str:
        return _hash("\0".join(map(_identity, self._images)).encode())


def given_images(values: Sequence[Any], where: str) -> GivenImages:
    """Take paths, pictures of Pillow, or arrays of single images, also mixed.

    Args:
        values: The n images. Arrays are (h, w), (h, w, c) or (c, h, w) with 1 or 3 channels, integers from 0
            to 255 or floats from 0 to 1.
        where: Name of the list, for messages.

    Raises:
        InputError: A value is no image, or files do not exist; names their rows.
    """
    images = [_encoded(value, row, where) for row, value in enumerate(values)]
    gone = [k for k, image in enumerate(images) if isinstance(image, Path) and not image.is_file()]
    if gone:
        first = shorten([f"row {k} ({str(images[k])!r})" for k in gone], 3)
        raise InputError(
            f"{where}: {len(gone):,} of {len(images):,} image files do not exist: {first}; expected paths "
            f"that are absolute or relative to the current directory, {os.getcwd()}. To learn from texts, "
            "give their embeddings"
        )
    return GivenImages(where, images)


def _encoded(value: Any, row: int, where: str) -> Path | bytes:
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return Path(value)
    if isinstance(value, Image.Image):
        return _file_of(ImageOps.exif_transpose(value))
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim in (2, 3):
        return _file_of(_picture(value, f"{where}: row {row}"))
    raise InputError(
        f"{where}: row {row}: expected the path of an image, a picture of Pillow or an array of one, found "
        f"{type(value).__name__} {str(value)[:40]!r}"
    )


def _picture(array: Any, where: str) -> Image.Image:
    pixels = array_inputs(array[None], where)[0]
    if pixels.is_floating_point():
        pixels = (255 * pixels).round().to(torch.uint8)
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy())


def _file_of(picture: Image.Image) -> bytes:
    """Return the content of a file of a picture, which loses nothing."""
    if not is_deep(picture.mode) and picture.mode not in _KEPT_BY_PNG:
        picture = picture.convert("RGB")
    file = io.BytesIO()
    if is_deep(picture.mode):
        picture.save(file, "TIFF")
    else:
        picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _identity(image: Path | bytes) -> str:
    return os.path.abspath(image) if isinstance(image, Path) else _hash(image)


def _hash(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
