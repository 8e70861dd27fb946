"""Two networks that a method trains side by side, as one student."""

import torch
from torch import Tensor, nn

from emlc.networks.backbones import Classifier


class Pair(nn.Module):
    """Two classifiers as one: maps inputs (n, ...) to the mean of their logits (n, C).

    Args:
        one: A classifier.
        other: Another classifier, of the same classes.
    """

    def __init__(self, one: Classifier, other: Classifier) -> None:
        super().__init__()
        self.one, self.other = one, other
        self.backbone = _Features(one.backbone, other.backbone)

    @property
    def both(self) -> tuple[Classifier, Classifier]:
        """The two networks, numbers 0 and 1."""
        return self.one, self.other

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = (self.one(inputs) + self.other(inputs)) / 2
        return logits


class _Features(nn.Module):
    """Both networks' features (n, 2 d), side by side, for the report's map of the samples."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        # A tuple, so that they are not registered twice: the classifiers have them in the state dict.
        self._both = (one, other)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([backbone(inputs).flatten(1) for backbone in self._both], dim=1)
