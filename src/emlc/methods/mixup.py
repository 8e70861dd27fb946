"""Mixup (Zhang et al., ICLR 2018), as MixMatch has it: each sample stays the greater part of its mixture."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Beta

from emlc.networks.standardize import scaled


class Mixture(NamedTuple):
    """``l * x + (1 - l) * x[partners]`` of n samples x, with one ``l`` for all.

    Attributes:
        share: 0-d in [0.5, 1], on the CPU: l.
        partners: (n,) int64, a permutation, on the samples' device.
    """

    share: Tensor
    partners: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Values (n, ...) of the mixtures; images that are stored as uint8 come as float32 in [0, 1].

        Standardisation, the first layer of every network, is affine: mixing before it is mixing after it.
        """
        values = scaled(values) if values.dtype == torch.uint8 else values
        return self.share * values + (1 - self.share) * values[self.partners]


def draw_mixture(n: int, alpha: float, device: torch.device) -> Mixture:
    """``l = max(b, 1 - b)`` with b from Beta(alpha, alpha), drawn from torch's generators."""
    share = Beta(alpha, alpha).sample()
    return Mixture(torch.maximum(share, 1 - share), torch.randperm(n, device=device))
