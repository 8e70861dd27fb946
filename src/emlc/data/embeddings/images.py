"""Embed images with a pretrained network, each distinct image once."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from emlc.config import DataSettings
from emlc.data.embeddings.blocks import look_up
from emlc.data.embeddings.cache import Block, EmbeddingCache, content_key, embedding_place
from emlc.data.embeddings.image_models import ImageModel, load_image_model
from emlc.data.embeddings.inference import runner
from emlc.data.images.decode import EncodedImage, ImageFormat, check_regular, resized
from emlc.data.images.decode_many import DecodedBlock, decode_all
from emlc.data.images.stored import Inputs, StoredImages, warn_of_empty_images
from emlc.errors import InputError
from emlc.runtime.distributed import pick_device

_log = logging.getLogger(__name__)

_BLOCK = 256  # images embedded, and written to the cache, at once
_READ = 64  # image files read at a time
_LEAST_LOOKED_AT = 16  # images of which the constant ones are counted


class EmbeddedImages(NamedTuple):
    """The result of embedding n images, of which k could be read.

    Attributes:
        vectors: (k, d) float32.
        images: The k images.
        keys: (k,) hashes of what is in the images' files, or of their pixels, in hexadecimal.
        readable: (n,) boolean mask of the k images.
        failures: For each of the others, by position, its name and the reason.
    """

    vectors: Tensor
    images: Inputs
    keys: pa.Array
    readable: NDArray[np.bool_]
    failures: dict[int, str]


@dataclass(frozen=True)
class ImageEmbedder:
    """A model with the size at which it sees images, and the cache of its embeddings.

    Attributes:
        model: The network.
        form: The format that images are brought to.
        cache: The folder of the cache, or None.
        device: auto | cpu | cuda | cuda:N.
        waits: Whether one of several processes embeds, and the others wait: see :class:`EmbeddingCache`.
    """

    model: ImageModel
    form: ImageFormat
    cache: Path | None
    device: str
    waits: bool = True

    @classmethod
    def of(
        cls,
        name: str,
        settings: DataSettings,
        digest: str | None = None,
        *,
        background: str | None = "white",
        value_range: tuple[float, float] | None = None,
    ) -> "ImageEmbedder":
        """Load a model, for images of the settings' ``image_size`` and ``resize``.

        Args:
            name: The model, as the setting ``image_model`` names it.
            settings: Settings with the ``embedding_cache``, and what :func:`embedding_place` takes from them.
            digest: Hash of the weights that are expected; None: any.
            background: Colour on which transparent images are composed; None: their alpha channel is dropped.
            value_range: Values that become black and white in images of more than 8 bits; None: such images
                are refused.

        Raises:
            InputError: If the model is not available, or not the one expected.
        """
        model = load_image_model(name)
        if digest is not None and model.digest != digest:
            raise InputError(
                f"image_model: the weights of {name} have changed since the run began; the run needs the "
                "embeddings that it learned from"
            )
        size = settings.image_size or model.pixels
        _check_size(model, size)
        form = ImageFormat((3, size, size), True, settings.resize, background, value_range)
        cache = None if settings.embedding_cache is None else Path(settings.embedding_cache).expanduser()
        return cls(model, form, cache, *embedding_place(settings))

    def pixels(self, images: Tensor) -> Tensor:
        """Bring images (n, c, h, w) to the model's size: (n, 3, height, width) uint8."""
        return torch.from_numpy(np.stack([_resized(image, self.form) for image in images]))

    def __call__(self, images: Inputs, where: str) -> EmbeddedImages:
        """Embed n images; messages name ``where``.

        Raises:
            InputError: If the cache cannot be used.
        """
        failures: dict[int, str] = {}
        keys = _keys(images, self.form, failures)
        known = np.array([k for k in range(len(keys)) if keys[k]], dtype=np.int64)
        store = EmbeddingCache(self.cache, self.model.digest, waits=self.waits)

        def make(rows: NDArray[np.int64]) -> Iterator[Block]:
            return self._embedded(images, known[rows], known, failures, where)

        vectors, there = look_up([keys[k] for k in known], store, make)
        readable = np.zeros(len(keys), dtype=np.bool_)
        readable[known[there]] = True
        rows = np.flatnonzero(readable)
        # Of copies only the first was tried: the others are named, too.
        copies = np.array([k for k in known[~there] if k not in failures], dtype=np.int64)
        for block in _pixels(images, copies, self.form):
            failures |= {int(copies[k]): reason for k, reason in block.failures.items()}
        return EmbeddedImages(
            torch.from_numpy(vectors if there.all() else vectors[there]),
            images.take(rows) if isinstance(images, StoredImages) else images[torch.from_numpy(rows)],
            pa.array([keys[k].hex() for k in rows], pa.large_string()),
            readable,
            failures,
        )

    def _embedded(
        self,
        images: Inputs,
        rows: NDArray[np.int64],
        known: NDArray[np.int64],
        failures: dict[int, str],
        where: str,
    ) -> Iterator[Block]:
        """Yield the embeddings of the images at rows (m,), by their positions among the known ones."""
        device = pick_device(self.device)
        # Single images, one call after another, are not worth a line each.
        level = logging.INFO if len(rows) >= _READ else logging.DEBUG
        _log.log(level, f"{where}: embedding {len(rows):,} images on {device}")
        run = runner(self.model.network, self.form.shape[1], device, len(rows))
        told = False
        for positions, pixels, unreadable in _blocks(_pixels(images, rows, self.form)):
            failures |= {int(rows[k]): reason for k, reason in unreadable.items()}
            if not told and len(positions) >= _LEAST_LOOKED_AT:
                warn_of_empty_images(torch.from_numpy(pixels), where)
                told = True
            if len(positions):
                yield np.searchsorted(known, rows[positions]), run(pixels)


def _check_size(model: ImageModel, size: int) -> None:
    if size == model.pixels:
        return
    try:
        with torch.inference_mode():
            device = next(chain(model.network.parameters(), model.network.buffers())).device
            model.network(torch.zeros(1, 3, size, size, device=device))
    except Exception as error:  # any kind: networks raise what they like for images that they cannot take
        raise InputError(
            f"image_size: {model.name} does not take images of {size} x {size} pixels; by default it sees "
            f"them at {model.pixels}"
        ) from error


def _keys(images: Inputs, form: ImageFormat, failures: dict[int, str]) -> list[bytes]:
    """Return n hashes of images and of their format; for one that cannot be read, b"" and a failure."""
    about = repr(form).encode()
    if isinstance(images, Tensor):
        shape = f"{tuple(images.shape[1:])} {images.dtype}".encode()
        return [content_key(about, shape, image.contiguous().numpy()) for image in images]
    keys = [b""] * len(images)
    for positions, encoded in images.images.fetch(images.rows, _READ):
        for position, image in zip(positions.tolist(), encoded, strict=True):
            try:
                keys[position] = content_key(about, _content(image))
            except (OSError, ValueError) as error:
                reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
                failures[position] = f"{images.images.name(int(images.rows[position]), image)}: {reason}"
    return keys


def _content(image: EncodedImage) -> bytes:
    if image is None:
        raise ValueError("no image in this row")
    if isinstance(image, bytes):
        return image
    check_regular(image)
    return image.read_bytes()


def _pixels(images: Inputs, rows: NDArray[np.int64], form: ImageFormat) -> Iterator[DecodedBlock]:
    """Yield the images at rows (m,) in a format, a few at a time."""
    if isinstance(images, StoredImages):
        yield from decode_all(images.images, images.rows[rows], form)
        return
    for start in range(0, len(rows), _READ):
        positions = np.arange(start, min(start + _READ, len(rows)))
        pixels = [_resized(images[int(rows[k])], form) for k in positions]
        yield DecodedBlock(positions, np.stack(pixels), {})


def _resized(image: Tensor, form: ImageFormat) -> NDArray[np.uint8]:
    """Bring an image (c, h, w), uint8 or float32 in [0, 1], to a format's (3, height, width)."""
    if image.is_floating_point():
        image = (255 * image).round().to(torch.uint8)
    array = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return np.asarray(resized(Image.fromarray(array), form)).transpose(2, 0, 1)


def _blocks(parts: Iterator[DecodedBlock]) -> Iterator[DecodedBlock]:
    """Join blocks into larger ones of readable images."""
    pending: list[DecodedBlock] = []
    for part in parts:
        readable = np.array([int(k) not in part.failures for k in part.positions], dtype=np.bool_)
        pending.append(DecodedBlock(part.positions[readable], part.pixels[readable], part.failures))
        if sum(len(each.positions) for each in pending) >= _BLOCK:
            yield _joined(pending)
            pending = []
    if pending:
        yield _joined(pending)


def _joined(blocks: list[DecodedBlock]) -> DecodedBlock:
    failures = {k: reason for block in blocks for k, reason in block.failures.items()}
    positions, pixels = (np.concatenate(each) for each in list(zip(*blocks, strict=True))[:2])
    return DecodedBlock(positions, pixels, failures)
