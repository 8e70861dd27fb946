"""An opened source: ids and labels in memory, inputs read only for the samples that are taken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.annotations import Annotations
from emlc.data.images.encoded import EncodedImages, ImageFiles
from emlc.data.images.stored import load_images
from emlc.data.samples import Samples, check_finite
from emlc.errors import InputError

Role = Literal["data", "trusted", "validation", "test", "predict"]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """How the training data were read, so that every other source is read the same way.

    Attributes:
        classes: Class names; empty: those found in the data.
        input_shape: (d,) features or (channels, height, width); empty: not known yet.
        image_column: Column with images, of tables.
        feature_columns: Columns with features, in order, of tables; empty for images, texts and arrays.
        text_column: Column with texts, of tables, whose embeddings are the inputs.
        text_model: What embeds them, as the setting names it; of a folder the absolute path.
        text_model_digest: Identity of its files.
    """

    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    image_column: str | None = None
    feature_columns: tuple[str, ...] = ()
    text_column: str | None = None
    text_model: str | None = None
    text_model_digest: str | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of ``dataclasses.asdict``, also after a trip through JSON (lists for tuples)."""
        as_tuples: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**as_tuples)


# Reads the features or arrays of some rows: (m,) int64 -> (m, ...).
LoadInputs = Callable[[NDArray[np.int64], Schema], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Source(Annotations):
    """A source of which everything but the inputs is in memory.

    Attributes:
        name: File or folder, for messages.
        schema: How it is read.
        inputs: Its images, or what reads other inputs.
        texts: Reads the texts of some rows (m,), where the inputs are embeddings of them.
    """

    name: str
    schema: Schema
    inputs: EncodedImages | LoadInputs
    texts: Callable[[NDArray[np.int64]], pa.Array] | None = None

    def take(self, rows: NDArray[np.int64], settings: DataSettings | None = None) -> Samples:
        """Read the samples of rows (m,): :func:`take_all` of one set."""
        return take_all({"data": (self, rows)}, settings or DataSettings(), self.schema.input_shape)["data"]


def take_all(
    wanted: Mapping[str, tuple[Source, NDArray[np.int64]]],
    settings: DataSettings,
    input_shape: tuple[int, ...] = (),
) -> dict[str, Samples]:
    """Read several sets; without the samples whose image cannot be read, if that is allowed.

    Args:
        wanted: By role, a source and the rows (m,) wanted of it. The first is that of the data.
        settings: How images are held: see :func:`emlc.data.images.stored.load_images`.
        input_shape: Shape of each input, where known; else that of the first set.

    Raises:
        InputError: If a set has no samples, or an input is unreadable, not finite or of another shape.
    """
    images = {
        role: (source.inputs, rows)
        for role, (source, rows) in wanted.items()
        if isinstance(source.inputs, EncodedImages)
    }
    others = {
        role: source.inputs(rows, source.schema)
        for role, (source, rows) in wanted.items()
        if not isinstance(source.inputs, EncodedImages)
    }
    first = next(iter(wanted))
    if not input_shape and first in others:
        input_shape = tuple(others[first].shape[1:])
    opened = load_images(images, settings, input_shape)
    parts: dict[str, Samples] = {}
    for role, (source, rows) in wanted.items():
        inputs, readable = opened.get(role) or (others[role], np.ones(len(rows), dtype=np.bool_))
        rows = rows[readable]
        if len(rows) == 0:
            raise InputError(f"{source.name}: no samples")
        files = source.inputs.identities(rows) if isinstance(source.inputs, ImageFiles) else None
        texts = None if source.texts is None else source.texts(rows)
        samples = Samples(inputs=inputs, files=files, texts=texts, **vars(source.annotations(rows)))
        if isinstance(inputs, torch.Tensor):
            columns = source.schema.feature_columns
            check_finite(inputs, samples.ids, source.name, rows=rows, columns=columns)
        input_shape = input_shape or samples.input_shape
        check_input_shape(samples, input_shape, source.name)
        parts[role] = samples
    return parts


def check_input_shape(samples: Samples, expected: tuple[int, ...], where: str) -> None:
    """Raise an :class:`InputError` unless each input has the expected shape."""
    if samples.input_shape != expected:
        raise InputError(
            f"{where}: each input has shape {samples.input_shape}, but the data have shape {expected}"
        )


def in_memory(name: str, annotations: Annotations, inputs: torch.Tensor, schema: Schema) -> Source:
    """A source whose inputs, (n, ...), are already read."""

    def load(rows: NDArray[np.int64], _: Schema) -> torch.Tensor:
        return inputs[torch.from_numpy(rows)]

    return Source(name=name, schema=schema, inputs=load, **vars(annotations))
