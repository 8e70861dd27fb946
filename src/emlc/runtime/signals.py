"""Signals that end a process: they unwind it, so that no temporary file stays."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LAUNCHED = "emlc-devices"
"""Name of a run of ``emlc --devices N``, whose launcher tells the user what ends its processes."""


def is_launched() -> bool:
    """Return whether ``emlc --devices N`` started this process."""
    return os.environ.get("TORCHELASTIC_RUN_ID") == LAUNCHED


class Terminated(KeyboardInterrupt):
    """The exception that SIGTERM raises, as Ctrl-C raises :class:`KeyboardInterrupt`."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise :class:`Terminated` at SIGTERM during a block in the main thread; a second one is ignored.

    So is a second SIGINT in a rank of several, whose launcher passes on what the terminal has sent already.
    """
    numbers = [signal.SIGTERM, signal.SIGINT] if "RANK" in os.environ else [signal.SIGTERM]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked process ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """End this process when the one that started it is gone, even if that was killed."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)  # in which a step ends; one that waits for another process may never
    os._exit(128 + signal.SIGTERM)
