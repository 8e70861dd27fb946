"""CIFAR-10 and CIFAR-100 by name: torchvision's files, downloaded where they are absent, or parquet."""

import logging
import tarfile
import warnings
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from emlc.config import DataSettings
from emlc.data.annotations import IntegerNames, annotate
from emlc.data.classes import shorten
from emlc.data.noise import CIFAR10_CLASSES, CIFAR100_CLASSES, canonical_class
from emlc.data.samples import array_inputs
from emlc.data.sources.source import Role, Schema, Source, all_true, in_memory
from emlc.data.sources.tables import open_table, parquet_files
from emlc.errors import InputError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

_log = logging.getLogger(__name__)

CIFAR = {"cifar10": CIFAR10_CLASSES, "cifar100": CIFAR100_CLASSES}
"""By name, the names of the classes in the order of their labels."""


def open_cifar(name: str, settings: DataSettings, role: Role, schema: Schema, id_prefix: str) -> Source:
    """Open the training images of cifar10 or cifar100, or the test images for a test source.

    They are read from ``data_root``: from Hugging Face's parquet files, in that folder or in one of this
    name below it, else from torchvision's files, which are downloaded if there are none. Samples keep their
    original order. Labels are the true ones, unless the settings name columns of the parquet files.

    Raises:
        InputError: If the data are absent and cannot be downloaded, or have other classes.
    """
    if role == "validation":
        raise InputError(f"{name} has no validation set; --validation_fraction holds out trusted samples")
    folder = parquet_folder(name, settings.data_root)
    if folder is not None:
        return _open_parquet(name, folder, settings, role, schema, id_prefix)
    dataset = _load(name, Path(settings.data_root).expanduser(), train=role != "test")
    names = tuple(dataset.classes)
    if not schema.classes:
        schema = replace(schema, classes=names, has_integers=True)
    annotations = annotate(
        len(dataset.targets),
        all_true(role, dataset.targets),
        where=name,
        id_prefix=id_prefix,
        classes=schema.classes,
        integer_names=IntegerNames(labels=names, true_labels=names),
        settings=settings,
    )
    return in_memory(name, annotations, array_inputs(dataset.data, name), schema)


def is_complete(name: str, settings: DataSettings) -> bool:
    """Return whether ``data_root`` has the files of cifar10 or cifar100, so that nothing is downloaded."""
    if parquet_folder(name, settings.data_root) is not None:
        return True
    try:
        _open_checked(_dataset(name), Path(settings.data_root).expanduser(), train=True)
    except RuntimeError:
        return False
    return True


def parquet_folder(name: str, data_root: str) -> Path | None:
    """Return the folder in ``data_root`` with parquet files of cifar10 or cifar100, if there is one."""
    root = Path(data_root).expanduser()
    folders = (root / name, root / name / "plain_text", root / name / name, root)
    return next((folder for folder in folders if any(folder.glob("train*.parquet"))), None)


def _open_parquet(
    name: str, folder: Path, settings: DataSettings, role: Role, schema: Schema, id_prefix: str
) -> Source:
    classes = CIFAR[name]
    files = parquet_files(str(folder), role)
    source = open_table(files, str(folder), settings, role, schema, id_prefix, default_classes=classes)
    if not schema.classes and sorted(map(canonical_class, source.classes)) != sorted(classes):
        raise InputError(
            f"{folder}: expected the {len(classes)} classes of {name}, found {shorten(source.classes)}"
        )
    if role == "data" and settings.label_column is None and source.true_labels is None:
        return replace(source, true_labels=source.labels)
    return source


def _load(name: str, root: Path, *, train: bool) -> "CIFAR10":
    kind = _dataset(name)
    try:
        return _open_checked(kind, root, train=train)
    except RuntimeError:  # torchvision raises it for files that are absent or have another checksum
        _log.info(f"{name}: not in {root}; downloading {kind.url}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            return _open_checked(kind, root, train=train, download=True)
    except (OSError, RuntimeError, HTTPException, tarfile.TarError, EOFError) as error:
        raise InputError(
            f"{name}: not in {root}, and the download failed: {error}. Put {kind.url} there by hand, or "
            f"train-*.parquet and test-*.parquet files into {root / name}, or name another folder by "
            "--data_root"
        ) from error


def _dataset(name: str) -> "type[CIFAR10]":
    """Return torchvision's class, which is imported when files of its own are read."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kinds: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
    return kinds[name]


def _open_checked(kind: "type[CIFAR10]", root: Path, *, train: bool, download: bool = False) -> "CIFAR10":
    """Open torchvision's data set, which compares all files with their checksums before it unpickles any."""
    with warnings.catch_warnings():
        # Some releases of numpy warn of pickles as old as these.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        return kind(root, train=train, download=download)
