"""A progress bar for long work on items, on a terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track

from emlc.errors import readable

_LEAST_ITEMS = 2000
"""Number of items from which on a progress bar is worth it."""

T = TypeVar("T")


def tracked(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the items, with a progress bar on standard error if they are many and it is a terminal."""
    hidden = total < _LEAST_ITEMS or not sys.stderr.isatty()
    shown = escape(readable(description))  # a name of somebody's file may be in it
    yield from track(items, shown, total, console=Console(stderr=True), disable=hidden)
