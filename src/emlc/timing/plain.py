"""The straightforward EMLC step, which the fast paths are measured against."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import ClassVar
from unittest.mock import patch

import torch
from torch import nn

from emlc.data.loaders import Batch
from emlc.methods.base import Losses
from emlc.methods.emlc import EMLC


class PlainEMLC(EMLC):
    """EMLC with torch's own forward-mode AD, no products kept for it, and an optimiser that is not fused."""

    name: ClassVar[str] = "emlc-plain"

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        with patch("emlc.meta.jvp.Tangents", lambda products: nullcontext()):
            return self.plain_step(noisy, trusted)

    def plain_step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        """Take the step, within torch's own forward-mode AD."""
        return super().step(noisy, trusted)

    def make_sgd(self, network: nn.Module, learning_rate: float, **options: float | None) -> torch.optim.SGD:
        sgd = super().make_sgd(network, learning_rate, **options)
        for group in sgd.param_groups:
            group["fused"] = False
        return sgd

    @property
    def keeps_products(self) -> bool:
        return False
