"""The baseline that believes every label."""

from collections.abc import Sequence
from typing import ClassVar

from torch.nn.functional import cross_entropy

from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method, descend


class CrossEntropy(Method):
    """Empirical risk minimisation on the given labels of the noisy set (paper, Eq. 2)."""

    name: ClassVar[str] = "cross-entropy"
    uses_trusted: ClassVar[bool] = False

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        loss = cross_entropy(self.student(batch.inputs), batch.labels)
        descend(loss, self.student_sgd)
        return {"student_loss": loss.detach()}
