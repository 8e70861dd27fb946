"""Class names in the metadata of parquet files, as Hugging Face's ``datasets`` writes them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emlc.data.classes import shorten
from emlc.errors import InputError


def hugging_face_names(files: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """Return, by column, the names that its integers stand for, of all columns of class labels.

    Raises:
        InputError: If files that are read as one table have other names, or the same in another order.
    """
    names = [_names_of(file) for file in files]
    for file, others in zip(files, names, strict=True):
        for column in sorted({*names[0], *others}):
            first, found = (part.get(column, ()) for part in (names[0], others))
            if first != found:
                raise InputError(
                    f"{file}: the integers of {column!r} stand for {shorten(found) or 'no names'}, but in "
                    f"{files[0]} for {shorten(first) or 'no names'}; write both with the same names in the "
                    "same order, or with names in place of integers"
                )
    return names[0]


def _names_of(file: Path) -> dict[str, tuple[str, ...]]:
    try:
        stored = pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    try:
        metadata = json.loads(stored.get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features", {}).items()
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in features
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, AttributeError, TypeError):  # another program's metadata under that name
        return {}
