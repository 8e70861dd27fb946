"""Ids of samples, each of which must occur once."""

import logging

import numpy as np
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.classes import UNKNOWN, TextLabels, shorten
from emlc.errors import InputError

_log = logging.getLogger(__name__)


def default_ids(n: int, prefix: str, first: int = 0) -> NDArray[np.object_]:
    """Return ids (n,) made of a prefix and the number of the row, from ``first`` on."""
    return np.array([f"{prefix}{row}" for row in range(first, first + n)], dtype=np.object_)


def unique_ids(
    labels: TextLabels, where: str, settings: DataSettings
) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Check that each of n samples has an id of its own, or make it so as the settings say.

    Args:
        labels: The ids.
        where: File or array, for messages.
        settings: What to do with ``repeated_ids``.

    Returns:
        The ids, (n,) Python strings, and (n,) bool, which samples are left out as their id has occurred.

    Raises:
        InputError: If an id is missing, or occurs more than once and the settings do not say what to do.
    """
    missing = labels.codes == UNKNOWN
    if missing.any():
        row = int(np.argmax(missing))
        raise InputError(
            f"{where}: row {row} has no id ({missing.sum():,} rows have none); --id_column names another "
            "column"
        )
    repeated = np.flatnonzero(np.bincount(labels.codes) > 1)
    again = np.zeros(len(labels), dtype=np.bool_)
    if len(repeated) == 0:
        return labels.decoded(), again
    if settings.repeated_ids == "error":
        raise InputError(_repeated_message(labels, repeated.tolist(), where))
    first = np.unique(labels.codes, return_index=True)[1]
    again[:] = True
    again[first] = False
    if settings.repeated_ids == "first":
        _log.warning(f"{where}: left out {again.sum():,} rows whose id has occurred before")
        return _numbered(labels, again), again
    _log.warning(f"{where}: numbered {again.sum():,} rows whose id has occurred before: ID#2, ID#3")
    return _numbered(labels, again), np.zeros(len(labels), dtype=np.bool_)


def _repeated_message(labels: TextLabels, repeated: list[int], where: str) -> str:
    repeated.sort(key=lambda code: labels.texts[code])
    examples = [
        f"{labels.texts[code]!r} in rows {shorten(np.flatnonzero(labels.codes == code).tolist(), 5)}"
        for code in repeated[:5]
    ]
    return (
        f"{where}: {len(repeated)} ids occur more than once: {'; '.join(examples)}; --id_column names "
        "another column, --repeated_ids first leaves later rows of an id out, and --repeated_ids number "
        "keeps them as samples of their own"
    )


def _numbered(labels: TextLabels, again: NDArray[np.bool_]) -> NDArray[np.object_]:
    ids, taken = labels.decoded(), set(labels.texts)
    number = dict.fromkeys(labels.texts, 1)
    for row in np.flatnonzero(again):
        base = ids[row]
        while ids[row] in taken:
            number[base] += 1
            ids[row] = f"{base}#{number[base]}"
        taken.add(ids[row])
    return ids
