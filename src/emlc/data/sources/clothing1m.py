"""Read Clothing1M in place, in the layout in which it is published.

A million images with noisy labels; lists of images with clean labels for training, validation and
testing (Xiao et al., "Learning from Massive Noisy Labeled Data for Image Classification", CVPR 2015).
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.annotations import IntegerNames, Written, annotate
from emlc.data.images.encoded import ImageFiles
from emlc.data.sources.source import Role, Schema, Source
from emlc.errors import InputError

_log = logging.getLogger(__name__)

_NAME = "clothing1m"
_NOISY_KEYS = "noisy_train_key_list.txt"
_NOISY_LABELS = "noisy_label_kv.txt"
_CLEAN_LABELS = "clean_label_kv.txt"
_CLEAN_KEYS: dict[Role, str] = {
    "trusted": "clean_train_key_list.txt",
    "validation": "clean_val_key_list.txt",
    "test": "clean_test_key_list.txt",
}
_CLASSES = (
    *("T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker"),
    *("Jacket", "Down Coat", "Suit", "Shawl", "Dress", "Vest", "Underwear"),
)


def is_clothing1m(folder: Path) -> bool:
    """Return whether a folder has the lists of Clothing1M, in itself or in its folder ``annotations``."""
    return _lists(folder) is not None


def find_clothing1m(settings: DataSettings) -> Path:
    """Find the folder of Clothing1M: ``data_root``, or a folder in it of that name.

    Raises:
        InputError: If it is not there.
    """
    root = Path(settings.data_root).expanduser()
    named = [entry for entry in root.glob("*") if entry.name.lower() == _NAME]
    for folder in [*named, root]:
        if is_clothing1m(folder):
            return folder
    raise InputError(
        f"{_NAME}: {root / _NAME} has no {_NOISY_KEYS} and {_NOISY_LABELS}. Clothing1M is given out by its "
        f"authors on request (github.com/Cysu/noisy_label): put it there, or name its folder"
    )


def open_clothing1m(folder: Path, role: Role, schema: Schema) -> Source:
    """Open the list of images for a role; ids are the images' paths.

    For data and prediction it is the noisy training list, without the images that are also in a clean list;
    for trusted samples the clean training list; for validation and test samples the clean list of that name.

    Raises:
        InputError: If a list is absent or cannot be read, or an image has no label.
    """
    lists = _lists(folder)
    assert lists is not None
    where = str(folder)
    noisy = role in ("data", "predict")
    keys = _noisy_keys(lists, where) if noisy else _read(lists / _CLEAN_KEYS[role], "path")["path"]
    labels = None if role == "predict" else _labels(keys, lists / (_NOISY_LABELS if noisy else _CLEAN_LABELS))
    names = _class_names(lists)
    if not schema.classes:
        schema = replace(schema, classes=names, has_integers=True)
    annotations = annotate(
        len(keys),
        Written(id=keys.to_numpy(), label=labels),
        where=where,
        own_ids=False,  # the same path in another folder may be another image
        classes=schema.classes,
        integer_names=IntegerNames(labels=names),
    )
    images = ImageFiles(where, folder, keys.combine_chunks())
    return Source(name=where, schema=schema, inputs=images, **vars(annotations))


def _lists(folder: Path) -> Path | None:
    """Return the folder of the lists, if there is one."""
    return next(
        (
            lists
            for lists in (folder, folder / "annotations")
            if (lists / _NOISY_KEYS).is_file() and (lists / _NOISY_LABELS).is_file()
        ),
        None,
    )


def _noisy_keys(lists: Path, where: str) -> pa.ChunkedArray:
    keys = _read(lists / _NOISY_KEYS, "path")["path"]
    clean = pa.chunked_array(
        [
            chunk
            for name in _CLEAN_KEYS.values()
            if (lists / name).is_file()
            for chunk in _read(lists / name, "path")["path"].chunks
        ],
        type=pa.large_string(),
    )
    also_clean = pc.is_in(keys, clean)
    if count := pc.sum(also_clean).as_py():
        _log.info(f"{where}: left out {count:,} noisy images that are in a clean list too")
    return keys.filter(pc.invert(also_clean))


def _labels(keys: pa.ChunkedArray, file: Path) -> NDArray[np.int64]:
    """Return the labels, (n,), of n images."""
    pairs = _read(file, "path", "label")
    rows = pc.index_in(keys, pairs["path"])
    if rows.null_count:
        first = keys.filter(pc.is_null(rows))[0].as_py()
        raise InputError(f"{file}: no label for {rows.null_count:,} images of the list, the first is {first}")
    labels: NDArray[np.int64] = pairs["label"].take(rows).to_numpy()
    return labels


def _read(file: Path, *columns: str) -> pa.Table:
    """Read a list with one image per line: its path, and perhaps its label."""
    kinds = {"path": pa.large_string(), "label": pa.int64()}
    try:
        return pyarrow.csv.read_csv(
            file,
            read_options=pyarrow.csv.ReadOptions(column_names=columns),
            parse_options=pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=kinds),
        )
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: cannot be read as lines of {' and '.join(columns)}: {error}") from error


def _class_names(lists: Path) -> tuple[str, ...]:
    file = lists / "category_names_eng.txt"
    if not file.is_file():
        return _CLASSES
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())
