"""Read .npz files and the digits that come with scikit-learn."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.annotations import IntegerNames, annotate
from emlc.data.classes import Numerals, class_labels, is_integer, shorten
from emlc.data.npz import read_npz
from emlc.data.samples import array_inputs
from emlc.data.sources.columns import Columns, Defaults, find_columns, missing_column
from emlc.data.sources.source import Role, Schema, Source, all_true, in_memory

_log = logging.getLogger(__name__)

_INPUT_NAMES = ("X", "x", "images", "features", "embeddings")
_DEFAULTS = Defaults(
    label=("y", "labels", "label"),
    id=("ids", "id"),
    true_label=("true_labels", "y_true"),
    trusted=("trusted",),
)


def open_npz(path: Path, settings: DataSettings, role: Role, schema: Schema, id_prefix: str) -> Source:
    """Open an .npz file: inputs X, x, images, features or embeddings; labels y, labels or label.

    Optional arrays: ids, trusted, true_labels or y_true, classes. The column settings may name others.

    Raises:
        InputError: If the file cannot be read, lacks an array, or its content is wrong.
    """
    return NamedArrays.find(read_npz(path), path, settings, role, schema).open(id_prefix=id_prefix)


@dataclass(frozen=True)
class NamedArrays:
    """The arrays of an .npz file, and what each of them is.

    Attributes:
        arrays: The arrays by name; they may be mapped into memory.
        where: The file, for messages.
        settings: Which samples to leave out.
        schema: How the source is read.
        columns: Names of the arrays with ids and labels.
        inputs: Name of the array with the inputs.
        names: Class names that integer labels stand for.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    where: str
    settings: DataSettings
    schema: Schema
    columns: Columns
    inputs: str
    names: IntegerNames

    @classmethod
    def find(
        cls,
        arrays: Mapping[str, NDArray[np.generic]],
        path: Path,
        settings: DataSettings,
        role: Role,
        schema: Schema,
    ) -> Self:
        """Find what each array is.

        Raises:
            InputError: If an array is missing.
        """
        where = str(path)
        columns = find_columns(arrays, settings, role, _DEFAULTS, where)
        candidates = _INPUT_NAMES if settings.image_column is None else (settings.image_column,)
        name = next((name for name in candidates if name in arrays), None)
        if name is None:
            raise missing_column(candidates, "image_column", arrays, where)
        names = _integer_names(arrays, columns.label, settings, schema, where)
        if not schema.classes and "classes" in arrays:
            schema = replace(schema, classes=names.labels, has_integers=True)
        return cls(arrays, where, settings, schema, columns, name, names)

    def open(self, rows: slice = slice(None), *, id_prefix: str = "") -> Source:
        """Open some consecutive rows, by default all, as a source.

        Raises:
            InputError: If a value is wrong.
        """
        first = rows.start or 0
        where = f"{self.where}, counted from row {first:,}" if first else self.where
        inputs = array_inputs(_rows(self.arrays[self.inputs], rows), f"{where}: {self.inputs}")
        annotations = annotate(
            len(inputs),
            self.columns.read(lambda name: _rows(self.arrays[name], rows)),
            where=where,
            id_prefix=id_prefix,
            first_row=first,
            classes=self.schema.classes,
            integer_names=self.names,
            settings=self.settings,
        )
        return in_memory(where, annotations, inputs, self.schema)


def _rows(array: NDArray[np.generic], rows: slice) -> NDArray[np.generic]:
    """Return some rows; of a single number, which has none, the number, for the checks to tell."""
    return array[rows] if array.ndim else array


def open_digits(role: Role, schema: Schema, id_prefix: str) -> Source:
    """Open the 1797 handwritten digits of scikit-learn, (n, 1, 8, 8) images; all labels are true."""
    from sklearn.datasets import load_digits  # takes more than a second to import

    digits = load_digits()
    names = tuple(str(name) for name in digits.target_names)
    images = (digits.images * 15).astype(np.uint8)[:, None]  # 17 grey levels, 0 to 16
    annotations = annotate(
        len(images),
        all_true(role, digits.target),
        where="digits",
        id_prefix=id_prefix,
        classes=schema.classes or names,
        integer_names=IntegerNames(labels=names, true_labels=names),
    )
    return in_memory("digits", annotations, array_inputs(images, "digits"), schema)


def _integer_names(
    arrays: Mapping[str, NDArray[np.generic]],
    label: str | None,
    settings: DataSettings,
    schema: Schema,
    where: str,
) -> IntegerNames:
    """Return what integer labels stand for: the file's own ``classes``, else as the settings or data say.

    Of classes that are called by integers, such labels are indices if all of them fit, as encoders write
    them; but names if the classes are integers rather than texts, and have all of the labels.
    """
    if "classes" not in arrays:
        names = schema.integer_names(settings)
        return IntegerNames(labels=names, true_labels=names)
    names = tuple(class_labels(arrays["classes"], f"{where}: classes").decoded().tolist())
    texts = () if label is None else class_labels(arrays[label], f"{where}: {label}").texts
    integers = [text for text in texts if is_integer(text)]
    fit = all(-1 <= int(text) < len(names) for text in integers)
    are_names = set(integers) <= set(names)
    as_names = are_names and (arrays["classes"].dtype.kind in "iub" or not fit)
    numerals: Numerals = "names" if as_names or not fit else "indices"
    if are_names and fit and any(names[int(text)] != text for text in integers):
        meaning = "names of classes" if as_names else "indices into 'classes'"
        _log.warning(
            f"{where}: {label} has integers that are both names and indices of classes "
            f"({shorten(names, 5)}); they are read as {meaning}; write the labels as texts to leave no doubt"
        )
    return IntegerNames(labels=names, true_labels=names, numerals=numerals)
