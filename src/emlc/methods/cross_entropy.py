"""The baseline that trusts every given label."""

from collections.abc import Sequence
from typing import ClassVar

from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method


class CrossEntropy(Method):
    """Empirical risk minimisation on the given labels of the noisy set (paper, Eq. 2)."""

    name: ClassVar[str] = "cross-entropy"
    reference: ClassVar[str] = "Baseline: believes the given labels"
    joint: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    uses_trusted: ClassVar[bool] = False

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        return {"student_loss": self.descend_cross_entropy(batch)}
