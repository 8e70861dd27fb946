"""Turn samples into columns of tables, and write these."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from emlc.config import DataSettings
from emlc.data.classes import UNKNOWN
from emlc.data.samples import Samples
from emlc.data.sources.source import Schema

_LINE_BREAK = "[\r\n]"


@dataclass(frozen=True)
class InputColumns:
    """The columns of a table that hold the inputs: numbers, columns that become them, image paths, or texts.

    Attributes:
        kind: The attribute of the samples that the columns hold.
        names: Names of the columns: one per feature, or a single one.
    """

    kind: Literal["inputs", "table", "files", "texts"]
    names: tuple[str, ...]

    @classmethod
    def find(cls, parts: Sequence[Samples], settings: DataSettings, schema: Schema) -> "InputColumns | None":
        """Return the columns that can hold the inputs of all parts, named as in the source, or None."""
        if all(part.texts is not None for part in parts):
            return cls("texts", (getattr(settings, "text_column", None) or "text",))
        if all(part.files is not None for part in parts):
            return cls("files", (schema.image_column or "image",))
        if all(part.table is not None for part in parts):
            return cls("table", schema.feature_columns)
        return cls("inputs", schema.feature_columns) if schema.feature_columns else None

    def values(self, parts: Sequence[Samples]) -> dict[str, Any]:
        """Return the values of each column, (n,), for all parts one after another."""
        if self.kind == "table":
            table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
            return {name: _decoded(table[name]) for name in self.names}
        if self.kind != "inputs":
            texts = pa.chunked_array([getattr(part, self.kind) for part in parts], pa.large_string())
            return {self.names[0]: texts}
        features = torch.cat([part.inputs for part in parts if isinstance(part.inputs, torch.Tensor)])
        return {name: features[:, k].contiguous().numpy() for k, name in enumerate(self.names)}


def _decoded(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values that are stored as indices into a dictionary, which CSV does not have, as they are."""
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def annotation_columns(parts: Sequence[Samples]) -> dict[str, pa.Array]:
    """Return id and label of all parts, one after another, and what else any part has.

    That is trusted, label_before_review, chosen_for_review and true_label; null where it is not known.
    """
    classes = pa.array(parts[0].classes, pa.string())
    columns = {
        "id": pa.array(np.concatenate([part.ids for part in parts]), pa.string()),
        "label": classes.take(pa.array(_concatenated(parts, "labels", UNKNOWN))),
    }
    if any(part.trusted is not None for part in parts):
        columns["trusted"] = pa.array(_concatenated(parts, "trusted", False))
    for name in ("label_before_review", "chosen_for_review"):
        texts = _concatenated(parts, name, "")
        if (texts != "").any():
            columns[name] = pa.array(texts, pa.string(), mask=texts == "")
    truth = _concatenated(parts, "true_labels", UNKNOWN)
    if (truth != UNKNOWN).any():
        columns["true_label"] = classes.take(pa.array(truth, mask=truth == UNKNOWN))
    return columns


def _concatenated(parts: Sequence[Samples], name: str, otherwise: object) -> Any:
    values = [getattr(part, name) for part in parts]
    return np.concatenate(
        [
            np.full(len(p), otherwise, object if otherwise == "" else None) if v is None else v
            for p, v in zip(parts, values, strict=True)
        ]
    )


def free_names(preferred: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """Return names that are not taken: the preferred ones, followed by underscores where necessary."""
    names = {}
    for name in preferred:
        names[name] = name
        while names[name] in taken:
            names[name] += "_"
    return names


def has_lists(table: pa.Table) -> bool:
    """Return whether a column has lists, which a CSV file cannot hold."""
    return any(pa.types.is_nested(column.type) for column in table.columns)


def fits_csv(table: pa.Table) -> bool:
    """Return whether there are no lists, and no line breaks, at which a reader of CSV may cut the row."""
    if has_lists(table):
        return False
    texts = [pa.array(table.column_names, pa.string())]
    texts += [column for column in table.columns if pa.types.is_string(column.type)]
    texts += [column for column in table.columns if pa.types.is_large_string(column.type)]
    return not any(pc.any(pc.match_substring_regex(column, _LINE_BREAK)).as_py() for column in texts)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a .csv or a .parquet file."""
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
