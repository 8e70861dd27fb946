"""Where commands write what they make of DATA: over neither data nor the output for other data."""

import glob
import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emlc.config import NAMED_SOURCES, paths_of
from emlc.errors import InputError
from emlc.runtime.files import read_json, source_stem, write_json

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
    reserved = f"{stem}-last{ending}"  # of the run's own samples with the last weights
    for number in itertools.count(1):
        path = folder / (f"{name}{ending}" if number == 1 else f"{name}-{number}{ending}")
        is_other = path.exists() and record.get(path.name) != _identity(data)
        if not is_other and path.name != reserved:
            break
    if number > 1:
        _log.info(f"{folder / (name + ending)} may be of other data than {data}; written: {path.name}")
    return path


def remember_output(folder: Path, path: Path, data: str | None) -> None:
    """Note in the run directory which data an output there is of."""
    if data is not None and path.parent == folder:
        write_json(folder / _RECORD, {**_read_record(folder), path.name: _identity(data)})


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / _RECORD
    return read_json(path) if path.is_file() else {}


def _identity(data: str) -> str:
    return data if data in NAMED_SOURCES else os.path.abspath(data)


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
    place = output.resolve()
    inside = source.is_dir() and place.is_relative_to(source.resolve())
    return output.samefile(source) or (inside and not place.is_relative_to(run.resolve()))
