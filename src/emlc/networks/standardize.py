"""Standardisation, the first layer of every network, and the statistics it needs."""

from math import prod

import torch
from torch import Tensor, nn

from emlc.data.images.stored import Inputs

STATISTICS_SAMPLE = 5000
"""Number of images, evenly spaced over the set, from which standardisation takes its statistics."""

_VALUES_AT_ONCE = 2**23
"""Number of pixels or features that are read at once for the statistics; 64 MB of float64."""


class Statistics:
    """Mean and standard deviation per channel of images, or per column of features.

    At most :data:`STATISTICS_SAMPLE` images count, evenly spaced over the set, so that sets too large for
    memory are standardised like those that fit.

    Args:
        inputs: (n, d) features or (n, channels, height, width) images, uint8 or in [0, 1].

    Attributes:
        mean: (1, channels, 1, 1) or (1, d) float64; of images after scaling to [0, 1].
        std: (1, channels, 1, 1) or (1, d) float64; divided by n, not n - 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: Inputs) -> None:
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


class Standardize(nn.Module):
    """A layer ``(x - mean) / std``, per channel of images or per column of features.

    Args:
        statistics: Statistics of the training inputs.
        channels: Channels of the output; an only channel of the input is repeated.

    Attributes:
        memory_format: Memory layout of images in the output.
    """

    mean: Tensor
    std: Tensor

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

    def forward(self, inputs: Tensor) -> Tensor:
        standardized = (scaled(inputs) - self.mean) / self.std
        if standardized.ndim == 4:
            return standardized.contiguous(memory_format=self.memory_format)
        return standardized


def scaled(inputs: Tensor) -> Tensor:
    """Return images as float32 in [0, 1], whether stored as uint8 or float; features as float32."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs.float()
