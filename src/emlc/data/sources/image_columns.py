"""Which column of a table holds images, or paths of images."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from emlc.data.classes import shorten
from emlc.data.columns.values import is_text
from emlc.data.images.decode import Header, read_header
from emlc.data.images.encoded import EncodedImages, ImageFiles, ParquetImages
from emlc.data.sources.columns import missing_column
from emlc.data.sources.image_paths import look_like_image_paths
from emlc.data.sources.table import Table
from emlc.errors import InputError

_log = logging.getLogger(__name__)

PATH_COLUMNS = ("image", "img", "path", "file", "filename", "file_name", "image_path")
"""Usual names of columns of image paths, in lower case."""
_VALUES_LOOKED_AT = 1000  # of each column, to find the one with image paths


def find_image_column(table: Table, candidates: Sequence[str]) -> str | None:
    """Return the column of embedded images or of image paths, whether these exist or not.

    Raises:
        InputError: If several columns hold image paths, and none of them has a usual name.
    """
    found = [column for column in candidates if _has_images(table, column)]
    embedded = [column for column in found if not is_text(table.type_of(column))]
    usual = [column for column in found if column.lower() in PATH_COLUMNS]
    if len(found) > 1 and not embedded and not usual:
        raise InputError(
            f"{table.name}: the columns {shorten(found)} hold image paths; --image_column names one"
        )
    return next(iter([*embedded, *usual, *found]), None)


def _has_images(table: Table, column: str) -> bool:
    kind = _value_type(table, column)
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return any(isinstance(read_header(value), Header) for value in _first_values(table, column, 1))
    if not is_text(kind):
        return False
    if look_like_image_paths(_first_values(table, column, _VALUES_LOOKED_AT)):
        return True
    first = first_path(table, column) if column.lower() in PATH_COLUMNS else None
    return first is not None and first.is_file()


def find_images_of_ids(table: Table, column: str | None) -> str | None:
    """Return the column of ids if these are paths of images that exist, as in some lists of files."""
    if column is None or not is_text(table.type_of(column)):
        return None
    values = _first_values(table, column, _VALUES_LOOKED_AT)
    if not look_like_image_paths(values):
        return None
    if any((folder / value).is_file() for value in values[:3] for folder in table.folders):
        return column
    _log.warning(
        f"{table.name}: the ids in column {column!r} look like image files, but the first do not exist in "
        f"{table.folder}; --image_column {column} takes them for images"
    )
    return None


def _first_values(table: Table, column: str, n: int) -> list[Any]:
    """Return those of the first n values of a column that are neither missing nor empty."""
    values = table.dataset.head(n, columns=[column])[column].to_pylist()
    return [value for value in values if value]


def first_path(table: Table, column: str) -> Path | None:
    """Return the path that the first value of a column of text names, if it is not empty."""
    if not is_text(table.type_of(column)):
        return None
    values = _first_values(table, column, 1)
    return table.folder / values[0] if values else None


def _value_type(table: Table, column: str) -> pa.DataType:
    kind = table.type_of(column)
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def open_images(table: Table, column: str) -> EncodedImages:
    """Return the images of a column of embedded images or of paths.

    Raises:
        InputError: There is no such column, or it has other values.
    """
    if column not in table.columns:
        raise missing_column([column], "image_column", table.columns, table.name)
    kind = table.type_of(column)
    if pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ParquetImages(table.name, table.files, column)
    if is_text(kind) or pa.types.is_dictionary(kind):
        return ImageFiles(table.name, table.folder, table.paths(column), in_table=True)
    raise InputError(
        f"{table.name}: column {column!r} (--image_column) has values of type {kind}, "
        "expected paths of images, or embedded images"
    )
