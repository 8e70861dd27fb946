"""Contrast to Divide: DivideMix that starts from self-supervised features.

Zheltonozhskii, Baskin, Mendelson, Bronstein and Litany: Contrast to Divide: Self-Supervised Pre-Training for
Learning with Noisy Labels, WACV 2022.

Both backbones start from weights learned without labels (SimCLR on the same images), so that a short warm-up
of 5 epochs is enough to tell right from wrong labels before the networks fit the wrong ones. Everything else
is :mod:`emlc.methods.dividemix`, except that, as in the published code, gradients are clipped to a norm of 1
in the warm-up, and the threshold to the probabilities that there are: at least one sample is labelled, and
at least one is not. Without initial weights this would be plain DivideMix, so ``init`` has to be given; it
may name any weights, as the paper also compares those of ImageNet.

The published code has 360 epochs, and averages losses at 90 % noise or more. At 20 % symmetric and 40 %
asymmetric noise lambda_u is 0 for CIFAR-10 and 150 for CIFAR-100. The command for CIFAR-100 at 80 % has
lambda_u = 500 and a threshold of 0.03, that for Clothing1M a threshold of 0.7, lambda_u = 0 and AdamW.

Departures: those of DivideMix. Averaged losses do not include those of the warm-up, as they do in the code.
The code computes the second network's division only after it has trained the first network for an epoch.
"""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from emlc.config import Settings
from emlc.methods.dividemix import DivideMix

_MARGIN = 1e-5
"""Least distance of the threshold from the smallest and the largest probability of being right."""


class C2D(DivideMix):
    """DivideMix from pretrained backbones, with a short warm-up."""

    name: ClassVar[str] = "c2d"
    reference: ClassVar[str] = (
        "Contrast to Divide: Self-Supervised Pre-Training for Learning with Noisy Labels, Zheltonozhskii "
        "et al., WACV 2022"
    )
    warm_up_share: ClassVar[float] = 5 / 360
    warm_up_norm: ClassVar[float] = 1.0

    @classmethod
    def setting_problems(cls, settings: Settings) -> Iterator[str]:
        if settings.init == "none":
            yield "init: c2d starts from weights learned without labels, as `emlc pretrain` writes; got none"

    def threshold_of(self, clean: Tensor) -> Tensor:
        least, most = clean.aminmax()
        # As numpy's clip does, for which the upper bound wins.
        return super().threshold_of(clean).maximum(least + _MARGIN).minimum(most - _MARGIN)
