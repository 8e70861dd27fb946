"""Samples as columns of tables."""

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
    """How the inputs of samples stand in a table: as numbers, as paths of image files, or as texts.

    Attributes:
        kind: The attribute of the samples that they are.
        names: Of features all, else the one.
    """

    kind: Literal["inputs", "files", "texts"]
    names: tuple[str, ...]

    @classmethod
    def find(cls, parts: Sequence[Samples], settings: DataSettings, schema: Schema) -> "InputColumns | None":
        """The columns that serve for all parts, called as in the source; None if there are no such."""
        if all(part.texts is not None for part in parts):
            return cls("texts", (getattr(settings, "text_column", None) or "text",))
        if all(part.files is not None for part in parts):
            return cls("files", (schema.image_column or "image",))
        return cls("inputs", schema.feature_columns) if schema.feature_columns else None

    def values(self, parts: Sequence[Samples]) -> dict[str, Any]:
        """The columns of all parts, one after another, (n,) each."""
        if self.kind != "inputs":
            texts = pa.chunked_array([getattr(part, self.kind) for part in parts], pa.large_string())
            return {self.names[0]: texts}
        features = torch.cat([part.inputs for part in parts if isinstance(part.inputs, torch.Tensor)])
        return {name: features[:, k].contiguous().numpy() for k, name in enumerate(self.names)}


def annotation_columns(parts: Sequence[Samples]) -> dict[str, pa.Array]:
    """id and label of all parts, one after another; trusted and true_label if any part has them.

    A true label that is not known is null.
    """
    classes = pa.array(parts[0].classes, pa.string())
    columns = {
        "id": pa.array(np.concatenate([part.ids for part in parts]), pa.string()),
        "label": classes.take(pa.array(_joined(parts, "labels", UNKNOWN))),
    }
    if any(part.trusted is not None for part in parts):
        columns["trusted"] = pa.array(_joined(parts, "trusted", False))
    truth = _joined(parts, "true_labels", UNKNOWN)
    if (truth != UNKNOWN).any():
        columns["true_label"] = classes.take(pa.array(truth, mask=truth == UNKNOWN))
    return columns


def _joined(parts: Sequence[Samples], name: str, otherwise: object) -> Any:
    values = [getattr(part, name) for part in parts]
    return np.concatenate(
        [np.full(len(p), otherwise) if v is None else v for p, v in zip(parts, values, strict=True)]
    )


def free_names(wanted: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """Names that are not taken: as wanted, with underscores after them where need be."""
    names = {}
    for name in wanted:
        names[name] = name
        while names[name] in taken:
            names[name] += "_"
    return names


def fits_csv(table: pa.Table) -> bool:
    """Whether no name and no text has a line break, at which a CSV file would be cut when it is read."""
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
