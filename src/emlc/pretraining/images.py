"""The images to pretrain on: all but those of the validation and test sets."""

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
from emlc.data.sources.read import open_source, own_roles
from emlc.data.sources.source import Source
from emlc.errors import InputError
from emlc.runtime.streams import RandomStream, generator


def read_images(settings: PretrainSettings) -> tuple[Inputs, Samples | None]:
    """Images to pretrain on, and the trusted samples among them, if any are named or come with the data.

    With trusted samples the split is that of ``emlc train`` with the same settings and seed. Without,
    labels are read only where a test set has to be drawn by them.

    Raises:
        InputError: If a source is wrong.
    """
    assert settings.data is not None
    named = any(getattr(settings, n) is not None for n in ("trusted", "trusted_column", "trusted_per_class"))
    if named or "trusted" in own_roles(settings.data, settings):
        split, _ = make_split(settings, NoiseSettings(), settings.seed)
        return joined([split.noisy.inputs, split.trusted.inputs]), split.trusted
    has_test = settings.data == "digits" or settings.test_fraction is not None
    source = open_source(settings.data, settings, role="data" if has_test else "predict")
    if has_test:
        rows = draw_rows(source, settings, NoiseSettings(), settings.seed, trusted_given=True).noisy
    else:
        rows = _drawn(source, settings)
    return source.take(rows, settings).inputs, None


def _drawn(source: Source, settings: PretrainSettings) -> NDArray[np.int64]:
    rows = np.arange(len(source))
    if settings.noisy_limit is None or settings.noisy_limit >= len(rows):
        return rows
    return np.sort(generator(settings.seed, RandomStream.NOISY_SET).permutation(rows)[: settings.noisy_limit])


def joined(parts: Sequence[Inputs]) -> Inputs:
    """The inputs of several sets as those of one."""
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return cast(Inputs, JoinedImages(parts))


class JoinedImages:
    """Images of several sets, read when asked for; see :class:`emlc.data.images.stored.StoredImages`.

    Args:
        parts: Sets of images of one shape.
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
        """:meth:`read` with as many threads as there are cores."""
        return self.read(rows)

    def read(self, rows: Tensor, threads: int | None = None) -> Tensor:
        """The images at indices (m,) int64: (m, channels, height, width) uint8."""
        images = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8)
        for part, start in zip(self._parts, self._starts[:-1], strict=True):
            here = (rows >= start) & (rows < start + len(part))
            if here.any():
                wanted = rows[here] - start
                images[here] = part[wanted] if isinstance(part, Tensor) else part.read(wanted, threads)
        return images


def unlabelled(inputs: Inputs) -> Samples:
    """Inputs as samples, whose labels and ids mean nothing."""
    n = len(inputs)
    return Samples(
        inputs=inputs, ids=np.arange(n).astype(np.str_), classes=("",), labels=np.zeros(n, np.int64)
    )


def check_images(inputs: Inputs) -> None:
    """Raise an :class:`InputError` unless inputs are images, and more than one."""
    if inputs.ndim != 4:
        raise InputError(
            "pretraining compares views of images, but the samples are rows of numbers: "
            "`emlc train` learns from them as they are"
        )
    if len(inputs) < 2:
        raise InputError("there is 1 image; pretraining needs at least 2")
