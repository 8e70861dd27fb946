"""Dropout of half of the units, whose mask is drawn in bytes."""

import torch
from torch import Tensor, nn


class HalfDropout(nn.Dropout):
    """Dropout with probability 1/2, as :class:`torch.nn.Dropout` does it, but in a tenth of its time on CPUs.

    There torch draws a mask number by number, which takes as long as two products of a small network's layer.
    One bit of each random byte says as much.
    """

    def __init__(self) -> None:
        super().__init__(0.5)

    def forward(self, input: Tensor) -> Tensor:
        """Return inputs of any shape, half of them zero and the others doubled while it trains."""
        if not self.training or input.device.type != "cpu":
            return super().forward(input)
        return input * _zeros_and_twos(input).to(input.dtype)


def _zeros_and_twos(like: Tensor) -> Tensor:
    n = like.numel()
    numbers = torch.empty(-(-n // 8), dtype=torch.int64).random_(-(2**63), None)  # all 64 bits
    return numbers.view(torch.uint8)[:n].view(like.shape).bitwise_and_(2)
