"""Sources that are read some rows at a time, by one process or several.

Of parquet files, and of .npz files that are not compressed, nothing else is held in memory. Of other sources
ids and labels are, and the inputs, too, unless these are images or texts.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emlc.config import DataSettings
from emlc.data.images.encoded import ImageFiles
from emlc.data.row_checks import RowCheck, why_not_alone
from emlc.data.rows_on_disk import Portions, RowsOnDisk, files_of, rows_on_disk, stated, take_or_none
from emlc.data.samples import Samples
from emlc.data.sources.read import open_source, with_image_model
from emlc.data.sources.source import Role, Schema, Source
from emlc.runtime.distributed import Ranks

_log = logging.getLogger(__name__)

_MANY = 2**18
"""Number of rows from which on it is told that they are held in memory."""


class SamplesInMemory(Portions):
    """Samples that have been read already.

    Args:
        samples: The samples.
        identity: What :meth:`identity` returns.
    """

    def __init__(self, samples: Samples, identity: list[Any]) -> None:
        self._samples, self._identity = samples, identity
        self.rows = len(samples)

    def read(self, start: int, stop: int) -> Samples:
        return self._samples.take(np.arange(start, stop))

    def identity(self) -> list[Any]:
        return self._identity


class _Encoded(Portions):
    """Images or texts, which are decoded and embedded some at a time."""

    def __init__(self, source: Source, settings: DataSettings, files: Sequence[Path]) -> None:
        self._source, self._settings, self._files = source, settings, files
        self._in_use = source.rows_in_use
        self.rows = len(self._in_use)

    def read(self, start: int, stop: int) -> Samples | None:
        return take_or_none(self._source, self._in_use[start:stop], self._settings)

    def identity(self) -> list[Any]:
        inputs, paths = self._source.inputs, list(self._files)
        if isinstance(inputs, ImageFiles):
            paths += map(Path, inputs.identities(self._in_use).to_pylist())
        ids = pd.util.hash_array(self._source.ids, categorize=False).sum(dtype=np.uint64)
        return [self._source.name, self.rows, int(ids), *map(stated, paths)]


def open_portions(
    source: str, settings: DataSettings, ranks: Ranks, *, role: Role, schema: Schema | None = None
) -> Portions:
    """Open a source that is read some rows at a time; every rank calls this.

    Args:
        source: As of :func:`emlc.data.read`.
        settings: As of :func:`emlc.data.read`.
        ranks: The processes, each of which looks at the ids and labels of its share of the rows.
        role: What the samples are for.
        schema: How the training data were read.

    Raises:
        InputError: If the source does not exist or its content is wrong.
    """
    with ranks.errors_everywhere():
        files, rows = files_of(source, role), rows_on_disk(source, settings, role, schema)
        check = None if rows is None else _check(rows, ranks, source)
    checks = ranks.at_first(check)
    reason = ranks.from_first(lambda: _reason(checks, settings))
    if rows is not None and reason is None:
        return rows
    with ranks.errors_everywhere():
        opened = open_source(source, settings, role=role, schema=schema)
        opened = with_image_model(opened, settings.image_model)
        if opened.has_images or opened.texts is not None:
            return _Encoded(opened, settings, files)
        if len(opened) >= _MANY:
            _log.info(f"{source}: held in memory by each process: {reason}")
        return SamplesInMemory(
            opened.take(opened.rows_in_use, settings), [source, len(opened), *map(stated, files)]
        )


def _check(rows: RowsOnDisk, ranks: Ranks, where: str) -> RowCheck:
    """Check the ids and labels of this rank's share of the rows; the first rank checks the file, too."""
    if ranks.is_first:
        rows.check_file()
    start, stop = (rows.rows * k // ranks.size for k in (ranks.rank, ranks.rank + 1))
    return RowCheck.of(rows.annotated(start, stop), where)


def _reason(checks: Sequence[RowCheck | None], settings: DataSettings) -> str | None:
    """Return why a source cannot be read in blocks, or None."""
    there = [check for check in checks if check is not None]
    if len(there) < len(checks):
        return "parquet files, and .npz files of numpy.savez, are read in blocks"
    return why_not_alone(there, settings)
