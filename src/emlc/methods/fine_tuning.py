"""The baseline that learns from the given labels first, and then from the trusted ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from emlc.config.hyper import Hyper, within
from emlc.data.loaders import Batch
from emlc.methods.base import Losses, Method


@dataclass(frozen=True, kw_only=True)
class FineTuningHyper(Hyper):
    """Hyper-parameters of fine-tuning.

    Attributes:
        fine_tuned_share: Share of the epochs, at the end, that fine-tune on the trusted samples.
    """

    fine_tuned_share: float = within(0.5, 0, 1)


class FineTuning(Method):
    """Cross-entropy on the noisy set, then on the trusted set, with equally many steps per epoch.

    Only epochs of the second part are candidates for the model choice: the best epoch of the first part
    is what the method cross-entropy gives.
    """

    name: ClassVar[str] = "fine-tuning"
    reference: ClassVar[str] = "Baseline: cross-entropy on the given labels, then on the trusted samples"
    hyper_class: ClassVar[type[Hyper]] = FineTuningHyper
    joint: ClassVar[bool] = True
    capturable: ClassVar[bool] = True

    @property
    def warming_up(self) -> bool:
        share: float = self.hyper.fine_tuned_share
        epochs = self.settings.passes
        return self.epoch < min(round((1 - share) * epochs), epochs - 1)  # one epoch at least

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        (batch,) = noisy
        return {"student_loss": self.descend_cross_entropy(batch if self.warming_up else trusted)}
