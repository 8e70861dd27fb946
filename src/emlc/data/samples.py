"""Samples: inputs, ids and labels, checked once when they are created."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from emlc.data.annotations import Annotations, IntegerNames, Written, annotate
from emlc.data.classes import TextLabels, encode
from emlc.data.images.stored import Inputs, StoredImages
from emlc.errors import InputError

IMAGE_CHANNELS = (1, 3)
"""Numbers of channels that an image may have: grey or RGB."""


@dataclass(frozen=True, kw_only=True)
class Samples(Annotations):
    """A set of n samples: their inputs, and the ids and labels of :class:`Annotations`.

    Attributes:
        inputs: (n, d) float32 features, or (n, channels, height, width) images: uint8, or float32 in
            [0, 1] if they came as floats that are not multiples of 1/255. Images that do not fit the
            memory budget are :class:`~emlc.data.images.stored.StoredImages`.
        files: (n,) absolute paths of the image files; None if the inputs do not come from image files.
        texts: (n,) texts whose embeddings are the inputs; None for other inputs.
        table: n rows of the columns from which the inputs were computed; None if these are the inputs.
        images: The n images whose embeddings are the inputs; None for other inputs.
        image_keys: (n,) hashes of these images' files or pixels, in hexadecimal.
    """

    inputs: Inputs
    files: pa.Array | None = None
    texts: pa.Array | None = None
    table: pa.Table | None = None
    images: Inputs | None = None
    image_keys: pa.Array | None = None

    @property
    def pictures(self) -> Inputs | None:
        """The images that the inputs are, or whose embeddings they are; None for other inputs."""
        return self.inputs if self.inputs.ndim == 4 else self.images

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (d,) or (channels, height, width)."""
        return tuple(self.inputs.shape[1:])

    def take(self, rows: NDArray[Any] | Sequence[int]) -> "Samples":
        """Return the samples at some indices, in their order, or where a boolean mask (n,) is true."""
        rows = np.asarray(rows)
        indices = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        arrays: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values.take(pa.array(indices))
            for name in ("files", "texts", "table", "image_keys")
        }
        images = None if self.images is None else _take(self.images, indices)
        return Samples(
            inputs=_take(self.inputs, indices), images=images, **arrays, **vars(self.annotations(indices))
        )

    def with_classes(
        self,
        classes: tuple[str, ...],
        where: str,
        *,
        names: Mapping[str, str] | None = None,
        may_be_unknown: bool = False,
    ) -> Self:
        """Return the samples with labels as indices into another list of classes, matched by name.

        Args:
            classes: The class names.
            where: What the samples are, for messages.
            names: Names to match in place of those of the samples, for some of them.
            may_be_unknown: Whether a label may be outside ``classes``; it becomes -1.

        Raises:
            InputError: If a label is not among ``classes``; names its row and id, with ``where``.
        """
        if classes == self.classes and not names:
            return self
        texts = [(names or {}).get(name, name) for name in self.classes]
        labels, true_labels = (
            None
            if codes is None
            else encode(
                TextLabels(codes, self.classes).renamed(texts),
                classes,
                self.ids,
                where,
                may_be_missing=True,
                may_be_unknown=may_be_unknown,
            )
            for codes in (self.labels, self.true_labels)
        )
        return replace(self, classes=classes, labels=labels, true_labels=true_labels)

    @cached_property
    def input_keys(self) -> pa.Array:
        """(n,) texts that are equal where the inputs are equal: a hash of the values, in hexadecimal.

        Embeddings have the hash of their text or image, as their last bits depend on how these were batched.
        Stored images are too many to be read, and have their path, or file and row: two files with the
        same image differ.
        """
        if isinstance(self.inputs, StoredImages):
            return self.inputs.identities()
        if self.image_keys is not None:
            return self.image_keys
        if self.texts is not None:
            return pa.array([_hash(text.encode()) for text in self.texts.to_pylist()], pa.large_string())
        rows = self.inputs.contiguous().numpy()
        return pa.array([_hash(values) for values in rows], pa.large_string())

    def input_digests(self) -> list[str]:
        """Return n short texts for the table of a split: the keys, or "path:" and the hash of a path."""
        keys: list[str] = self.input_keys.to_pylist()
        if isinstance(self.inputs, StoredImages):
            return [f"path:{_hash(key.encode())}" for key in keys]
        return keys

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        y: Any = None,
        *,
        classes: Sequence[str] | None = None,
        ids: Any = None,
        true_labels: Any = None,
        trusted: Any = None,
    ) -> "Samples":
        """Check arrays and make samples of them.

        Args:
            X: numpy array or tensor: (n, d) numbers, or images (n, h, w), (n, c, h, w) or (n, h, w, c)
                with c in {1, 3}, as integers in [0, 255] or floats in [0, 1]. Float images become
                uint8 if that changes no value by more than 1e-3, and stay float32 otherwise. An array
                that can be read both ways, such as (n, 3, 8, 3), is (n, c, h, w).
            y: (n,) given labels: strings, integers or booleans.
            classes: Class names in the order of their indices, by default the sorted distinct labels. An
                integer label k means ``classes[k]``, unless some class names are numbers themselves.
            ids: (n,) unique ids, by default the row numbers.
            true_labels: (n,) like ``y``; None, NaN or the empty string where not known.
            trusted: (n,) boolean mask of the samples whose labels are trusted.

        Raises:
            InputError: If the set is empty, lengths differ, an id occurs twice, a feature is not finite,
                or a label is missing or outside the classes.

        Examples:
            >>> from emlc import Samples
            >>> X = [[0.1, 2.0], [0.4, 1.0], [3.0, 0.2]]
            >>> samples = Samples.from_arrays(X, ["cat", "dog", "cat"], trusted=[True, False, False])
            >>> samples.classes, samples.input_shape
            (('cat', 'dog'), (2,))
            >>> samples.labels
            array([0, 1, 0])
            >>> samples.inputs.dtype
            torch.float32
        """
        inputs = array_inputs(X, "X")
        annotations = annotate(
            len(inputs),
            Written(id=ids, label=y, true_label=true_labels, trusted=trusted),
            where="y",
            classes=classes,
            integer_names=IntegerNames(labels=tuple(classes or ()), true_labels=tuple(classes or ())),
        )
        check_finite(inputs, annotations.ids, "X")
        return cls(inputs=inputs, **vars(annotations))


def _take(inputs: Inputs, rows: NDArray[np.int64]) -> Inputs:
    return inputs.take(rows) if isinstance(inputs, StoredImages) else inputs[torch.from_numpy(rows)]


def _hash(values: Any) -> str:
    return blake2b(values, digest_size=16).hexdigest()


def array_inputs(values: Any, where: str) -> torch.Tensor:
    """Convert an array to inputs: (n, d) float32, or images (n, c, h, w), as in :meth:`Samples.from_arrays`.

    Raises:
        InputError: If the values are not numbers, or the array is neither of features nor of images.
    """
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: expected numbers, found {array.dtype}")
    if array.ndim == 2:
        with np.errstate(over="ignore"):  # check_finite reports an overflow with its row
            return torch.from_numpy(array.astype(np.float32))
    return _images(_channels_first(array, where), where)


def check_finite(
    inputs: torch.Tensor,
    ids: NDArray[np.object_],
    where: str,
    *,
    rows: NDArray[np.int64] | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """Raise an :class:`InputError` that names the first feature which is NaN or infinite.

    Args:
        inputs: (n, ...) any dtype.
        ids: (n,) sample ids.
        where: File or array, for messages.
        rows: (n,) row of each sample in ``where``, by default its index.
        columns: d names of the features, by default their index.
    """
    if not inputs.is_floating_point() or (finite := torch.isfinite(inputs.flatten(1))).all():
        return
    sample, feature = (int(k) for k in torch.nonzero(~finite)[0])
    row = sample if rows is None else int(rows[sample])
    column = repr(columns[feature]) if columns else feature
    value = inputs.flatten(1)[sample, feature].item()
    raise InputError(
        f"{where}: row {row} (id {str(ids[sample])!r}), column {column}: "
        f"expected a finite number, found {value} (missing or too large); missing values are replaced in "
        "tables (.csv, .parquet), and in arrays by scikit-learn's SimpleImputer"
    )


def _channels_first(array: NDArray[Any], where: str) -> NDArray[Any]:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] in IMAGE_CHANNELS:
        return array
    if array.ndim == 4 and array.shape[3] in IMAGE_CHANNELS:
        return array.transpose(0, 3, 1, 2)
    raise InputError(
        f"{where}: expected (n, d) features or images (n, h, w), (n, c, h, w) or (n, h, w, c) with 1 or 3 "
        f"channels, found shape {array.shape}"
    )


def _images(array: NDArray[Any], where: str) -> torch.Tensor:
    largest = 1 if array.dtype.kind in "bf" else 255
    if array.size and not (array.min() >= 0 and array.max() <= largest):  # `not`, so that NaN is refused too
        sample = int(np.argmin(((array >= 0) & (array <= largest)).all(axis=(1, 2, 3))))
        raise InputError(
            f"{where}: images must be integers in [0, 255] or floats in [0, 1], but row {sample} has values "
            f"from {array[sample].min()} to {array[sample].max()}"
        )
    if largest == 255:
        return torch.from_numpy(np.array(array, dtype=np.uint8, order="C"))
    levels = np.round(array.astype(np.float32) * 255)
    if np.abs(levels / 255 - array).max(initial=0) <= 1e-3:
        return torch.from_numpy(np.ascontiguousarray(levels, dtype=np.uint8))
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
