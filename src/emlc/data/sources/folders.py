"""Read a folder with one sub-folder of images per class."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from emlc.config import DataSettings
from emlc.data.annotations import Written, annotate
from emlc.data.classes import shorten
from emlc.data.images.encoded import ImageFiles
from emlc.data.images.formats import readable_endings
from emlc.data.sources.source import Role, Schema, Source
from emlc.errors import InputError

_log = logging.getLogger(__name__)

SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}

_OF_FILE_MANAGERS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini"}


@dataclass
class _Listing:
    """What there is in a folder: paths relative to it, with slashes, in the order of their parts.

    Attributes:
        images: Paths of the images.
        others: Paths of files whose ending is not that of an image.
        folders: Names of the sub-folders, which stand for classes.
        loops: Paths of folders that lead back to a folder above them.
    """

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)


def open_folder(folder: Path, settings: DataSettings, role: Role, schema: Schema, id_prefix: str) -> Source:
    """Open a folder of images; the label is the name of the first sub-folder, the id the relative path.

    Images are the files with the endings of formats that Pillow reads; others are counted and logged. For
    prediction the images may lie anywhere below the folder. Hidden files and those of file managers are left
    out.

    Raises:
        InputError: If there are no images, one lies in no sub-folder, a sub-folder has none, or the
            sub-folders look like splits.
    """
    where = str(folder)
    listing = _list(folder)
    _tell(listing, where)
    if not listing.images:
        others = f"; not read as images: {_endings(listing.others)}" if listing.others else ""
        raise InputError(f"{where}: no images, no parquet files found{others}")
    if role != "predict":
        _check_class_folders(folder, listing)
    prefix = id_prefix.replace("-", "/")
    labels = None if role == "predict" else [path.split("/")[0] for path in listing.images]
    annotations = annotate(
        len(listing.images),
        Written(id=[prefix + path for path in listing.images], label=labels),
        where=where,
        own_ids=False,  # the same relative path in another folder may be another image
        classes=schema.classes,
        settings=settings,
    )
    images = ImageFiles(where, folder, pa.array(listing.images, pa.large_string()))
    return Source(name=where, schema=schema, inputs=images, **vars(annotations))


def _list(folder: Path) -> _Listing:
    listing = _Listing()
    endings = readable_endings()
    for path in _files(folder, listing):
        (listing.images if path.lower().endswith(endings) else listing.others).append(path)
    return listing


def _files(folder: Path, listing: _Listing, parents: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the paths of all files that are not hidden; ``above`` are the real paths of the folders above."""
    above = (*above, os.path.realpath(folder))
    for entry in _entries(folder):
        path = parents + entry.name
        if not os.path.isdir(entry.path):  # entry.is_dir raises an error for links in a circle
            yield path
        elif os.path.realpath(entry.path) in above:
            listing.loops.append(path)
        else:
            listing.folders += [] if parents else [entry.name]
            yield from _files(Path(entry.path), listing, f"{path}/", above)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((e for e in entries if not _is_hidden(e.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    for entry in found:
        try:
            entry.name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{folder}: {os.fsencode(entry.name)!r} is not in UTF-8; rename it") from error
    return found


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_FILE_MANAGERS


def _tell(listing: _Listing, where: str) -> None:
    if listing.others and listing.images:
        _log.warning(
            f"{where}: left out {len(listing.others):,} files that are not read as images, by their ending: "
            f"{_endings(listing.others)}"
        )
    if listing.loops:
        _log.warning(f"{where}: left out links to folders above them: {shorten(listing.loops)}")


def _endings(paths: list[str]) -> str:
    """Return the endings of files, with their numbers."""
    counts = Counter(os.path.splitext(path)[1].lower() or "no ending" for path in paths)
    return shorten([f"{ending} ({count})" for ending, count in counts.most_common()])


def _check_class_folders(folder: Path, listing: _Listing) -> None:
    stray = [path for path in listing.images if "/" not in path]
    if stray:
        raise InputError(
            f"{folder}: {len(stray)} images lie in no sub-folder, which would name their class: "
            f"{shorten(stray, 5)}"
        )
    classes = {path.split("/")[0] for path in listing.images}
    if classes <= SPLIT_NAMES:
        raise InputError(
            f"{folder}: expected one sub-folder per class, found {shorten(sorted(classes))}, which look like "
            "splits; pass one of them as the data, and others as --test or --validation"
        )
    if empty := [name for name in listing.folders if name not in classes]:
        inside = [path for path in listing.others if path.split("/")[0] in empty]
        raise InputError(
            f"{folder}: {len(empty)} sub-folders, which would be classes, have no images: {shorten(empty)}"
            f"{', only ' + _endings(inside) if inside else ''}; convert their files, or remove the folders"
        )
