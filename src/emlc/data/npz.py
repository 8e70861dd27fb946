"""Read .npz and .npy files of plain arrays, in bounded time and memory whatever they claim to be."""

import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
_LOCAL_HEADER = 30
"""Bytes of the header before each file in a .zip, whose last four are the lengths of a name and of more."""

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
    with _named_errors(path):
        with zipfile.ZipFile(path) as archive:
            _check_total(sum(info.file_size for info in archive.infolist()), path)
            for info in archive.infolist():
                with archive.open(info) as file:
                    _check_header(file, info.file_size, info.filename)
        with warnings.catch_warnings(), np.load(path, allow_pickle=False) as arrays:
            warnings.simplefilter("ignore")
            return {name: arrays[name] for name in arrays.files}


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (*_ERRORS, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as an .npz file of plain arrays: {error}") from error


def map_npz(path: Path) -> dict[str, NDArray[np.generic]] | None:
    """Map the arrays of an .npz file into memory, whose pages are read when they are used.

    What is in the arrays is not compared with the checksums of the file: see :func:`check_sums`.

    Returns:
        The arrays by name; None if they are compressed.

    Raises:
        InputError: see :func:`read_npz`.
    """
    with _named_errors(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if not all(_is_plain(info) for info in members):
            return None
        return {info.filename.removesuffix(".npy"): _mapped(path, archive, info) for info in members}


def check_sums(path: Path) -> None:
    """Compare what is in an .npz file with its checksums.

    Raises:
        InputError: the file is damaged.
    """
    with _named_errors(path), zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged}: the content does not fit its checksum")


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """Return whether an array lies in the file as it is in memory."""
    is_encrypted = bool(info.flag_bits & 1)
    return info.filename.endswith(".npy") and info.compress_type == zipfile.ZIP_STORED and not is_encrypted


def _mapped(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.generic]:
    with archive.open(info) as file:
        shape, is_fortran, dtype = _check_header(file, info.file_size, info.filename)
        start = file.tell()
        if prod(shape) == 0 or not shape:  # nothing to map
            return np.asarray(np.frombuffer(file.read(), dtype).reshape(shape))
    with path.open("rb") as whole:
        whole.seek(info.header_offset)
        header = whole.read(_LOCAL_HEADER)
    start += info.header_offset + _LOCAL_HEADER + sum(struct.unpack("<2H", header[-4:]))
    return np.memmap(path, dtype, "r", start, shape, "F" if is_fortran else "C")


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


def _check_header(file: IO[bytes], size: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, order and dtype; raise a :class:`ValueError` if they claim another size than there is."""
    if not name.endswith(".npy"):
        return (), False, np.dtype(np.void)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise ValueError(f"{name}: of version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers by Python 2
        shape, is_fortran, dtype = readers[version](file)
    claimed = prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"{name}: expected plain values, found {dtype} of shape {shape}")
    if claimed != size - file.tell():
        raise ValueError(f"{name}: claims {claimed:,} bytes, shape {shape}, and has {size - file.tell():,}")
    return shape, is_fortran, dtype
