"""Where commands write: over no data, no output for other data, and no file that is not of their own kind."""

import glob
import itertools
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emlc.config import NAMED_SOURCES, paths_of
from emlc.errors import InputError
from emlc.runtime.files import is_temporary, read_json, source_stem, write_json
from emlc.runtime.locks import LOCK

if TYPE_CHECKING:
    from emlc.runs.run import Run

_log = logging.getLogger(__name__)

_RECORD = "outputs.json"


def default_path(folder: Path, stem: str, ending: str, data: str | None) -> Path:
    """Return where the output for DATA goes: STEM-DATA, or STEM-DATA-2 if that is of other data.

    Args:
        folder: The run directory.
        stem: What is written.
        ending: End of the name.
        data: The source; None: the run's own samples, whose output has no DATA in its name.
    """
    if data is None:
        return folder / f"{stem}{ending}"
    record = _read_record(folder)
    name = f"{stem}-{source_stem(data)}"
    reserved = f"{stem}-last{ending.removeprefix('-last')}"  # of the run's own samples with the last weights
    for number in itertools.count(1):
        path = folder / (f"{name}{ending}" if number == 1 else f"{name}-{number}{ending}")
        is_other = path.exists() and record.get(path.name) != known_as(data)
        if not is_other and path.name != reserved:
            break
    if number > 1:
        _log.info(f"{folder / (name + ending)} may be of other data than {data}; written: {path.name}")
    return path


def remember_output(folder: Path, path: Path, data: str | None) -> None:
    """Note in the run directory which data an output there will be of, before it is written.

    A command that is killed in between, and given again, then writes to the same name.
    """
    if data is not None and path.parent == folder:
        write_json(folder / _RECORD, {**_read_record(folder), path.name: known_as(data)})


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / _RECORD
    record = read_json(path) if path.is_file() else {}
    return {name: data for name, data in record.items() if isinstance(data, str)}


def known_as(data: str) -> str:
    """Return what DATA is known by in the run directory: a name, or an absolute path."""
    return data if data in NAMED_SOURCES else os.path.abspath(data)


OF_TRAINING = {
    *("settings.yaml", "split.csv", "model.json", "metrics.csv", "steps.csv", "summary.json", _RECORD),
    *("decision.json", "labels.csv", "labels.parquet", "weights.csv", "noise.csv", "rivals.json"),
    *("chosen", "last", "tensorboard", "checkpoint.pt", "checkpoint.before.pt", "backbone.safetensors"),
    *("recovery.png", "retain_weights.png", "meta_objective.png", "pretraining.png", "initial", LOCK),
}
"""Names in a run directory that training writes; no command puts another of its files in their place."""

_LOOKED_AT = 2**16
"""Bytes at the start and at the end of a file that say what it is."""


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error of its own at links in a circle


def check_apart(folder: Path, sources: Mapping[str, str]) -> None:
    """Raise an :class:`InputError` if an output lies in a folder of data, has data in it, or is data.

    Args:
        folder: The run directory or the file to be written; it need not exist.
        sources: Files, folders and globs of data, by the names of their settings.
    """
    place = _real(folder)
    for name, source in sources.items():
        path = Path(source).expanduser()
        root = _real(path if path.is_dir() else _root(path))
        if root.is_dir() and place.is_relative_to(root):
            raise InputError(
                f"output: {folder} lies in the folder of {name}, {source}, whose files would then be mixed "
                "with the output; name a place outside of it (--output)"
            )
        if path.is_file() and _real(path).is_relative_to(place):
            what = "would replace" if path.samefile(folder) else "is the folder of"
            raise InputError(f"output: {folder} {what} {name}, {source}; name another (--output)")


def _root(path: Path) -> Path:
    """Return the folder below which a glob looks in several folders; of any other path, the path itself."""
    parts = path.parts
    magic = next((k for k, part in enumerate(parts[:-1]) if glob.has_magic(part)), None)
    return path if magic is None or path.exists() else Path(*parts[:magic])


def check_ours(output: Path, mark: str, *, usual: bool) -> None:
    """Raise an :class:`InputError` unless a file is not there yet, or is one that the same command wrote.

    Args:
        output: The file to be written.
        mark: Text that is at the start or at the end of each file that the command writes.
        usual: Whether it is the file that the command writes to if it is not told another.
    """
    if not usual:
        check_name(output)
    if output.is_symlink() and not output.exists():
        raise InputError(
            f"output: {output} is a link to {os.readlink(output)}, which does not exist; remove it"
        )
    if output.is_file() and mark.encode() not in _ends(output):
        raise InputError(
            f"output: {output} is there already, and this command did not write it; "
            "name another, or remove it first"
        )


def check_name(output: Path) -> None:
    """Raise an :class:`InputError` if an output has, or lies below, the name of a file of a training."""
    place = _real(output)
    run = next((folder for folder in place.parents if (folder / "settings.yaml").exists()), None)
    if run is not None and place.relative_to(run).parts[0] in OF_TRAINING:
        raise InputError(f"output: {output} is the name of a file of the run {run}; name another")


def check_folder_place(folder: Path) -> None:
    """Raise an :class:`InputError` if there is a file, or a link that leads nowhere, in a folder's place."""
    if folder.is_symlink() and not folder.exists():
        raise InputError(
            f"output: {folder} is a link to {os.readlink(folder)}, which does not exist; remove it"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output: {folder} is a file, expected a directory")


def check_our_folder(folder: Path, first: str) -> None:
    """Raise an :class:`InputError` if a folder has something in it, but not what is written first."""
    check_name(folder)
    check_folder_place(folder)
    names = os.listdir(folder) if folder.is_dir() else []
    if first not in names and (found := sorted(name for name in names if not is_temporary(name))):
        raise InputError(f"output: {folder} holds {found[0]}, and no {first}: name a new or empty folder")


def _ends(path: Path) -> bytes:
    """Return the start and the end of a file; of a table the names of its columns, and its metadata."""
    if path.suffix == ".parquet":
        import pyarrow as pa  # every command imports this module, and most look into no parquet file
        import pyarrow.parquet as pq

        with suppress(pa.ArrowInvalid):
            schema = pq.read_schema(path)
            about = [key + b": " + value for key, value in (schema.metadata or {}).items()]
            return b"\n".join([*map(str.encode, schema.names), *about])
    with path.open("rb") as file:
        if path.suffix == ".csv":
            return file.readline(_LOOKED_AT)
        start = file.read(_LOOKED_AT)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LOOKED_AT))
        return start + file.read()


def check_keeps_sources(run: "Run", *outputs: Path, data: str | None = None) -> None:
    """Raise an :class:`InputError` if writing would replace a file of a source.

    Args:
        run: The run whose sources must not be replaced.
        outputs: Files to be written.
        data: A further source, or a glob of its files.
    """
    named = paths_of(run.settings, "source", "file") | ({} if data is None else {"DATA": data})
    for name, source in named.items():
        for path in _paths(source):
            for output in outputs:
                if _is_of(output, path, run.folder):
                    raise InputError(f"output: {output} would replace {name}, {source}; name another file")


def _paths(source: str) -> Iterator[Path]:
    path = Path(source).expanduser()
    yield from [path] if path.exists() else map(Path, glob.glob(str(path), recursive=True))


def _is_of(output: Path, source: Path, run: Path) -> bool:
    """Tell whether the output is the source, or an existing file in its folder but outside of the run."""
    if not output.exists():
        return False
    place = _real(output)
    inside = source.is_dir() and place.is_relative_to(_real(source))
    return output.samefile(source) or (inside and not place.is_relative_to(_real(run)))
