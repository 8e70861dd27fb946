"""What samples can be read from, checked without torch, which takes seconds to import."""

import glob
from pathlib import Path

from emlc.config.data import NAMED_SOURCES
from emlc.errors import InputError

SOURCE_KINDS = (
    f"{' | '.join(NAMED_SOURCES)} | a .csv, .parquet or .npz file | a folder or glob of parquet files | "
    "a folder of images"
)
"""The kinds of sources, in words."""


def check_source(source: str) -> None:
    """Raise an :class:`InputError` unless a source has a name, or there is such a file, folder or glob."""
    path = Path(source).expanduser()
    matches = path.suffix.lower() == ".parquet" and glob.glob(str(path))
    if source not in NAMED_SOURCES and not matches and not path.exists():
        raise InputError(f"{source}: no such file or folder; expected {SOURCE_KINDS}")
