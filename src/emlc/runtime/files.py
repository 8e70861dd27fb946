"""Reading files, and writing them so that not even a killed process leaves half of one."""

import csv
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

from emlc.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed files that are read."""

_TEMPORARY = ".writing-"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` if the block raises nothing.

    The temporary file has the suffix of ``path``, which some writers look at.
    """
    path = _absolute(path)
    temporary = _temporary(path)
    try:
        with _named_if_full(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, and rename it to ``path`` if the block raises nothing.

    An empty folder at ``path`` is not replaced, since it may be the working directory or a mount: the content
    of the temporary folder is moved into it.

    Raises:
        InputError: ``path`` exists, and is not an empty folder.
    """
    check_free(path)
    path = _absolute(path)
    temporary = _temporary(path / "inside" if path.is_dir() else path)
    temporary.mkdir()
    try:
        with _named_if_full(path):
            yield temporary
        if temporary.parent == path:
            for entry in list(temporary.iterdir()):
                entry.replace(path / entry.name)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def source_stem(source: str) -> str:
    """Return the name of a source without folder, endings and wildcards, as a part of other names."""
    name = Path(source).name
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return re.sub(r"[*?\[\]]", "", Path(name).stem) or "data"


def _temporary(path: Path) -> Path:
    """Return an unused path beside an absolute one, with its suffix, that no other process uses either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}{path.suffix}")


def _absolute(path: Path) -> Path:
    """Return the absolute path without ``.`` and ``..``; links are not followed."""
    return Path(os.path.abspath(path))


def is_temporary(name: str) -> bool:
    """Return whether a name is that of a temporary file or folder of this module."""
    return name.startswith(_TEMPORARY)


def check_free(path: Path) -> None:
    """Raise an :class:`InputError` unless ``path`` does not exist or is an empty folder."""
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"output: the folder {path} is not empty; name another, or remove it first")
    if (path.exists() or path.is_symlink()) and not path.is_dir():
        raise InputError(f"output: {path} is a file, expected a folder that is not there yet")


def check_file(path: Path) -> None:
    """Raise an :class:`InputError` if ``path`` is a directory, so that no file can be written there."""
    if path.is_dir():
        raise InputError(f"output: {path} is a directory, expected a file to write")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed process has left below a folder."""
    for path in list(folder.rglob(f"{_TEMPORARY}*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a full disk, and of a full share of it."""


@contextmanager
def _named_if_full(path: Path) -> Iterator[None]:
    """Put the path into the error of a full disk, which names no file, or a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


@contextmanager
def disk_errors(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Turn a writer's own kinds of errors, as for a full disk, into an :class:`OSError` with the path."""
    try:
        yield
    except kinds as error:
        if shutil.disk_usage(path.parent).free < 2**20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"{path}: cannot be written: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, table: "pd.DataFrame", *, index: bool = False) -> None:
    """Write a table atomically, as :func:`to_csv` does."""
    with atomic_write(path) as temporary:
        to_csv(table, temporary, index=index)


def to_csv(table: "pd.DataFrame", file: Path | IO[str], *, index: bool = False, header: bool = True) -> None:
    """Write a table to a file, with ``\\n`` at the end of each row on every system.

    Texts are quoted where one has a carriage return, which would end its row.
    """
    texts = (table[name] for name in table.columns if table[name].dtype.kind == "O")
    has_return = any(column.astype(str).str.contains("\r", regex=False).any() for column in texts)
    quoting: Any = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    table.to_csv(file, index=index, header=header, lineterminator="\n", quoting=quoting)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs: indented, with a final newline, NaN refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        InputError: the file cannot be read, or holds no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return values


def write_json_list(file: IO[str], items: Iterable[Any], *, ascii_only: bool = False) -> None:
    """Write a JSON list to an open file, one item per line, as the items come.

    Args:
        file: The file.
        items: What JSON can hold.
        ascii_only: Whether other characters are escaped.
    """
    separator = "[\n"
    for item in items:
        file.write(separator + json.dumps(item, ensure_ascii=ascii_only, allow_nan=False))
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")


def read_yaml(path: str | Path, *, most_values: int = 2**20) -> dict[str, Any]:
    """Read the mapping in a YAML file of settings.

    Aliases, which can make a small file explode or go round in circles, are refused.

    Args:
        path: The file.
        most_values: Number of values, and of their names, that it may have.

    Raises:
        InputError: the file cannot be read, holds no mapping, or is too large or nested for settings.
    """
    try:
        content = Path(path).read_bytes()
        problem = _yaml_problem(content, most_values)
        values = None if problem else yaml.load(content.decode("utf-8"), Loader=_YamlLoader)
    except (OSError, ValueError, OverflowError, yaml.YAMLError) as error:  # some dates are a ValueError
        raise InputError(f"{path}: cannot be read as YAML: {error}") from error
    if problem:
        raise InputError(f"{path}: cannot be read as settings: {problem}")
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping of settings, found {type(values).__name__}")
    return values


MOST_YAML = 2**20
"""Number of bytes of the largest file of settings."""
_DEEPEST = 20
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast


def _yaml_problem(content: bytes, most_values: int) -> str | None:
    """Return what keeps a file from being read in bounded time and memory; nothing is built for that."""
    if len(content) > MOST_YAML:
        return f"it is larger than {MOST_YAML // 2**20} MiB"
    depth, scalars = 0, 0
    for event in yaml.parse(content.decode("utf-8"), Loader=_YamlLoader):
        line = f"line {event.start_mark.line + 1}" if event.start_mark else ""
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        scalars += isinstance(event, yaml.ScalarEvent)
        if scalars > most_values:
            return f"it has more than {most_values:,} values"
        if depth > _DEEPEST:
            return f"{line}: it is nested more than {_DEEPEST} levels deep"
        if isinstance(event, yaml.AliasEvent):
            return f"{line}: found the alias *{event.anchor}; write the value out"
    return None
