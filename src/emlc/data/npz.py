"""Read .npz and .npy files of plain arrays, in bounded time and memory whatever they claim to be."""

import os
import warnings
import zipfile
import zlib
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from emlc.errors import InputError

_LARGE = 2**30
"""Number of bytes from which arrays are looked at for being far too large for their file."""
_MOST_PACKED = 500
"""By how much large arrays may be compressed; zlib reaches 1,032, of zeros alone."""

_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    TokenError,
)


def read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read all arrays of an .npz file.

    Raises:
        InputError: the file is damaged, encrypted or no .npz file; an array is none of plain values, claims
            another size than it has, or more than the machine's memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_total(sum(info.file_size for info in archive.infolist()), path)
            for info in archive.infolist():
                with archive.open(info) as file:
                    _check_header(file, info.file_size, info.filename)
        with warnings.catch_warnings(), np.load(path, allow_pickle=False) as arrays:
            warnings.simplefilter("ignore")
            return {name: arrays[name] for name in arrays.files}
    except InputError:
        raise
    except (*_ERRORS, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an .npz file of plain arrays: {error}") from error


def read_npy(path: Path) -> NDArray[Any]:
    """Read the array of an .npy file.

    Raises:
        InputError: see :func:`read_npz`.
    """
    try:
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size, path.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(np.load(path, allow_pickle=False))
    except InputError:
        raise
    except _ERRORS as error:
        raise InputError(f"{path}: cannot be read as an .npy file of a plain array: {error}") from error


def _check_total(size: int, path: Path) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{path}: its arrays take {size / 2**30:,.3g} GiB"
    if size > memory:
        raise InputError(f"{found}, more than the {memory / 2**30:,.3g} GiB of this machine")
    if size > max(_LARGE, _MOST_PACKED * path.stat().st_size):
        raise InputError(
            f"{found}, which is suspiciously more than the file; if that is right, write it by numpy.savez, "
            "which does not compress"
        )


def _check_header(file: IO[bytes], size: int, name: str) -> None:
    """Raise a :class:`ValueError` if an array claims another size than it has."""
    if not name.endswith(".npy"):
        return
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise ValueError(f"{name}: of version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers by Python 2
        shape, _, dtype = readers[version](file)
    claimed = prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"{name}: expected plain values, found {dtype} of shape {shape}")
    if claimed != size - file.tell():
        raise ValueError(f"{name}: claims {claimed:,} bytes, shape {shape}, and has {size - file.tell():,}")
