"""Make names of files and folders from any text: classes, ids and paths are data, and may hold anything."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_UNSAFE = re.compile(r'[<>:"/\\|?*]')
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # they make a name look like another
_DEVICES = {
    *("CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"),
    *(f"{port}{k}" for port in ("COM", "LPT") for k in "0123456789¹²³"),
}
_LONGEST = 100  # bytes; file systems take 255


def safe_names(
    texts: Sequence[str], ending: str | Sequence[str] = "", *, reserved: Iterable[str] = ()
) -> list[str]:
    """Return a readable name for each of n texts, with one ending for all or one for each.

    No name leads out of its folder, is hidden, or is refused by Windows; none is equal to another, or to a
    reserved one, even on file systems that ignore case.
    """
    endings = [ending] * len(texts) if isinstance(ending, str) else ending
    taken = {name.casefold() for name in reserved}
    names = []
    counts: dict[tuple[str, str], int] = {}  # without them n equal texts would take n² steps
    for text, end in zip(texts, endings, strict=True):
        stem = name = _safe(text)
        key = stem.casefold(), end.casefold()
        count = counts.get(key, 1)
        while (name + end).casefold() in taken:
            count += 1
            name = f"{stem}-{count}"
        counts[key] = count
        taken.add((name + end).casefold())
        names.append(name + end)
    return names


def _safe(text: str) -> str:
    normal = unicodedata.normalize("NFC", _BIDI.sub("", text))
    printable = "".join("_" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in normal)
    name = _UNSAFE.sub("_", printable).encode()[:_LONGEST].decode(errors="ignore").strip(". ") or "_"
    return f"_{name}" if name.split(".")[0].strip().upper() in _DEVICES else name
