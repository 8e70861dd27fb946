"""MLC without the gradient that it computes and does not use: a stricter comparison for EMLC's step."""

from typing import ClassVar

from emlc.methods.mlc import MLC


class PrunedMLC(MLC):
    """MLC that skips ``g`` in iterations without a history to discount: the same results, faster for k = 1.

    The published code always computes it.
    """

    name: ClassVar[str] = "mlc-pruned"
    measures_unused_discount: ClassVar[bool] = False
