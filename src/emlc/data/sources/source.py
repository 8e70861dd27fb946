"""An opened source: ids and labels in memory, inputs read only for the samples that are taken."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray

from emlc.config import DataSettings
from emlc.data.annotations import Annotations, Written
from emlc.data.columns.encoding import Column, feature_names, from_dict
from emlc.data.embeddings.images import EmbeddedImages, ImageEmbedder
from emlc.data.images.decode_many import find_value_range
from emlc.data.images.encoded import EncodedImages, ImageFiles
from emlc.data.images.stored import StoredImages, load_images, report_unreadable
from emlc.data.samples import Samples, check_finite
from emlc.errors import InputError, NoSamplesError

_log = logging.getLogger(__name__)

Role = Literal["data", "trusted", "validation", "test", "predict"]

_IMAGES_BEFORE = {"background": None, "image_range": (0.0, 65535.0)}  # for runs that do not have it on record


@dataclass(frozen=True, kw_only=True)
class Schema:
    """How the training data were read, so that every other source is read the same way.

    Attributes:
        classes: Class names; empty: the sorted distinct labels of the data.
        has_integers: Whether integer labels of files without class names are indices of ``classes``, as the
            data's own are; else such labels are an error, unless the settings say what they stand for.
        input_shape: (d,) for features, or (channels, height, width); empty: not known yet.
        image_column: Column of a table that has the images.
        feature_columns: Columns of a table that are learned from, in order; empty for other inputs.
        columns: How each of these becomes features, as plain values
            (:mod:`emlc.data.columns.encoding`); empty: they are numbers, and the features themselves.
        text_column: Column of a table that has the texts whose embeddings are the inputs.
        text_model: The model that embeds the texts, as the setting names it; for a folder its absolute path.
        text_model_digest: Hash of the model's files, in hexadecimal.
        image_model: The model whose embeddings of images are the inputs; for a folder its absolute path.
        image_model_digest: Hash of the model's weights, in hexadecimal.
        background: Colour on which transparent images are composed; None: their alpha channel is dropped, as
            in runs made before there was this setting.
        image_range: Values that become black and white in images of more than 8 bits; None: not known yet, or
            there are no such images in the data.
    """

    classes: tuple[str, ...] = ()
    has_integers: bool = False
    input_shape: tuple[int, ...] = ()
    image_column: str | None = None
    feature_columns: tuple[str, ...] = ()
    columns: tuple[dict[str, Any], ...] = ()
    text_column: str | None = None
    text_model: str | None = None
    text_model_digest: str | None = None
    image_model: str | None = None
    image_model_digest: str | None = None
    background: str | None = "white"
    image_range: tuple[float, float] | None = None

    @property
    def has_images(self) -> bool:
        """Whether the samples are images, embedded or not."""
        return len(self.input_shape) == 3 or self.image_model is not None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a schema from the result of ``dataclasses.asdict``, also if JSON made its tuples lists."""
        as_tuples: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**(_IMAGES_BEFORE | as_tuples))

    def integer_names(self, settings: DataSettings) -> tuple[str, ...]:
        """Return the names, in order, that integer labels of a file without class names stand for, if any."""
        return tuple(settings.classes or ()) or (self.classes if self.has_integers else ())

    @property
    def encoding(self) -> tuple[Column, ...]:
        """How each of the ``feature_columns`` becomes features."""
        return tuple(map(from_dict, self.columns))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the d features of a table."""
        return feature_names(self.encoding) or self.feature_columns


LoadInputs = Callable[[NDArray[np.int64], Schema], torch.Tensor]
"""A function that reads the inputs of some rows: (m,) int64 to (m, ...)."""


@dataclass(frozen=True)
class InMemory:
    """Inputs (n, ...) that are already read."""

    inputs: torch.Tensor

    def __call__(self, rows: NDArray[np.int64], _: Schema) -> torch.Tensor:
        """Return the inputs of rows (m,)."""
        return self.inputs[torch.from_numpy(rows)]


@dataclass(frozen=True, kw_only=True)
class Source(Annotations):
    """An opened source, with everything except the inputs in memory.

    Attributes:
        name: File or folder, for messages.
        schema: How the source is read.
        inputs: Its encoded images, or a function that reads other inputs.
        texts: A function that reads the texts of rows (m,), if the inputs are embeddings of texts.
        table: A function that reads the ``feature_columns`` of rows (m,), unless these are the inputs.
        fit: A function that finds from rows (m,) how a table's columns become features; None: it is known.
    """

    name: str
    schema: Schema
    inputs: EncodedImages | LoadInputs
    texts: Callable[[NDArray[np.int64]], pa.Array] | None = None
    table: Callable[[NDArray[np.int64], Schema], pa.Table | None] | None = None
    fit: Callable[[NDArray[np.int64]], Schema] | None = None

    def fitted(self, rows: NDArray[np.int64]) -> "Source":
        """Return the source with a schema fitted to the training samples, rows (m,), if it needs one."""
        return self if self.fit is None else replace(self, schema=self.fit(rows), fit=None)

    @property
    def has_images(self) -> bool:
        """Whether the source has images, not features or texts."""
        if isinstance(self.inputs, InMemory):
            return self.inputs.inputs.ndim == 4
        return isinstance(self.inputs, EncodedImages)

    def take(self, rows: NDArray[np.int64], settings: DataSettings | None = None) -> Samples:
        """Read the samples of rows (m,); see :func:`take_all`."""
        selections = {"data": (self.fitted(rows), rows)}
        return take_all(selections, settings or DataSettings(), self.schema.input_shape)["data"]

    @property
    def rows_in_use(self) -> NDArray[np.int64]:
        """The rows (m,) of the samples that are not left out."""
        return np.flatnonzero(self.in_use)


def take_all(
    selections: Mapping[str, tuple[Source, NDArray[np.int64]]],
    settings: DataSettings,
    input_shape: tuple[int, ...] = (),
) -> dict[str, Samples]:
    """Read several sets, without the samples whose image cannot be read if the settings allow that.

    Args:
        selections: By role, a source and the rows (m,) to read from it; the data come first.
        settings: How images are stored: see :func:`emlc.data.images.stored.load_images`.
        input_shape: Shape of each input, if known; by default that of the first set.

    Raises:
        InputError: If a set has no samples, or an input is unreadable, not finite or of another shape.
    """
    embedded = _embed(selections, settings)
    images = {
        role: (source.inputs, rows)
        for role, (source, rows) in selections.items()
        if isinstance(source.inputs, EncodedImages) and role not in embedded
    }
    others = {
        role: source.inputs(rows, source.schema)
        for role, (source, rows) in selections.items()
        if not isinstance(source.inputs, EncodedImages) and role not in embedded
    }
    first = next(iter(selections))
    if not input_shape and first in others:
        input_shape = tuple(others[first].shape[1:])
    schema = selections[first][0].schema
    opened = load_images(
        images, settings, input_shape, background=schema.background, value_range=schema.image_range
    )
    opened |= {role: (each.vectors, each.readable) for role, each in embedded.items()}
    parts: dict[str, Samples] = {}
    for role, (source, rows) in selections.items():
        inputs, readable = opened.get(role) or (others[role], np.ones(len(rows), dtype=np.bool_))
        rows = rows[readable]
        if len(rows) == 0:
            raise NoSamplesError(f"{source.name}: no samples")
        files = source.inputs.identities(rows) if isinstance(source.inputs, ImageFiles) else None
        texts = None if source.texts is None else source.texts(rows)
        table = None if source.table is None else source.table(rows, source.schema)
        samples = Samples(
            inputs=inputs, files=files, texts=texts, table=table, **vars(source.annotations(rows))
        )
        if role in embedded:
            samples = replace(samples, images=embedded[role].images, image_keys=embedded[role].keys)
        if isinstance(inputs, torch.Tensor):
            columns = source.schema.feature_names
            check_finite(inputs, samples.ids, source.name, rows=rows, columns=columns)
        input_shape = input_shape or samples.input_shape
        check_input_shape(samples, input_shape, source.name)
        parts[role] = samples
    return parts


def _embed(
    selections: Mapping[str, tuple[Source, NDArray[np.int64]]], settings: DataSettings
) -> dict[str, EmbeddedImages]:
    """Embed the images of the sets whose schema has an image model."""
    embedded: dict[str, EmbeddedImages] = {}
    for role, (source, rows) in selections.items():
        schema = source.schema
        if schema.image_model is None or not source.has_images:
            continue
        embed = ImageEmbedder.of(
            schema.image_model,
            settings,
            schema.image_model_digest,
            background=schema.background,
            value_range=schema.image_range,
        )
        if isinstance(source.inputs, EncodedImages):
            embedded[role] = embed(StoredImages(source.inputs, rows, embed.form), source.name)
        else:
            embedded[role] = embed(source.inputs(rows, schema), source.name)
    names = [(selections[role][0].name, each.failures) for role, each in embedded.items()]
    report_unreadable(names, settings)
    return embedded


def with_image_range(source: Source, rows: NDArray[np.int64]) -> Source:
    """Return the source with the range of values of its images in rows (m,), if it is not known and needed.

    The range is logged, as all images of more than 8 bits are scaled by it.
    """
    if source.schema.image_range is not None or not isinstance(source.inputs, EncodedImages):
        return source
    found = find_range(source.inputs, rows, source.name)
    return replace(source, schema=replace(source.schema, image_range=found))


def find_range(images: EncodedImages, rows: NDArray[np.int64], where: str) -> tuple[float, float] | None:
    """Return the range of values of images of more than 8 bits, and log it; None if the first has 8 bits."""
    found = find_value_range(images, rows)
    if found is not None:
        _log.info(
            f"{where}: images of more than 8 bits; their values from {found[0]:g} to {found[1]:g} "
            "become black to white; --image_range sets another range"
        )
    return found


def check_input_shape(samples: Samples, expected: tuple[int, ...], where: str) -> None:
    """Raise an :class:`InputError` unless each input has the expected shape."""
    if samples.input_shape != expected:
        raise InputError(
            f"{where}: each input has shape {samples.input_shape}, but the data have shape {expected}"
        )


def in_memory(name: str, annotations: Annotations, inputs: torch.Tensor, schema: Schema) -> Source:
    """Return a source whose inputs, (n, ...), are already read."""
    return Source(name=name, schema=schema, inputs=InMemory(inputs), **vars(annotations))


def all_true(role: Role, labels: ArrayLike) -> Written:
    """Return what a source whose labels are all true, (n,), says of its samples in a role."""
    return Written(label=None if role == "predict" else labels, true_label=labels if role == "data" else None)
