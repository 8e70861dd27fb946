"""Read CSV and parquet tables of numeric features, texts, image paths or embedded images."""

import glob
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.annotations import IntegerNames, annotate
from emlc.data.classes import shorten
from emlc.data.columns.encoding import CategoryColumn, as_dict, encode, is_plain
from emlc.data.columns.fit import fit_columns
from emlc.data.columns.values import is_text
from emlc.data.embeddings.text_models import find_model, model_identity
from emlc.data.images.encoded import ImageFiles
from emlc.data.sources.class_names import hugging_face_names
from emlc.data.sources.columns import REVIEWED, Columns, Defaults, find_columns, missing_column
from emlc.data.sources.delimited import is_delimited, read_delimited
from emlc.data.sources.image_columns import (
    PATH_COLUMNS,
    find_image_column,
    find_images_of_ids,
    first_path,
    open_images,
)
from emlc.data.sources.image_paths import check_some_exist
from emlc.data.sources.source import LoadInputs, Role, Schema, Source
from emlc.data.sources.table import UNREADABLE, Table
from emlc.data.sources.texts import TextInputs
from emlc.errors import InputError

_log = logging.getLogger(__name__)

_DEFAULTS = Defaults(label=("label",), id=("id",), true_label=("true_label",))
_CIFAR100_DEFAULTS = replace(_DEFAULTS, label=("fine_label",))  # beside a coarse_label
_NO_FEATURES = {"label", "fine_label", "coarse_label", "true_label", "id", "trusted", *REVIEWED}
_EVIDENCE = (
    *("given_label", "corrected_label", "corrected_probability", "retain_weight"),
    *("predicted_label", "label_quality", "is_label_issue"),
)
_INDEX_COLUMNS = ("", "Unnamed: 0", "__index_level_0__")  # what pandas calls a row number it wrote


def split_files(folder: Path, split: str) -> list[Path]:
    """Return the parquet files of a folder, sorted, whose names begin with that of a split, such as test."""
    return sorted(folder.glob(f"{split}*.parquet"))


def parquet_files(source: str, role: Role) -> list[Path]:
    """Return the parquet files, sorted, that a file name, glob or folder stands for, if there are any."""
    path = Path(source)
    if path.is_dir():
        split = role if role in ("validation", "test") else "train"
        others = {"train", "validation", "test"} - {split}
        return split_files(path, split) or sorted(
            file for file in path.glob("*.parquet") if not file.name.startswith(tuple(others))
        )
    if path.suffix.lower() != ".parquet":
        return []
    return [path] if path.is_file() else sorted(Path(match) for match in glob.glob(source))


def open_table(
    files: Sequence[Path],
    name: str,
    settings: DataSettings,
    role: Role,
    schema: Schema,
    id_prefix: str,
    *,
    default_classes: Sequence[str] = (),
) -> Source:
    """Open a CSV file, or parquet files of the same columns, as one table.

    The inputs are in the schema's columns, else in those of the settings, else in an image column that is
    recognised by its content (embedded images, or paths relative to the table), else in all columns that have
    no other role and can become features: see :func:`emlc.data.columns.fit.fit_columns`. Texts become
    embeddings. Class names are the schema's, else those in a Hugging Face parquet file's metadata, else
    ``default_classes``.

    Raises:
        InputError: If the table cannot be read, a column is missing, or a value is wrong; names the
            file, the column and the row (from 0).
    """
    own = {} if is_delimited(files[0]) else hugging_face_names(files)
    table = Table(name, files, open_dataset(files, settings, schema), own)
    return _open(table, settings, role, schema, id_prefix, default_classes=default_classes)


def open_rows(
    rows: pa.Table,
    first: int,
    files: Sequence[Path],
    name: str,
    settings: DataSettings,
    role: Role,
    schema: Schema,
    integer_names: Mapping[str, tuple[str, ...]],
) -> Source:
    """Open some rows of parquet files as :func:`open_table` opens all of them.

    Args:
        rows: n consecutive rows, with the columns in use.
        first: Number of the first one.
        files: The files.
        name: Name of the files, for messages.
        settings: Names of columns and classes.
        role: What the samples are for.
        schema: How the source is read.
        integer_names: By column, the class names that the files have for its integers.
    """
    where = f"{name}, counted from row {first:,}" if first else name
    table = Table(where, files, pads.InMemoryDataset(rows), integer_names, first)
    return _open(table, settings, role, schema, "")


def table_columns(names: Sequence[str], settings: DataSettings, role: Role, where: str) -> Columns:
    """Return the columns of a table that have ids and labels.

    Raises:
        InputError: If a column is needed and missing.
    """
    has_fine_labels = "fine_label" in names and "label" not in names
    return find_columns(names, settings, role, _CIFAR100_DEFAULTS if has_fine_labels else _DEFAULTS, where)


def _open(
    table: Table,
    settings: DataSettings,
    role: Role,
    schema: Schema,
    id_prefix: str,
    *,
    default_classes: Sequence[str] = (),
) -> Source:
    is_fitted, name = bool(schema.feature_columns), table.name
    columns = table_columns(table.columns, settings, role, name)
    names = _integer_names(table, columns, settings, schema, default_classes)
    if not schema.classes and (names.labels or default_classes):
        classes = tuple(dict.fromkeys((*names.labels, *names.true_labels)))
        schema = replace(schema, classes=classes, has_integers=True)
    annotations = annotate(
        table.dataset.count_rows(),
        columns.read(table.column),
        where=name,
        id_prefix=id_prefix,
        first_row=table.first_row,
        classes=schema.classes,
        integer_names=names,
        settings=settings,
    )
    schema = _choose_inputs(table, settings, columns, schema, annotations.classes)
    if schema.text_column:
        texts = _texts(table, schema.text_column, settings)
        return Source(name=name, schema=schema, inputs=texts, texts=texts.take, **vars(annotations))
    if schema.image_column:
        images = open_images(table, schema.image_column)
        if isinstance(images, ImageFiles):
            check_some_exist(name, schema.image_column, table.folder, table.paths(schema.image_column))
        return Source(name=name, schema=schema, inputs=images, **vars(annotations))
    is_named = bool(settings.feature_columns)
    return Source(
        name=name,
        schema=schema,
        inputs=_load_features(table),
        table=None if is_fitted and not schema.columns else _load_columns(table),
        fit=None if is_fitted else _fit_columns(table, schema, annotations.classes, named=is_named),
        **vars(annotations),
    )


def open_dataset(files: Sequence[Path], settings: DataSettings, schema: Schema) -> pads.Dataset:
    """Open a CSV file, or parquet files; of the latter nothing but the schemas is read.

    Raises:
        InputError: If they cannot be read, columns of one name occur more than once, or the files have
            different columns.
    """
    name = str(files[0])
    try:
        if is_delimited(files[0]):
            dataset = pads.InMemoryDataset(_read_csv(files[0], settings, schema))
        else:
            dataset = pads.dataset([str(file) for file in files], format="parquet")
            _check_columns(files)
    except UNREADABLE as error:
        raise InputError(f"{name}: cannot be read: {error}") from error
    repeated = [column for column in dataset.schema.names if dataset.schema.names.count(column) > 1]
    if repeated:
        raise InputError(
            f"{name}: columns occur more than once: {shorten(sorted(set(repeated)))}; rename or remove one"
        )
    return dataset


def _check_columns(files: Sequence[Path]) -> None:
    """Raise an :class:`InputError` if parquet files differ in columns other than row numbers."""
    first, *others = (set(pq.read_schema(file).names) - set(_INDEX_COLUMNS) for file in files)
    for file, columns in zip(files[1:], others, strict=True):
        faults = [
            f"{verb} {shorten(sorted(names))}"
            for verb, names in (("lacks", first - columns), ("also has", columns - first))
            if names
        ]
        if faults:
            raise InputError(
                f"{file}: {' and '.join(faults)}, unlike {files[0]}; files that are read as one table must "
                "have the same columns"
            )


def _read_csv(file: Path, settings: DataSettings, schema: Schema) -> pa.Table:
    # Ids, labels, texts and categories are kept as written: neither "007" nor a class called "NA" may change.
    as_text = [
        *(column.name for column in schema.encoding if isinstance(column, CategoryColumn)),
        settings.label_column,
        settings.true_label_column,
        settings.id_column,
        settings.text_column,
        settings.trusted_column,
        *REVIEWED,
        *_DEFAULTS.label,
        *_DEFAULTS.true_label,
        *_DEFAULTS.id,
    ]
    return read_delimited(file, [column for column in as_text if column is not None], settings)


def _integer_names(
    table: Table, columns: Columns, settings: DataSettings, schema: Schema, defaults: Sequence[str]
) -> IntegerNames:
    """Return what integer labels stand for: by the files' metadata, else as the settings or the data say."""
    own = table.integer_names
    given, true = (own.get(column or "", ()) for column in (columns.label, columns.true_label))
    if not (given or true):
        names = tuple(defaults) or schema.integer_names(settings)
        return IntegerNames(labels=names, true_labels=names)
    return IntegerNames(labels=given or true, true_labels=true or given, numerals="indices")


def _choose_inputs(
    table: Table, settings: DataSettings, columns: Columns, schema: Schema, classes: Sequence[str]
) -> Schema:
    if schema.image_column or schema.feature_columns or schema.text_column:
        return schema
    if settings.text_column is not None:
        return _with_texts(schema, settings.text_column, settings.text_model)
    if settings.image_column is not None:
        if settings.image_column not in table.columns:
            raise missing_column([settings.image_column], "image_column", table.columns, table.name)
        return replace(schema, image_column=settings.image_column)
    if settings.feature_columns:
        return replace(schema, feature_columns=tuple(settings.feature_columns))
    if "trusted" in table.columns and columns.trusted is None:
        _log.warning(f"{table.name}: column 'trusted' is not used; --trusted_column trusted would read it")
    taken = {*columns.names(), *_NO_FEATURES, *_INDEX_COLUMNS}
    free = [column for column in table.columns if column not in taken]
    evidence = _evidence(table.columns, classes) & set(free)
    free = [column for column in free if column not in evidence]
    image_column = find_image_column(table, free) or find_images_of_ids(table, columns.id)
    if image_column is not None:
        if unused := [column for column in free if column != image_column]:
            _log.info(f"{table.name}: images: {image_column}; columns not used: {shorten(unused)}")
        return replace(schema, image_column=image_column)
    if evidence:
        _log.info(f"{table.name}: columns about labels are not used as features: {shorten(sorted(evidence))}")
    return replace(schema, feature_columns=tuple(free))


def _evidence(columns: Sequence[str], classes: Sequence[str]) -> set[str]:
    """Return the columns that emlc or cleanlab computed from the labels, which would leak the label.

    Only a label table has them: in other tables the same names may stand for features.
    """
    if "corrected_label" not in columns and not {"given_label", "label_quality"} <= set(columns):
        return set()
    return {*_EVIDENCE, *(f"probability_{name}" for name in classes)}


def _with_texts(schema: Schema, column: str, model: str) -> Schema:
    folder = find_model(model)
    name = os.path.abspath(folder) if os.path.isdir(os.path.expanduser(model)) else model
    return replace(schema, text_column=column, text_model=name, text_model_digest=model_identity(folder))


def _texts(table: Table, column: str, settings: DataSettings) -> TextInputs:
    if column not in table.columns:
        raise missing_column([column], "text_column", table.columns, table.name)
    kind = table.type_of(column)
    if not is_text(kind):
        raise InputError(
            f"{table.name}: column {column!r} (--text_column) has values of type {kind}, expected texts"
        )
    return TextInputs(table.name, column, table.texts(column), settings)


def _fit_columns(
    table: Table, schema: Schema, classes: Sequence[str], *, named: bool
) -> Callable[[NDArray[np.int64]], Schema]:
    """Return a function that finds from some rows how the schema's columns become features."""

    def fit(rows: NDArray[np.int64]) -> Schema:
        values = table.rows(rows, schema.feature_columns)
        columns = fit_columns(values, table.name, named=named, classes=classes)
        if not columns:
            raise _no_features(table, schema.feature_columns)
        names = tuple(column.name for column in columns)
        return replace(schema, feature_columns=names, columns=tuple(map(as_dict, columns)))

    return fit


def _no_features(table: Table, candidates: Sequence[str]) -> InputError:
    missing = [
        f" (column {column!r} is not taken for image paths, since {path} does not exist)"
        for column in candidates
        if column.lower() in PATH_COLUMNS and (path := first_path(table, column))
    ]
    return InputError(
        f"{table.name}: found neither an image column nor columns to learn from{''.join(missing)}; columns: "
        f"{shorten(table.columns)}; name them by --image_column or --feature_columns, or texts by "
        "--text_column"
    )


def _load_features(table: Table) -> LoadInputs:
    def load(rows: NDArray[np.int64], schema: Schema) -> torch.Tensor:
        values = table.rows(rows, schema.feature_columns)
        if not schema.columns:
            return torch.from_numpy(_as_numbers(values.to_pandas(), rows, table.name))
        features, remarks = encode(values, schema.encoding, table.name, rows)
        if remarks:
            _log.warning(f"{table.name}: {'; '.join(remarks)}")
        return torch.from_numpy(features)

    return load


def _load_columns(table: Table) -> Callable[[NDArray[np.int64], Schema], pa.Table | None]:
    def load(rows: NDArray[np.int64], schema: Schema) -> pa.Table | None:
        return None if is_plain(schema.encoding) else table.rows(rows, schema.feature_columns)

    return load


def _as_numbers(frame: pd.DataFrame, rows: NDArray[np.int64], where: str) -> NDArray[np.float32]:
    """Convert columns that are the features themselves, as all were in runs of before."""
    features = np.empty(frame.shape, dtype=np.float32)
    for k, column in enumerate(frame.columns):
        features[:, k] = _numbers(frame[column], rows, where)
    return features


def _numbers(column: "pd.Series[Any]", rows: NDArray[np.int64], where: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce")
    for k in np.flatnonzero(numbers.isna() & column.notna())[:1]:
        raise InputError(
            f"{where}: row {rows[k]}, column {str(column.name)!r}: expected a number, "
            f"found {column.iloc[k]!r}; --feature_columns names the columns to learn from"
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)
