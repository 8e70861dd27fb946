"""The baseline that ignores the noisy set."""

from collections.abc import Sequence
from typing import ClassVar

from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method


class TrustedOnly(Method):
    """Cross-entropy on the trusted set alone, for as many steps as the other methods take."""

    name: ClassVar[str] = "trusted-only"
    reference: ClassVar[str] = "Baseline: learns from the trusted samples alone"
    joint: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    uses_noisy: ClassVar[bool] = False

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        return {"student_loss": self.descend_cross_entropy(trusted)}
