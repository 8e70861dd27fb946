"""Read a folder with one sub-folder of images a class."""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.datasets.folder import IMG_EXTENSIONS

from emlc.config import DataSettings
from emlc.data.annotations import annotate
from emlc.data.classes import shorten
from emlc.data.images import decode_images
from emlc.data.source import Role, Schema, Source
from emlc.errors import InputError

_SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}


def open_folder(folder: Path, settings: DataSettings, role: Role, schema: Schema, id_prefix: str) -> Source:
    """Open a folder of images; the label is the name of the first sub-folder, the id the relative path.

    For prediction the images may lie anywhere below the folder. Hidden files and folders are left out.

    Raises:
        InputError: If there are no images, one lies in no class, or the sub-folders look like splits.
    """
    where = str(folder)
    paths = [path.relative_to(folder) for path in _image_files(folder)]
    if not paths:
        raise InputError(f"{where}: no images ({' '.join(IMG_EXTENSIONS)}), no parquet files found")
    if role != "predict":
        _check_class_folders(folder, paths)
    names = [path.as_posix() for path in paths]

    def load(rows: NDArray[np.int64], schema: Schema) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        return decode_images(
            [folder / names[row] for row in rows],
            [names[row] for row in rows],
            where,
            image_size=settings.image_size,
            expected_shape=schema.input_shape,
            skip_unreadable=settings.skip_unreadable,
        )

    annotations = annotate(
        len(names),
        where=where,
        ids=[id_prefix.replace("-", "/") + name for name in names],
        own_ids=False,  # the same relative path in another folder may be another image
        labels=None if role == "predict" else [path.parts[0] for path in paths],
        classes=schema.classes,
    )
    return Source(name=where, schema=schema, load=load, **vars(annotations))


def _image_files(folder: Path) -> list[Path]:
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            Path(parent, name)
            for name in names
            if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(files)


def _check_class_folders(folder: Path, paths: list[Path]) -> None:
    stray = [str(path) for path in paths if len(path.parts) == 1]
    if stray:
        raise InputError(
            f"{folder}: {len(stray)} images lie in no sub-folder, which would name their class: "
            f"{shorten(stray, 5)}"
        )
    classes = {path.parts[0] for path in paths}
    if classes <= _SPLIT_NAMES:
        raise InputError(
            f"{folder}: expected one sub-folder a class, found {shorten(sorted(classes))}, which look like "
            "splits; pass one of them as the data, and others as --test or --validation"
        )
