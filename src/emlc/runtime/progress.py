"""A progress bar for long work on items, on a terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

_FROM = 2000  # items; fewer are done before a bar is worth it

T = TypeVar("T")


def tracked(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """The items, with a bar on standard error if they are many and it is a terminal."""
    hidden = total < _FROM or not sys.stderr.isatty()
    yield from track(items, description, total, console=Console(stderr=True), disable=hidden)
