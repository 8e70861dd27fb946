"""Write samples as a data set that :func:`emlc.data.read` reads back: the same ids, labels and inputs.

==========================  ========================================================================
inputs                      are written as
==========================  ========================================================================
features of a table         columns of a .csv or .parquet file, by their own names
image files                 a column with their paths, also if the inputs are their embeddings
embeddings of texts         a column with the texts
images without files        a .parquet file with the original images in it, or their pixels as PNG
other features, or floats   an .npz file
==========================  ========================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.samples import Samples
from emlc.data.sources.columns import REVIEWED
from emlc.data.sources.source import Schema
from emlc.data.writing.columnar import InputColumns, annotation_columns, fits_csv, free_names, write_table
from emlc.data.writing.images import can_be_copied, original_images, pixel_images
from emlc.runtime.progress import tracked

Sets = Mapping[str, Sequence[Samples]]
"""The parts of each set, one after another, by the name of the set."""

ANNOTATIONS = ("id", "label", "trusted", *REVIEWED, "true_label")
"""Names of the columns beside the inputs."""
_ARRAYS = {"id": "ids", "label": "y", "true_label": "true_labels"}
"""Names of arrays that differ from those of columns."""
_EMBEDDED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as Hugging Face has images
_ROW_GROUP = 512  # embedded images that are in memory at a time


def write_sets(sets: Sets, folder: Path, settings: DataSettings, schema: Schema) -> dict[str, Any]:
    """Write each set into a file of its name, and return the settings that read these files.

    Args:
        sets: "data" and others, of labelled samples. ``trusted`` and ``true_labels`` are written where a
            part has them. All inputs have the same shape and type.
        folder: An existing folder.
        settings: The settings with which the samples were read.
        schema: How the samples were read.

    Returns:
        The settings that read the sets again, by name; "data" and the other sets are names of files.

    Raises:
        InputError: If an image can no longer be read.
    """
    sets = with_distinct_ids(sets)
    parts = [part for each in sets.values() for part in each]
    inputs = InputColumns.find(parts, settings, schema)
    if inputs is not None:
        reading = _write_tables(sets, folder, settings, inputs)
    elif parts[0].pictures is not None and parts[0].pictures.dtype == torch.uint8:
        reading = _write_embedded(sets, folder, schema.image_column or "image")
    else:
        reading = _write_arrays(sets, folder)
    if inputs is None or inputs.kind != "texts":  # texts may have become arrays
        texts = ("text_column", "text_model")
        reading |= {field.name: field.default for field in fields(settings) if field.name in texts}
    return reading | {"classes": list(parts[0].classes)}


def _write_tables(sets: Sets, folder: Path, settings: DataSettings, inputs: InputColumns) -> dict[str, Any]:
    names = free_names(ANNOTATIONS, inputs.names)
    tables = {
        role: pa.table(_renamed(annotation_columns(parts), names) | inputs.values(parts))
        for role, parts in sets.items()
    }
    is_csv = not (settings.data or "").lower().endswith(".parquet") and all(map(fits_csv, tables.values()))
    files = {role: f"{role}.{'csv' if is_csv else 'parquet'}" for role in sets}
    for role, table in tables.items():
        write_table(folder / files[role], table)
    return files | _column_settings(tables["data"].column_names, names, inputs)


def _column_settings(
    present: Sequence[str], names: Mapping[str, str], inputs: InputColumns
) -> dict[str, Any]:
    option = {"files": "image_column", "texts": "text_column"}.get(inputs.kind, "feature_columns")
    columns: dict[str, Any] = dict.fromkeys(("feature_columns", "image_column"))
    columns |= {option: list(inputs.names) if option == "feature_columns" else inputs.names[0]}
    return columns | {
        f"{name}_column": column if column in present else None
        for name, column in names.items()
        if name not in REVIEWED  # they are found by their names
    }


def _write_embedded(sets: Sets, folder: Path, column: str) -> dict[str, Any]:
    inputs = InputColumns("files", (column,))
    names = free_names(ANNOTATIONS, inputs.names)
    as_they_were = all(can_be_copied(part) for parts in sets.values() for part in parts)
    for role, parts in sets.items():
        table = pa.table(_renamed(annotation_columns(parts), names))
        write_with_images(folder / f"{role}.parquet", table, column, parts, as_they_were=as_they_were)
        if role == "data":
            reading = _column_settings(table.column_names, names, inputs)
    # Pixels that networks saw are resized already; resizing them again would change them.
    is_resized = not as_they_were and sets["data"][0].images is None
    reading |= {"resize": None} if is_resized else {}
    return reading | {role: f"{role}.parquet" for role in sets}


def write_with_images(
    path: Path, table: pa.Table, column: str, parts: Sequence[Samples], *, as_they_were: bool = False
) -> None:
    """Write a .parquet file of a table and, in one more column, the images of all parts one after another.

    With ``as_they_were`` these are the original images, for parts that :func:`can_be_copied`, else PNG files
    of their pixels.
    """
    contents_of = original_images if as_they_were else pixel_images
    contents = (content for part in parts for content in contents_of(part))
    images = tracked(contents, f"Writing {path.name}", len(table))
    schema = table.schema.append(pa.field(column, _EMBEDDED))
    with pq.ParquetWriter(path, schema) as writer:
        for rows in table.to_batches(_ROW_GROUP):
            cells = [{"bytes": image, "path": None} for image in islice(images, len(rows))]
            arrays = [*rows.columns, pa.array(cells, _EMBEDDED)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _write_arrays(sets: Sets, folder: Path) -> dict[str, Any]:
    for role, parts in sets.items():
        arrays: dict[str, Any] = {
            _ARRAYS.get(name, name): _plain(column) for name, column in annotation_columns(parts).items()
        }
        inputs = [part.inputs if part.pictures is None else part.pictures for part in parts]
        X = torch.cat([each for each in inputs if isinstance(each, torch.Tensor)])
        classes = np.array(parts[0].classes)
        np.savez(folder / f"{role}.npz", X=X.numpy(), classes=classes, **arrays)
    unnamed = ("id_column", "label_column", "true_label_column", "image_column", "feature_columns")
    return {role: f"{role}.npz" for role in sets} | dict.fromkeys(unnamed) | {"trusted_column": "trusted"}


def _renamed(columns: Mapping[str, pa.Array], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[name]: column for name, column in columns.items()}


def _plain(column: pa.Array) -> NDArray[Any]:
    """Convert a column to an array that needs no pickle, with the empty string in place of null."""
    if pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return np.array(column.fill_null("").to_pylist())


def with_distinct_ids(sets: Sets) -> dict[str, list[Samples]]:
    """Return the sets with ids that are equal only for the same sample, as ids in a file have to be.

    Where two ids agree and one is but a row number or relative path, the later one is prefixed by the name of
    its set.
    """
    seen: dict[str, bool] = {}
    distinct: dict[str, list[Samples]] = {}
    for role, parts in sets.items():
        distinct[role] = []
        for part in parts:
            ids = part.ids.copy()
            for k in range(len(ids)):
                while ids[k] in seen and not (part.own_ids and seen[ids[k]]):
                    ids[k] = f"{role}-{ids[k]}"
            seen |= dict.fromkeys(ids, part.own_ids)
            distinct[role].append(replace(part, ids=ids))
    return distinct
