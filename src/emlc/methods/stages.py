"""The stages of methods that correct labels first, and then learn anew from what they know."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from emlc.config import Settings
from emlc.meta.replay import copies


class Stages(NamedTuple):
    """Three stages of a run: labels as given, labels being corrected, labels fixed.

    Attributes:
        correction: The first epoch in which labels are corrected, from 0.
        final: The first epoch of the last stage; the number of epochs if there is no last stage.
    """

    correction: int
    final: int

    @classmethod
    def of(cls, settings: Settings, final_share: float) -> "Stages":
        """Return the stages of a run whose last stage takes ``final_share`` of the epochs.

        The warm-up comes before the correction. If it leaves too few epochs, the last stage is shortened,
        so that there is at least one epoch of correction.
        """
        final = settings.passes - round(final_share * settings.passes)
        return cls(settings.warm_up, max(final, settings.warm_up + 1))


class InitialWeights:
    """The weights that a network begins with, kept for a stage that begins with them again.

    Checkpoints have to hold them: those of a run that goes on may no longer be where they were read from.
    """

    def __init__(self, network: nn.Module) -> None:
        self._weights = copies(network.state_dict())

    def state(self) -> dict[str, Tensor]:
        """The tensors by name, for :meth:`Method.sample_state`."""
        return {f"initial.{name}": tensor for name, tensor in self._weights.items()}

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Give the network its initial weights again; its optimiser forgets what it did."""
        network.load_state_dict(self._weights)
        optimizer.state.clear()
