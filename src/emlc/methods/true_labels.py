"""The ceiling: what the same training would reach if no label were wrong."""

from collections.abc import Sequence
from typing import ClassVar

import torch

from emlc.data import Split
from emlc.data.classes import UNKNOWN
from emlc.data.loaders import Batch
from emlc.errors import InputError
from emlc.methods.base import Losses, Method


class TrueLabels(Method):
    """Cross-entropy on the true labels of the noisy set, for experiments in which they are known."""

    name: ClassVar[str] = "true-labels"
    reference: ClassVar[str] = "Ceiling: cross-entropy on the true labels, where they are known"
    joint: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    uses_trusted: ClassVar[bool] = False

    def check(self, split: Split) -> None:
        truth = split.noisy.true_labels
        unknown = len(split.noisy) if truth is None else int((truth == UNKNOWN).sum())
        if truth is None or unknown:
            raise InputError(f"method: true-labels needs true labels; {unknown:,} noisy samples have none")

    def bind(self, split: Split) -> None:
        super().bind(split)
        self._truth = torch.from_numpy(split.noisy.true_labels).to(self.ranks.device)

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        (batch,) = noisy
        return {
            "student_loss": self.descend_cross_entropy(batch._replace(labels=self._truth[batch.positions]))
        }
