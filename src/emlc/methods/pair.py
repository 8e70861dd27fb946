"""Two networks of a method that trains them side by side, as one student."""

import torch
from torch import Tensor, nn

from emlc.networks.backbones import Classifier


class Pair(nn.Module):
    """Inputs (n, ...) to the mean of two networks' logits (n, C).

    Args:
        one: A classifier.
        other: Another, of the same classes.
    """

    def __init__(self, one: Classifier, other: Classifier) -> None:
        super().__init__()
        self.one, self.other = one, other
        self.backbone = _Features(one.backbone, other.backbone)

    @property
    def both(self) -> tuple[Classifier, Classifier]:
        """The two networks; in this order they are numbered."""
        return self.one, self.other

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = (self.one(inputs) + self.other(inputs)) / 2
        return logits


class _Features(nn.Module):
    """Both networks' features (n, 2 d), side by side, for pictures of them."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        # In a tuple they are not registered: the classifiers hold them, and a state dict must not twice.
        self._both = (one, other)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([backbone(inputs).flatten(1) for backbone in self._both], dim=1)
