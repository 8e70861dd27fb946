"""How samples were chosen for review: a word of each, or nothing where that is not known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDERS = ("worst", "random", "picked")
"""How samples are chosen: the worst labels first, in a random order, or by a person."""


def counts_as_random(chosen: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Return (n,) bool, whether samples count as drawn at random: also where it is not known."""
    words: NDArray[Any] = chosen.astype(str)
    return np.isin(words, ("", "random"))
