"""The check that a command does not overwrite the data that a run was trained on, or that it now reads."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from emlc.config import paths_of
from emlc.errors import InputError

if TYPE_CHECKING:
    from emlc.runs.run import Run


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
