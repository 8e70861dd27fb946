"""Human labels of images whose true labels are known: CIFAR-10N and CIFAR-100N.

Wei et al., "Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations", ICLR 2022.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.annotations import Annotations
from emlc.data.classes import class_labels, decode, encode, shorten
from emlc.data.npz import read_npz
from emlc.errors import InputError

_CLEAN = "clean_label"
_COARSE = "coarse"  # CIFAR-100N also has labels of the 20 super-classes
_FULL_NAMES = {
    "worst": "worse_label",
    "aggregate": "aggre_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "noisy": "noisy_label",
}

_Annotated = TypeVar("_Annotated", bound=Annotations)


def with_human_labels(data: _Annotated, settings: DataSettings) -> _Annotated:
    """Return the data with the labels of the file ``human_labels`` as given labels.

    The labels that the data had become the true ones; samples that are marked as trusted keep theirs. Without
    that setting the data stay as they are.

    Raises:
        InputError: If the file cannot be read, lacks the labels that the settings name, or its clean labels
            are not, row by row, the labels of the data.
    """
    if settings.human_labels is None:
        return data
    if data.labels is None:
        raise InputError("human_labels: the data have no labels to compare the file with")
    file = settings.human_labels
    columns = _read(Path(file))
    if _CLEAN not in columns:
        raise InputError(
            f"{file}: no {_CLEAN!r}, by which its order is checked; found: {shorten([*columns])}"
        )
    key = _key(columns, settings.human_labels_key, file)
    clean, human = (_encoded(columns[name], data, f"{file}: {name}") for name in (_CLEAN, key))
    differs = clean != data.labels
    if differs.any():
        row = int(np.argmax(differs))
        was, expected = (data.classes[codes[row]] for codes in (clean, data.labels))
        raise InputError(
            f"{file}: {_CLEAN} differs from the data's own labels in {differs.sum():,} of {len(data):,} "
            f"rows; the first is row {row} (id {data.ids[row]!r}): {was!r} in the file, {expected!r} in the "
            "data. The file belongs to other data, or to another order of them"
        )
    given = human if data.trusted is None else np.where(data.trusted, data.labels, human)
    return replace(data, labels=given, true_labels=data.labels)


def _encoded(values: Any, data: Annotations, where: str) -> NDArray[np.int64]:
    labels = decode(class_labels(values, where), data.classes)
    if len(labels) != len(data):
        raise InputError(f"{where}: {len(labels):,} labels, but the data have {len(data):,} samples")
    return encode(labels, data.classes, data.ids, where)


def _key(columns: Mapping[str, Any], key: str | None, file: str) -> str:
    for name in (key, _FULL_NAMES.get(key or "")):
        if name is not None and name in columns:
            return name
    human = [name for name in columns if not name.startswith("clean") and _COARSE not in name]
    if key is None and len(human) == 1:
        return human[0]
    raise InputError(f"{file}: human_labels_key: expected one of {shorten(human)}, got {key or 'none'}")


def _read(file: Path) -> Mapping[str, Any]:
    """Read the columns (n,) of a file, by name."""
    readers = {".pt": _read_pt, ".pth": _read_pt, ".npz": read_npz, ".csv": _read_csv}
    if file.suffix == ".npy":
        raise InputError(
            f"{file}: is not opened: the .npy files of CIFAR-N are pickles, which could run any code; "
            "pass CIFAR-10_human.pt or CIFAR-100_human.pt, or a .npz or .csv file of the same columns"
        )
    if file.suffix not in readers:
        raise InputError(f"{file}: human_labels: expected a {', '.join(readers)} file")
    try:
        columns = readers[file.suffix](file)
    except InputError:
        raise
    except UnpicklingError as error:  # its own message advises executing the pickle
        raise InputError(
            f"{file}: expected a dictionary of integer arrays; other pickles could run code, and are not "
            "opened"
        ) from error
    except Exception as error:  # unpicklers, unzippers and parsers may raise anything on a broken file
        raise InputError(f"{file}: cannot be read as human labels: {error}") from error
    if not isinstance(columns, Mapping):
        raise InputError(f"{file}: expected a mapping of names to labels, found {type(columns).__name__}")
    return columns


def _read_pt(file: Path) -> Any:
    """Load a dictionary of integer arrays that torch.save wrote; nothing else in a pickle is executed."""
    reconstruct: Any = np.empty(0).__reduce__()[0]
    # Pickles of numpy 1 name this module by its former name, numpy.core.
    known = [(reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    integers = {type(np.dtype(kind)) for kind in np.typecodes["AllInteger"]}
    safe = torch.serialization.safe_globals([*known, np.ndarray, np.dtype, *integers])
    with safe, warnings.catch_warnings():
        # Some releases of numpy warn of old pickles.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        return torch.load(file, weights_only=True)


def _read_csv(file: Path) -> Any:
    return dict(pd.read_csv(file, dtype=str, keep_default_na=False).items())
