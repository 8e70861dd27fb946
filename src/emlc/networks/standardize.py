"""Standardisation, the first layer of every network, and the statistics it needs."""

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from emlc.data.images.stored import Inputs
from emlc.runtime.streams import RandomStream, torch_generator

Scaling = Literal["columns", "whole", "components"]
"""How rows of features are standardised: see :class:`Statistics`."""

COMPONENTS = 256
"""Largest number of principal components of features that are kept."""

STATISTICS_SAMPLE = 5000
"""Number of images, evenly spaced over the set, from which standardisation takes its statistics."""

_COMPONENT_ROWS = 20_000
"""Largest number of rows, evenly spaced over the set, from which the components are computed."""

_VALUES_AT_ONCE = 2**23
"""Number of pixels or features that are read at once for the statistics; 64 MB of float64."""


class Statistics:
    """Mean and standard deviation per channel of images, or per column of features.

    At most :data:`STATISTICS_SAMPLE` images count, evenly spaced over the set, so that sets too large for
    memory are standardised like those that fit.

    Args:
        inputs: (n, d) features or (n, channels, height, width) images, uint8 or in [0, 1].
        scaling: How features are standardised. columns: each by its own deviation. whole: all by one number.
            components: reduced to at most :data:`COMPONENTS` principal components, all divided by one number
            and rotated at random. Components differ in variance: divided by its own deviation each,
            noise would weigh as much as what matters. Rotated, they do not differ.

    Attributes:
        mean: (1, channels, 1, 1) or (1, d) float64; of images after scaling to [0, 1].
        std: (1, channels, 1, 1), (1, d), or (1, k) of components, float64; divided by n, not n - 1.
        basis: (d, k) float64, orthonormal columns by which centred features are multiplied; None: as they
            are.
    """

    mean: Tensor
    std: Tensor
    basis: Tensor | None = None

    def __init__(self, inputs: Inputs, scaling: Scaling = "columns") -> None:
        n, channels = inputs.shape[:2]
        size = min(n, STATISTICS_SAMPLE) if inputs.ndim == 4 else n
        rows_at_once = max(1, _VALUES_AT_ONCE // prod(inputs.shape[1:]))
        count, mean, squares = 0, *torch.zeros(2, channels, dtype=torch.float64)
        for rows in (torch.arange(size) * n // size).split(rows_at_once):
            x = scaled(inputs[rows]).double().transpose(0, 1).flatten(1)
            # Chan et al. 1983: merge the means of two parts, and their sums of squares about the mean.
            total = count + x.shape[1]
            delta = x.mean(dim=1) - mean
            squares += x.var(dim=1, correction=0) * x.shape[1] + delta**2 * (count * x.shape[1] / total)
            mean += delta * (x.shape[1] / total)
            count = total
        shape = (1, channels, *(1,) * (inputs.ndim - 2))
        self.mean, self.std = mean.view(shape), (squares / count).sqrt().view(shape)
        if inputs.ndim == 2 and scaling == "components":
            self.basis, variance = _components(inputs, self.mean)
            self.std = variance.sqrt().expand(1, self.basis.shape[1])
        elif inputs.ndim == 2 and scaling == "whole":
            self.std = self.std.square().mean().sqrt().expand_as(self.std)


class Standardize(nn.Module):
    """A layer ``(x - mean) / std``, per channel of images or per column of features.

    With a basis, features are multiplied by it before they are divided: ``(x - mean) @ basis / std``.

    Args:
        statistics: Statistics of the training inputs.
        channels: Channels of the output; an only channel of the input is repeated.

    Attributes:
        memory_format: Memory layout of images in the output.
    """

    mean: Tensor
    std: Tensor
    basis: Tensor | None

    def __init__(self, statistics: Statistics, channels: int | None = None) -> None:
        super().__init__()
        # Convolutions and pooling on the CPU, and bf16 ones on the GPU, are faster on this layout.
        self.memory_format = torch.channels_last
        # A constant column has no information: it becomes zero, without a division by zero.
        std = torch.where(statistics.std > 0, statistics.std, 1.0)
        for name, values in (("mean", statistics.mean), ("std", std)):
            # One channel is repeated by broadcasting against the statistics of several.
            shape = (-1, channels or -1, *(-1,) * (values.ndim - 2))
            self.register_buffer(name, values.float().expand(shape).clone())
        self.register_buffer("basis", None if statistics.basis is None else statistics.basis.float())

    def forward(self, inputs: Tensor) -> Tensor:
        centred = scaled(inputs) - self.mean
        standardized = (centred if self.basis is None else centred @ self.basis) / self.std
        if standardized.ndim == 4:
            return standardized.contiguous(memory_format=self.memory_format)
        return standardized


def _components(inputs: Inputs, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis (d, k) of the first principal components, rotated, and their mean variance.

    The rotation is a constant, so that the same inputs give the same basis.
    """
    n, d = len(inputs), inputs.shape[1]
    size, k = min(n, _COMPONENT_ROWS), min(d, COMPONENTS)
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for rows in (torch.arange(size) * n // size).split(max(1, _VALUES_AT_ONCE // d)):
        centred = inputs[rows].double() - mean
        covariance += centred.T @ centred / size
    if covariance.is_meta or not covariance.any():  # a stand-in for inputs, whose statistics come from a file
        return torch.eye(d, k, dtype=torch.float64), covariance.new_zeros(())
    variances, vectors = torch.linalg.eigh(covariance)  # in rising order
    noise = torch.randn(
        k, k, generator=torch_generator(0, RandomStream.FEATURE_ROTATION), dtype=torch.float64
    )
    return vectors[:, -k:] @ torch.linalg.qr(noise).Q, variances[-k:].mean()


def scaled(inputs: Tensor) -> Tensor:
    """Return images as float32 in [0, 1], whether stored as uint8 or float; features as float32."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs.float()
