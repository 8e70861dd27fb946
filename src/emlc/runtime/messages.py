"""What emlc tells while it works: messages of Python's ``logging``, and the console that shows them.

The library logs to children of the logger ``emlc`` and prints nothing; on its own it is silent. Commands, and
functions that have a console, show the messages on it for as long as they run.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_LOGGER = logging.getLogger("emlc")


class _ConsoleHandler(logging.Handler):
    """Writes messages to a console as they are: neither wrapped nor taken for markup."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.out(self.format(record), highlight=False)


@contextmanager
def show_messages(console: Console | None = None, level: str | None = None) -> Iterator[Console]:
    """Show messages on a console during a block, and on no other one.

    A level that somebody gave the logger ``emlc`` counts; else messages are shown from info on. Under
    ``torchrun`` only the first process shows any.

    Args:
        console: Where; by default where messages are shown already, or else on standard error.
        level: debug | info | warning | error, which the logger gets.

    Yields:
        The console, for what is shown beside messages.
    """
    before = [handler for handler in _LOGGER.handlers if isinstance(handler, _ConsoleHandler)]
    console = console or next((handler.console for handler in before), Console(stderr=True))
    is_first = int(os.environ.get("RANK", 0)) == 0
    shown = _ConsoleHandler(console if is_first else Console(quiet=True))
    level_before, propagates = _LOGGER.level, _LOGGER.propagate
    if level is not None:
        _LOGGER.setLevel(level.upper())
    elif level_before == logging.NOTSET and not console.quiet and not _LOGGER.isEnabledFor(logging.INFO):
        # Handlers of the root logger, whose level asks for warnings alone, get no more than before.
        _LOGGER.setLevel(logging.INFO)
        _LOGGER.propagate = False
    if _LOGGER.level == logging.DEBUG:
        shown.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    _replace(before, [shown])
    try:
        yield console
    finally:
        _replace([shown], before)
        _LOGGER.setLevel(level_before)
        _LOGGER.propagate = propagates


def _replace(handlers: list[_ConsoleHandler], others: list[_ConsoleHandler]) -> None:
    for handler in handlers:
        _LOGGER.removeHandler(handler)
    for handler in others:
        _LOGGER.addHandler(handler)
