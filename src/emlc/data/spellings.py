"""Class names that differ in their spelling only: Cat and cat, 1 and 01, hot-dog and hot dog."""

import logging
import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

_log = logging.getLogger(__name__)

_TRUTH = {"true": "1", "false": "0"}
_SHOWN = 5  # groups of names in a message


class Spelling(NamedTuple):
    """Names that stand for one class, presumably: the name to keep, and the others."""

    name: str
    others: tuple[str, ...]


def find_spellings(counts: Mapping[str, int]) -> list[Spelling]:
    """Find names that differ only in case, spaces, hyphens or underscores, or the way a number is written.

    Args:
        counts: Number of samples of each name.

    Returns:
        One entry per group of at least two such names; the most frequent name is the one to keep, the first
        one where several are.
    """
    keys = {name: _key(name) for name in counts}
    if set(keys.values()) <= {*_TRUTH, *_TRUTH.values()}:  # True and 1 are one class only where all are such
        keys = {name: _TRUTH.get(key, key) for name, key in keys.items()}
    groups: dict[str, list[str]] = {}
    for name in sorted(counts, key=lambda name: -counts[name]):
        groups.setdefault(keys[name], []).append(name)
    return [Spelling(names[0], tuple(names[1:])) for names in groups.values() if len(names) > 1]


def merged_names(counts: Mapping[str, int], keep: tuple[str, ...] = ()) -> dict[str, str]:
    """Return, for each name with another spelling, the one to use in its place; those in ``keep`` win."""
    preferred = {**counts, **dict.fromkeys(keep, max(counts.values(), default=0) + 1)}
    return {
        other: spelling.name
        for spelling in find_spellings(preferred)
        for other in spelling.others
        if other not in keep
    }


def tell_merged(counts: Mapping[str, int], names: Mapping[str, str], where: str) -> None:
    """Log which names were merged into which, with their numbers of samples."""
    pairs = [f"{other!r} ({counts[other]:,}) as {name!r}" for other, name in names.items() if other in counts]
    if pairs:
        _log.info(f"{where}: counted {_listed(pairs)}")


def tell_spellings(counts: Mapping[str, int], where: str) -> None:
    """Log a warning that names the classes which differ in their spelling only, with their numbers."""
    groups = [
        " and ".join(f"{name!r} ({counts[name]:,})" for name in (spelling.name, *spelling.others))
        for spelling in find_spellings(counts)
    ]
    if groups:
        _log.warning(
            f"{where}: classes whose names differ in spelling only: {_listed(groups)}; "
            "--merge_spellings counts them as one"
        )


def _key(name: str) -> str:
    visible = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    text = unicodedata.normalize("NFKC", visible).strip().casefold()
    if re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text):
        return str(int(text.partition(".")[0]))
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", text)


def _listed(texts: list[str]) -> str:
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more
