"""An opened source: ids and labels in memory, inputs read only for the samples that are taken."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from emlc.data.annotations import Annotations
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
        feature_columns: Columns with features, in order, of tables; empty for images and arrays.
    """

    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    image_column: str | None = None
    feature_columns: tuple[str, ...] = ()

    @property
    def channels(self) -> int | None:
        """Number of image channels; None for features."""
        return self.input_shape[0] if len(self.input_shape) == 3 else None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of the images; None for features."""
        return (self.input_shape[1], self.input_shape[2]) if len(self.input_shape) == 3 else None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of ``dataclasses.asdict``, also after a trip through JSON (lists for tuples)."""
        as_tuples: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**as_tuples)


# Reads the inputs of some rows: (m,) int64 -> the inputs of those that could be read, and which these
# are, (m,) bool. The schema's input shape, where known, is what images are brought to.
LoadInputs = Callable[[NDArray[np.int64], Schema], tuple[torch.Tensor, NDArray[np.bool_]]]


@dataclass(frozen=True, kw_only=True)
class Source(Annotations):
    """A source of which everything but the inputs is in memory.

    Attributes:
        name: File or folder, for messages.
        schema: How it is read.
        load: Reads the inputs of some rows.
    """

    name: str
    schema: Schema
    load: LoadInputs

    def take(self, rows: NDArray[np.int64], schema: Schema | None = None) -> Samples:
        """Read the samples of these rows; without those whose image cannot be read, if that is allowed.

        Args:
            rows: (m,) int64.
            schema: In place of the source's own, where the input shape is known.

        Raises:
            InputError: If no sample is left, an input is unreadable, not finite or of another shape.
        """
        schema = schema or self.schema
        inputs, readable = self.load(rows, schema)
        rows = rows[readable]
        if len(rows) == 0:
            raise InputError(f"{self.name}: no samples")
        samples = Samples(inputs=inputs, **vars(self.annotations(rows)))
        check_finite(inputs, samples.ids, self.name, rows=rows, columns=schema.feature_columns)
        check_input_shape(samples, schema.input_shape, self.name)
        return samples


def check_input_shape(samples: Samples, expected: tuple[int, ...], where: str) -> None:
    """Raise an :class:`InputError` unless each input has the expected shape, if that is known."""
    if expected and samples.input_shape != expected:
        raise InputError(
            f"{where}: each input has shape {samples.input_shape}, but the data have shape {expected}"
        )


def in_memory(name: str, annotations: Annotations, inputs: torch.Tensor, schema: Schema) -> Source:
    """A source whose inputs, (n, ...), are already read."""

    def load(rows: NDArray[np.int64], _: Schema) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        return inputs[torch.from_numpy(rows)], np.ones(len(rows), dtype=np.bool_)

    shaped = replace(schema, input_shape=schema.input_shape or tuple(inputs.shape[1:]))
    return Source(name=name, schema=shaped, load=load, **vars(annotations))
