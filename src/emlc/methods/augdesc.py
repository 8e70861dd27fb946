"""Augmented Descent: targets from weakly augmented views, learned on strongly augmented ones.

Nishi, Ding, Rich and Hoellerer: Augmentation Strategies for Learning with Noisy Labels, CVPR 2021.

This is :mod:`emlc.methods.dividemix` with four views per sample, "AugDesc-WS": two weak views, whose
predictions give the targets, and two strong views (AutoAugment), on which they are learned:

    target = as in DivideMix, from the predictions for the weak views
    loss   = L_x + lambda_u L_u + L_reg, on mixtures of the strong views

The division is computed without augmentation. The warm-up sees weak views, or with ``strong_warm_up`` strong
views, the paper's "SAW": a little better on Clothing1M (75.1 against 74.7 % accuracy), far worse on CIFAR-10
at 90 % symmetric noise (35.3 against 91.9 %).

Weak is ``noisy_augmentation``, strong is ``trusted_augmentation``; feature rows are not augmented, so all
their views are equal.

Departures: those of DivideMix.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emlc.config.hyper import Hyper, within
from emlc.data.loaders import Batch
from emlc.methods.base import View
from emlc.methods.dividemix import DivideMix, DivideMixHyper


@dataclass(frozen=True, kw_only=True)
class AugDescHyper(DivideMixHyper):
    """Hyper-parameters of AugDesc: those of DivideMix, and one more.

    Attributes:
        strong_warm_up: Whether the warm-up sees strong views.
    """

    strong_warm_up: bool = within(False)


class AugDesc(DivideMix):
    """DivideMix that guesses on weak views and learns on strong ones."""

    name: ClassVar[str] = "augdesc"
    reference: ClassVar[str] = (
        "Augmentation Strategies for Learning with Noisy Labels, Nishi et al., CVPR 2021"
    )
    warm_up_share: ClassVar[float] = 10 / 300
    hyper_class: ClassVar[type[Hyper]] = AugDescHyper
    views: ClassVar[tuple[View, ...]] = ("weak", "weak", "strong", "strong")
    hyper: AugDescHyper

    def warm_up_views(self, batch: Batch) -> tuple[Tensor, ...]:
        return batch.views[2:] if self.hyper.strong_warm_up else batch.views[:2]

    def guessing_views(self, batch: Batch) -> tuple[Tensor, ...]:
        return batch.views[:2]

    def learning_views(self, batch: Batch) -> tuple[Tensor, ...]:
        return batch.views[2:]
