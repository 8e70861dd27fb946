"""Mixup (Zhang et al., ICLR 2018) as in MixMatch: each sample keeps the larger share of its mixture."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Beta

from emlc.networks.standardize import scaled


class Mixture(NamedTuple):
    """The mixtures ``l * x + (1 - l) * x[partners]`` of n samples x, with one ``l`` for all.

    Attributes:
        share: l, 0-d in [0.5, 1], on the CPU.
        partners: (n,) int64, a permutation, on the samples' device.
    """

    share: Tensor
    partners: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Mix values (n, ...); images stored as uint8 become float32 in [0, 1].

        Standardisation, the first layer of every network, is affine: it does not matter whether one mixes
        before or after it.
        """
        values = scaled(values) if values.dtype == torch.uint8 else values
        return self.share * values + (1 - self.share) * values[self.partners]


def draw_mixture(n: int, alpha: float, device: torch.device) -> Mixture:
    """Draw partners and ``l = max(b, 1 - b)``, b from Beta(alpha, alpha), with torch's global generators."""
    share = Beta(alpha, alpha).sample()
    return Mixture(torch.maximum(share, 1 - share), torch.randperm(n, device=device))
