"""Whether the rows of a source mean the same when they are read some at a time, without the others.

Ids must differ over all rows. Labels that are texts become integers where all of them are whole numbers,
"1.0" as well as "1": with others beside them, "1.0" stays as it is.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from emlc.config import DataSettings
from emlc.data.classes import UNKNOWN, is_integer, text_labels
from emlc.errors import InputError


@dataclass(frozen=True)
class RowCheck:
    """What is known of some rows.

    Attributes:
        problem: Why they cannot be read without the others; None: nothing speaks against it.
        ids: (n,) hashes of their ids, 64 bits each; none where row numbers are the ids.
        labels: The distinct labels that are texts.
    """

    problem: str | None
    ids: NDArray[np.uint64]
    labels: frozenset[str]

    @classmethod
    def of(cls, blocks: Iterable[tuple[ArrayLike | None, Sequence[ArrayLike]]], where: str) -> "RowCheck":
        """Check rows block by block.

        Args:
            blocks: Ids (m,) or None, and the columns (m,) of given and true labels.
            where: Name of the source, for messages.
        """
        hashes: list[NDArray[np.uint64]] = []
        labels: set[str] = set()
        try:
            for ids, columns in blocks:
                if ids is not None:
                    hashes.append(_hashes(ids, where))
                for column in columns:
                    labels |= _texts(column, where)
        except (ValueError, pa.ArrowException) as error:  # read together, they get a message of their own
            return cls(str(error), np.empty(0, np.uint64), frozenset())
        return cls(None, np.concatenate([np.empty(0, np.uint64), *hashes]), frozenset(labels))


def why_not_alone(checks: Sequence[RowCheck], settings: DataSettings) -> str | None:
    """Return why the rows of all checks have to be read together; None if they need not."""
    for check in checks:
        if check.problem:
            return check.problem
    if settings.merge_spellings:
        return "spellings of classes are merged"
    if settings.repeated_ids != "error":
        return f"repeated_ids is {settings.repeated_ids!r}"
    ids = np.sort(np.concatenate([check.ids for check in checks]))
    if (ids[1:] == ids[:-1]).any():
        return "an id may occur more than once"
    labels = frozenset().union(*(check.labels for check in checks))
    if any(map(_is_dotted, labels)) and not all(_is_dotted(text) or is_integer(text) for text in labels):
        return "labels are whole numbers with a point beside others"
    return None


def _hashes(ids: ArrayLike, where: str) -> NDArray[np.uint64]:
    labels = text_labels(ids, where)
    if len(labels.texts) < len(labels) or (labels.codes == UNKNOWN).any():
        raise InputError(f"{where}: an id is missing, or occurs more than once")
    hashes: NDArray[np.uint64] = pd.util.hash_array(labels.decoded(), categorize=False)
    return hashes


def _texts(column: Any, where: str) -> set[str]:
    values = column if isinstance(column, pd.Series) else np.asarray(column)
    is_text = pd.api.types.is_object_dtype(values.dtype) or pd.api.types.is_string_dtype(values.dtype)
    return set(text_labels(values, where).texts) if is_text or values.dtype.kind in "US" else set()


def _is_dotted(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+\.0*", text) is not None
