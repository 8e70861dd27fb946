"""Samples that are drawn to be checked: a table to fill in, and a page to look at them on."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from emlc.data.classes import TextLabels
from emlc.data.images.encoded import EncodedImages, ImageFiles
from emlc.data.samples import Samples
from emlc.data.sources.checked import CHECKED, Checked
from emlc.data.sources.source import Source
from emlc.errors import InputError
from emlc.report.gallery import Gallery, plain_gallery
from emlc.report.thumbnails import encoded_thumbnails
from emlc.runtime.streams import RandomStream, generator

_BLOCK = 256
"""Images that are read at a time."""
_MOST_FEATURES = 30
"""Number of features in the table, of samples that have many."""


def draw(data: Source, number: int, seed: int) -> NDArray[np.int64]:
    """Draw rows in use uniformly at random, without those that are trusted already, and in random order.

    Raises:
        InputError: there are fewer such rows.
    """
    if data.labels is None:
        raise InputError(f"{data.name}: the data have no labels to check")
    free = np.flatnonzero(data.in_use if data.trusted is None else data.in_use & ~data.trusted)
    if not 1 <= number <= len(free):
        which = "" if len(free) == len(data) else " that are in use and not trusted yet"
        raise InputError(f"number: expected 1 to {len(free):,}, the rows of {data.name}{which}, got {number}")
    return generator(seed, RandomStream.CHECKED_SAMPLES).permutation(free)[:number]


def table_to_check(data: Source, rows: NDArray[np.int64], checked: Checked | None = None) -> pd.DataFrame:
    """Return the table to fill in: id, given_label, a column for the checked label, and the sample.

    That column is empty in the rows that were drawn. Below them are those that were ``checked`` before.
    """
    given, labels = _names(data, data.given[rows]), np.full(len(rows), "", dtype=object)
    if checked is not None:
        given = np.concatenate([given, _names(data, data.given[checked.rows])])
        labels = np.concatenate([labels, _names(data, checked.labels)])
        rows = np.concatenate([rows, checked.rows])
    return pd.DataFrame({"id": data.ids[rows], "given_label": given, CHECKED: labels} | _shown(data, rows))


def decisions_before(data: Source, checked: Checked) -> pd.DataFrame:
    """Return what was checked before as the decisions that the page loads and downloads."""
    given, labels = _names(data, data.given[checked.rows]), _names(data, checked.labels)
    columns = {"id": data.ids[checked.rows], "decision": np.where(given == labels, "keep", "other")}
    return pd.DataFrame(
        columns | {"label": labels, "given_label": given, "suggested_label": "", "chosen": ""}
    )


def _names(data: Source, codes: NDArray[np.int64]) -> NDArray[np.object_]:
    return TextLabels(codes, data.classes).decoded()


def cells_like_formulas(table: pd.DataFrame) -> int:
    """Count the texts of a table that a spreadsheet may take for formulas; they are written as they are."""
    texts = table.select_dtypes(exclude="number").astype(str)
    return int(sum(column.str.match(r"[=+\-@\t\r]").sum() for _, column in texts.items()))


def _shown(data: Source, rows: NDArray[np.int64]) -> dict[str, object]:
    if data.texts is not None:
        return {"text": data.texts(rows).to_pylist()}
    if isinstance(data.inputs, ImageFiles):
        return {"image": data.inputs.identities(rows).to_pylist()}
    if isinstance(data.inputs, EncodedImages):
        return {}
    table = None if data.table is None else data.table(rows, data.schema)
    if table is not None:  # as they are written
        return {name: table[name].to_pylist() for name in table.column_names[:_MOST_FEATURES]}
    inputs = data.inputs(rows, data.schema)
    if inputs.ndim != 2:
        return {}
    names = data.schema.feature_columns or [f"feature_{k}" for k in range(inputs.shape[1])]
    return {f"{name}": inputs[:, k].numpy() for k, name in enumerate(names[:_MOST_FEATURES])}


def gallery_to_check(data: Source, rows: NDArray[np.int64]) -> Gallery:
    """Return the drawn samples with their pictures, texts or features."""
    annotations = vars(data.annotations(rows))
    none = torch.zeros(len(rows), 1)
    if isinstance(data.inputs, EncodedImages):
        return plain_gallery(Samples(inputs=none, **annotations), _pictures(data.inputs, rows), ())
    if data.texts is not None:
        return plain_gallery(Samples(inputs=none, texts=data.texts(rows), **annotations), None, ())
    table = None if data.table is None else data.table(rows, data.schema)
    samples = Samples(inputs=data.inputs(rows, data.schema), table=table, **annotations)
    return plain_gallery(samples, None, data.schema.feature_columns)


def _pictures(images: EncodedImages, rows: NDArray[np.int64]) -> list[str]:
    encoded: list[Path | bytes | None] = [None] * len(rows)
    for positions, block in images.fetch(rows, _BLOCK):
        for position, image in zip(positions, block, strict=True):
            encoded[position] = image
    return encoded_thumbnails(encoded)
