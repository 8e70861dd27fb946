"""Read a folder with one sub-folder of images per class."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from torchvision.datasets.folder import IMG_EXTENSIONS

from emlc.config import DataSettings
from emlc.data.annotations import annotate
from emlc.data.classes import shorten
from emlc.data.images.encoded import ImageFiles
from emlc.data.sources.source import Role, Schema, Source
from emlc.errors import InputError

SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}


def open_folder(folder: Path, settings: DataSettings, role: Role, schema: Schema, id_prefix: str) -> Source:
    """Open a folder of images; the label is the name of the first sub-folder, the id the relative path.

    For prediction the images may lie anywhere below the folder. Hidden files and folders are left out.

    Raises:
        InputError: If there are no images, one lies in no sub-folder, or the sub-folders look like splits.
    """
    where = str(folder)
    paths = list(_image_files(folder))
    if not paths:
        raise InputError(f"{where}: no images ({' '.join(IMG_EXTENSIONS)}), no parquet files found")
    if role != "predict":
        _check_class_folders(folder, paths)
    prefix = id_prefix.replace("-", "/")
    annotations = annotate(
        len(paths),
        where=where,
        ids=[prefix + path for path in paths],
        own_ids=False,  # the same relative path in another folder may be another image
        labels=None if role == "predict" else [path.split("/")[0] for path in paths],
        classes=schema.classes,
    )
    images = ImageFiles(where, folder, pa.array(paths, pa.large_string()))
    return Source(name=where, schema=schema, inputs=images, **vars(annotations))


def _image_files(folder: Path | str, parents: str = "") -> Iterator[str]:
    """Yield paths relative to the folder, with slashes, in the order of their parts."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _image_files(entry.path, f"{parents}{entry.name}/")
        elif entry.name.lower().endswith(IMG_EXTENSIONS):
            yield parents + entry.name


def _check_class_folders(folder: Path, paths: list[str]) -> None:
    stray = [path for path in paths if "/" not in path]
    if stray:
        raise InputError(
            f"{folder}: {len(stray)} images lie in no sub-folder, which would name their class: "
            f"{shorten(stray, 5)}"
        )
    classes = {path.split("/")[0] for path in paths}
    if classes <= SPLIT_NAMES:
        raise InputError(
            f"{folder}: expected one sub-folder per class, found {shorten(sorted(classes))}, which look like "
            "splits; pass one of them as the data, and others as --test or --validation"
        )
