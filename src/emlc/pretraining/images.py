"""The images to pretrain on: all except those of the validation and test sets."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emlc.config import NoiseSettings, PretrainSettings
from emlc.data import Samples, make_split
from emlc.data.draw import draw_rows
from emlc.data.images.stored import Inputs
from emlc.data.sources.read import bundled_roles, open_source
from emlc.data.sources.source import Source
from emlc.errors import InputError
from emlc.runtime.streams import RandomStream, generator


def read_images(settings: PretrainSettings) -> tuple[Inputs, Samples | None]:
    """Read the images to pretrain on, and the trusted samples among them, if there are any.

    With trusted samples the split is that of ``emlc train`` with the same settings and seed. Without trusted
    samples, labels are read only if a test set has to be drawn.

    Raises:
        InputError: a source is missing or wrong.
    """
    assert settings.data is not None
    options = ("trusted", "trusted_column", "trusted_per_class")
    has_trusted = any(getattr(settings, name) is not None for name in options)
    if has_trusted or "trusted" in bundled_roles(settings.data):
        split, _ = make_split(settings, NoiseSettings(), settings.seed)
        return joined([split.noisy.inputs, split.trusted.inputs]), split.trusted
    has_test = settings.data == "digits" or settings.test_fraction is not None
    source = open_source(settings.data, settings, role="data" if has_test else "predict")
    if has_test:
        rows = draw_rows(source, settings, NoiseSettings(), settings.seed, has_trusted_source=True).noisy
    else:
        rows = _draw_rows(source, settings)
    return source.take(rows, settings).inputs, None


def _draw_rows(source: Source, settings: PretrainSettings) -> NDArray[np.int64]:
    """Return all rows in use of a source, or ``noisy_limit`` of them, drawn at random."""
    rows = source.rows_in_use
    if settings.noisy_limit is None or settings.noisy_limit >= len(rows):
        return rows
    return np.sort(generator(settings.seed, RandomStream.NOISY_SET).permutation(rows)[: settings.noisy_limit])


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Join the inputs of several sets."""
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return cast(Inputs, JoinedImages(parts))


class JoinedImages:
    """Images of several sets, read on access; see :class:`emlc.data.images.stored.StoredImages`.

    Args:
        parts: Sets of images of equal shape.
    """

    ndim = 4
    dtype = torch.uint8

    def __init__(self, parts: Sequence[Inputs]) -> None:
        self._parts = parts
        self._starts = torch.tensor([0, *np.cumsum([len(part) for part in parts])])

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, channels, height, width)."""
        return (len(self), *self._parts[0].shape[1:])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Read the images at indices (m,) with as many threads as there are cores; see :meth:`read`."""
        return self.read(rows)

    def read(self, rows: Tensor, threads: int | None = None) -> Tensor:
        """Read the images at indices (m,) int64 as (m, channels, height, width) uint8."""
        images = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8)
        for part, start in zip(self._parts, self._starts[:-1], strict=True):
            in_part = (rows >= start) & (rows < start + len(part))
            if in_part.any():
                part_rows = rows[in_part] - start
                images[in_part] = (
                    part[part_rows] if isinstance(part, Tensor) else part.read(part_rows, threads)
                )
        return images


def unlabelled(inputs: Inputs) -> Samples:
    """Make samples of inputs, with placeholders for labels and ids."""
    n = len(inputs)
    return Samples(
        inputs=inputs, ids=np.arange(n).astype(np.str_), classes=("",), labels=np.zeros(n, np.int64)
    )


def check_images(inputs: Inputs) -> None:
    """Raise an :class:`InputError` unless the inputs are two or more images."""
    if inputs.ndim != 4:
        raise InputError(
            "pretraining compares views of images, but the samples are rows of numbers: "
            "`emlc train` learns from them as they are"
        )
    if len(inputs) < 2:
        raise InputError("there is 1 image; pretraining needs at least 2")
