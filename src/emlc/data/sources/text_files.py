"""Open text files that may be compressed, and find their encoding by their content."""

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from emlc.errors import InputError

_BLOCK = 2**22  # bytes read at a time
_SAMPLE = 2**18
_UNDEFINED = {0x81, 0x8D, 0x8F, 0x90, 0x9D}  # in Windows' code page 1252
_TELLING = _UNDEFINED | {0}
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda path: pa.input_stream(str(path), compression="zstd"),
}
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV UTF-8",
    b"PAR1": "a parquet file; give it the ending .parquet",
    b"ARROW1": "a feather file; pandas.read_feather(FILE).to_parquet(...) makes a parquet file of it",
}


@dataclass(frozen=True)
class TextFile:
    """What was found out about a text file by reading it once.

    Attributes:
        path: The file.
        encoding: Python's name of its encoding.
        size: Number of bytes, without compression.
        quotes: Number of quotation marks.
        lines: Number of lines, whether the last one ends in a line break or not.
        start: Its first 256 KiB as text, or all of it.
        odd: A line that is not in UTF-8, if the encoding was guessed for that reason.
    """

    path: Path
    encoding: str
    size: int
    quotes: int
    lines: int
    start: str
    odd: str | None = None


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, without its compression.

    Raises:
        InputError: If the file cannot be read or unpacked, or is of a kind that is no text.
    """
    try:
        opener = _opener(path)
        with path.open("rb") if opener is None else opener(path) as file:
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _opener(path: Path) -> Callable[[Path], Any] | None:
    with path.open("rb") as file:
        magic = file.read(8)
    for start, kind in _OTHERS.items():
        if magic.startswith(start):
            raise InputError(f"{path}: expected text, found {kind}")
    return next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)


def find_encoding(path: Path, encoding: str | None = None) -> TextFile:
    """Read a file once, and find its encoding: by a byte order mark, else UTF-8 if it is, else Windows-1252.

    Args:
        path: The file.
        encoding: Its encoding, if it is known; the file is then checked to be in it.

    Raises:
        InputError: If the file cannot be read, has bytes that are no text, or is not in the encoding.
    """
    with open_bytes(path) as file:
        first = file.read(_BLOCK)
        found = encoding or _by_content(first)
        contents = _Contents(found or "utf-8")
        block = first
        while block:
            contents.add(block)
            block = file.read(_BLOCK)
        contents.add(b"")
    if contents.odd is not None and (found is not None or contents.is_broken):
        raise InputError(
            f"{path}: expected text in {found or 'utf-8'}, found other bytes near {contents.odd!r}; "
            "--encoding names the encoding"
        )
    if found is None and contents.bytes & {0}:
        raise InputError(
            f"{path}: expected text, found bytes of value 0; if it is text, --encoding names its encoding"
        )
    if found is None:
        guess = "latin-1" if contents.bytes & _UNDEFINED else "cp1252"
        found = "utf-8" if contents.odd is None else guess
    start = codecs.getincrementaldecoder(found)("replace").decode(first[:_SAMPLE])
    return TextFile(path, found, contents.size, contents.quotes, contents.lines, start, contents.odd)


class _Contents:
    """What the blocks of a file have in them.

    Attributes:
        size: Number of bytes.
        quotes: Number of quotation marks.
        lines: Number of lines, whether the last one ends in a line break or not.
        bytes: The kinds of bytes that tell encodings apart.
        odd: A line that is not in the encoding, if there is one.
        is_broken: Whether most other characters beyond ASCII are in the encoding, by all appearances.
    """

    def __init__(self, encoding: str) -> None:
        self.size = self.quotes = self.lines = 0
        self.bytes: set[int] = set()
        self.odd: str | None = None
        self.is_broken = False
        self._last = b""
        self._end = b""  # the last byte that is not 0
        self._has_more_than_ascii = False
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def add(self, block: bytes) -> None:
        """Add a block; an empty one is the end of the file."""
        self.size += len(block)
        self.quotes += block.count(b'"')
        self.bytes |= {byte for byte in _TELLING if byte in block}
        self._count_lines(block)
        if self.odd is None:
            try:
                text = self._decoder.decode(block, final=not block)
                self._has_more_than_ascii |= not text.isascii()
            except UnicodeError as error:
                self.odd = _line(block, getattr(error, "start", 0)) or _line(self._last, len(self._last) - 1)
                replaced = block.decode("utf-8", "replace")
                bad = replaced.count("\ufffd")
                good = sum(map(len, re.findall(r"[^\x00-\x7f]+", replaced))) - bad
                self.is_broken = self._has_more_than_ascii or good > bad
            self._last = block[-80:]

    def _count_lines(self, block: bytes) -> None:
        if not block:
            self.lines += self._end not in (b"", b"\n", b"\r")
            return
        text = block.replace(b"\0", b"")  # UTF-16 and UTF-32 have zeros between \r and \n
        pairs = text.count(b"\r\n") + (self._end == b"\r" and text.startswith(b"\n"))
        self.lines += text.count(b"\n") + text.count(b"\r") - pairs
        self._end = text[-1:] or self._end


def _by_content(start: bytes) -> str | None:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return encoding
    sample = start[:4096]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = sample[first::2].count(0)
        if zeros > 0.4 * len(sample) / 2 and sample[1 - first :: 2].count(0) == 0:
            return encoding
    return None


def _line(block: bytes, position: int) -> str:
    """Return some of the text around a byte, as Windows-1252 has it."""
    start = max(block.rfind(b"\n", 0, position) + 1, position - 20)
    end = block.find(b"\n", position)
    around = block[start : min(end if end >= 0 else len(block), position + 20)]
    return around.decode("cp1252", "replace").strip()
