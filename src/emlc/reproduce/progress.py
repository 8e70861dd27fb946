"""Progress of an experiment: a live line on a terminal, else one line per finished run."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_log = logging.getLogger(__name__)


class RunProgress:
    """Shows which run is being made, how many are finished, and how long the rest will take.

    Args:
        total: Number of runs.
        finished: Counts the finished runs, including those that other processes made.
        console: Console for the line.
    """

    def __init__(self, total: int, finished: Callable[[], int], console: Console) -> None:
        self._total, self._finished = total, finished
        self._start, self._before = time.monotonic(), finished()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=console.quiet or not console.is_terminal,
            transient=True,
        )
        self._task = self.bar.add_task("", total=total, completed=self._before, left="")

    def begin(self, name: str) -> None:
        """Show that a run has begun."""
        self.bar.update(self._task, description=name)

    def end(self, name: str) -> None:
        """Show that a run is finished."""
        done = self._finished()
        seconds = (time.monotonic() - self._start) / max(1, done - self._before) * (self._total - done)
        left = f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"
        self.bar.update(self._task, completed=done, left=left)
        if self.bar.disable:
            _log.info(f"{done} of {self._total} runs, {left}: {name}")


@contextmanager
def show_progress(total: int, finished: Callable[[], int], console: Console) -> Iterator[RunProgress]:
    """Show a :class:`RunProgress` during a block."""
    progress = RunProgress(total, finished, console)
    with progress.bar:
        yield progress
