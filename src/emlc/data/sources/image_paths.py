"""Recognise columns of image paths by their content, and say what is wrong with paths that lead nowhere."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from emlc.data.classes import shorten
from emlc.data.images.formats import readable_endings
from emlc.errors import InputError

_MOST = 0.5  # share of the values from which a column is one of paths
_FOLDERS_TRIED = 100


def look_like_image_paths(values: Sequence[object]) -> bool:
    """Return whether most of the values, without missing ones, are texts that end like image files."""
    texts = [value.strip().lower() for value in values if isinstance(value, str) and value.strip()]
    alike = sum(re.split(r"[?#]", text)[0].endswith(readable_endings()) for text in texts)
    return bool(alike > _MOST * len(texts))


def check_some_exist(where: str, column: str, folder: Path, paths: pa.Array) -> None:
    """Raise an :class:`InputError` if no path (n,), relative to ``folder``, is that of a file.

    The error names the first three paths, and what would be right in place of the first.
    """
    there = [path for path in paths.to_pylist() if path]
    if not there or any(os.path.isfile(folder / path) for path in there):
        return
    raise InputError(
        f"{where}: column {column!r}: none of {len(there):,} image paths exists, relative to "
        f"{os.path.abspath(folder)}; the first: {shorten([repr(path) for path in there], 3)}. "
        f"{_advice(folder, there[0])}. If the column does not hold the images to learn from, "
        "--feature_columns or --image_column names others, and --id_column this one as mere ids"
    )


def _advice(folder: Path, path: str) -> str:
    if re.match(r"\w+://", path):
        return "They are addresses: download the images, and write the paths of the files"
    right = next(_alternatives(folder, path), None)
    if right is None:
        return "Paths must be absolute, or relative to the folder of the table"
    return f"{path!r} would be right as {os.path.relpath(right, folder)!r}"


def _alternatives(folder: Path, path: str) -> Iterator[Path]:
    """Yield files that the path may stand for: one level up or down, or without its first folders."""
    parts = [part for part in re.split(r"[\\/]+", path.strip()) if part]
    for base in (folder, Path(os.path.abspath(folder)).parent, *_folders(folder)):
        for start in range(len(parts)):
            file = base.joinpath(*parts[start:])
            if os.path.isfile(file):
                yield file
    if (other := _in_other_case(folder, parts)) is not None:
        yield other


def _in_other_case(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the file whose path differs from the parts in upper and lower case alone."""
    for part in parts:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        match = next((name for name in names if name.lower() == part.lower()), None)
        if match is None:
            return None
        folder = folder / match
    return folder


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())[:_FOLDERS_TRIED]
    except OSError:
        return []
