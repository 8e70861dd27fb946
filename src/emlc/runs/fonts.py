"""Fonts for class names of any script in pictures, and escapes for characters that no font has."""

import logging
import unicodedata
from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager

_log = logging.getLogger(__name__)

_DEFAULT = "DejaVu Sans"  # comes with matplotlib


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names as they can be drawn, and the font families that have their characters.

    Characters that no installed font has, and control characters, are escaped as in Python.
    """
    characters = frozenset("".join(names))
    families, absent = _families(characters - _characters(font_manager.findfont(_DEFAULT)))
    absent |= {c for c in characters if unicodedata.category(c) in ("Cc", "Cs")}
    escapes = {ord(c): c.encode("unicode_escape").decode() for c in absent}
    return [name.translate(escapes) for name in names], [_DEFAULT, *families]


@cache
def _families(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return installed families that have the characters, and the characters that none of them has."""
    families: list[str] = []
    absent = characters
    fonts = font_manager.fontManager.ttflist
    entries = [e for e in fonts if (e.style, e.weight) == ("normal", 400) and "Last Resort" not in e.name]
    for entry in sorted(entries, key=lambda e: (" Sans" not in e.name, e.name)) if characters else ():
        if absent and absent & (has := _characters(entry.fname)):
            families.append(entry.name)
            absent -= has
    if visible := "".join(sorted(c for c in absent if unicodedata.category(c) not in ("Cc", "Cs"))):
        _log.warning(f"pictures: no installed font has the characters {visible}: they are shown as escapes")
    return tuple(families), absent


@cache
def _characters(file: str) -> frozenset[str]:
    try:
        return frozenset(map(chr, font_manager.get_font(file).get_charmap()))
    except (OSError, RuntimeError):  # fonts of bitmaps alone, such as those of coloured emoji
        return frozenset()
