"""Marks of the rows whose labels are trusted, as people make them: yes and no, 1 and 0, x and blank."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emlc.data.classes import UNKNOWN, text_labels
from emlc.errors import InputError

_TRUTH_VALUES = {
    **dict.fromkeys(("true", "t", "yes", "y", "x", "1", "1.0", "\u2713", "\u2714"), 1),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0", ""), 0),
}


def trusted_marks(values: ArrayLike, where: str) -> NDArray[np.bool_]:
    """Convert marks (n,) to booleans; a missing or blank mark is no.

    Raises:
        InputError: If a mark is none that is known; names its row.
    """
    labels = text_labels(values, f"{where}: trusted column")
    meanings = [_TRUTH_VALUES.get(text.strip().lower(), UNKNOWN) for text in labels.texts]
    mask = np.array([*meanings, 0])[labels.codes]  # missing values have code -1: the last entry
    unclear = mask == UNKNOWN
    if unclear.any():
        row, others = int(np.argmax(unclear)), int(unclear.sum()) - 1
        more = f" (like {others:,} other rows)" if others else ""
        raise InputError(
            f"{where}: row {row}{more}: expected true or false (1 or 0, yes or no, x or blank) in the "
            f"trusted column, found {labels.decoded()[row]!r}"
        )
    return mask.astype(np.bool_)
