"""MLC without what it computes and does not use, as a stricter opponent for the time of EMLC's step."""

from typing import ClassVar

from emlc.methods.mlc import MLC


class PrunedMLC(MLC):
    """MLC without ``g`` in iterations that have no history to discount: the same results, for k = 1 faster.

    The published code computes it always.
    """

    name: ClassVar[str] = "mlc-pruned"
    measures_unused_discount: ClassVar[bool] = False
