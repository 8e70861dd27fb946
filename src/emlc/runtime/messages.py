"""Messages that emlc logs while it works, through Python's ``logging``, and the console that shows them.

The library logs to children of the logger ``emlc`` and prints nothing; on its own it is silent. Commands, and
functions that have a console, show the messages on it for as long as they run.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from emlc.errors import readable

_LOGGER = logging.getLogger("emlc")


class _ConsoleHandler(logging.Handler):
    """A logging handler that writes messages to a console as they are, neither wrapped nor read as markup."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.out(readable(self.format(record)), highlight=False)


@contextmanager
def show_messages(console: Console | None = None, level: str | None = None) -> Iterator[Console]:
    """Show messages on one console, and on no other, during a block.

    A level that was set on the logger ``emlc`` is kept; else messages from info upwards are shown. Under
    ``torchrun`` only the first process shows messages.

    Args:
        console: Where to show messages; by default where they are shown already, or else on standard error.
        level: debug | info | warning | error; the level of the logger during the block.

    Yields:
        The console, for output other than messages.
    """
    outer = [handler for handler in _LOGGER.handlers if isinstance(handler, _ConsoleHandler)]
    console = console or next((handler.console for handler in outer), Console(stderr=True))
    is_first = int(os.environ.get("RANK", 0)) == 0
    handler = _ConsoleHandler(console if is_first else Console(quiet=True))
    level_before, propagates = _LOGGER.level, _LOGGER.propagate
    if level is not None:
        _LOGGER.setLevel(level.upper())
    elif level_before == logging.NOTSET and not console.quiet and not _LOGGER.isEnabledFor(logging.INFO):
        # The root logger's level admits warnings only: its handlers must not get more because of the console.
        _LOGGER.setLevel(logging.INFO)
        _LOGGER.propagate = False
    if _LOGGER.level == logging.DEBUG:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    _replace(outer, [handler])
    try:
        yield console
    finally:
        _replace([handler], outer)
        _LOGGER.setLevel(level_before)
        _LOGGER.propagate = propagates


class _Warnings(logging.Handler):
    """A logging handler that collects warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def keep_warnings(*, shown: bool) -> Iterator[list[str]]:
    """Collect the warnings that are logged in a block; with ``shown``, messages are shown as they always are.

    Yields:
        A list that has the warnings once the block has ended.
    """
    kept, outer = _Warnings(), [each for each in _LOGGER.handlers if isinstance(each, _ConsoleHandler)]
    hidden = [] if shown or _LOGGER.level == logging.DEBUG else outer
    for handler in hidden:
        _LOGGER.removeHandler(handler)
    _LOGGER.addHandler(kept)
    try:
        yield kept.messages
    finally:
        _LOGGER.removeHandler(kept)
        _replace([], hidden)


def _replace(handlers: list[_ConsoleHandler], others: list[_ConsoleHandler]) -> None:
    for handler in handlers:
        _LOGGER.removeHandler(handler)
    for handler in others:
        _LOGGER.addHandler(handler)
