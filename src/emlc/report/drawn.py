"""Samples that are drawn to be checked: a table to fill in, and a page to look at them on."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from emlc.data.images.encoded import EncodedImages, ImageFiles
from emlc.data.samples import Samples
from emlc.data.sources.checked import CHECKED
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
    """Draw rows uniformly at random, without those that are trusted already; their order is random, too.

    Raises:
        InputError: there are fewer such rows.
    """
    if data.labels is None:
        raise InputError(f"{data.name}: the data have no labels to check")
    free = np.arange(len(data)) if data.trusted is None else np.flatnonzero(~data.trusted)
    if not 1 <= number <= len(free):
        raise InputError(f"number: expected 1 to {len(free):,}, the rows of {data.name}, got {number}")
    return generator(seed, RandomStream.CHECKED_SAMPLES).permutation(free)[:number]


def table_to_check(data: Source, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return the table to fill in: id, given_label, an empty column for the checked label, and the sample."""
    names = np.array(data.classes, dtype=object)
    columns = {"id": data.ids[rows], "given_label": names[data.given[rows]], CHECKED: ""}
    return pd.DataFrame(columns | _shown(data, rows))


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
