"""Makes the runs of an experiment that are not there yet, one after the other or side by side."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, NamedTuple

from joblib import Parallel, delayed
from rich.console import Console

from emlc.errors import InputError
from emlc.reproduce.cache import Cache
from emlc.reproduce.plan import Job
from emlc.reproduce.progress import Teller, telling

_log = logging.getLogger(__name__)


class Attempt(NamedTuple):
    """What came of a run.

    Attributes:
        key: The run's.
        made: Whether it was made here, and not by another command, or before.
        problem: What kept it from being finished, if it failed.
    """

    key: str
    made: bool
    problem: str | None = None


def carry_out(
    jobs: Sequence[Job], names: Mapping[str, str], cache: Cache, console: Console, processes: int = 1
) -> dict[str, str]:
    """Make every run that is not finished.

    Commands started side by side share the work: a run that another makes is left to it. At the end each
    command waits for those, and makes what the others have left.

    Args:
        jobs: The runs.
        names: What to call them, by key.
        cache: Where they are kept.
        console: Where to show a line of progress.
        processes: How many runs are made at the same time.

    Returns:
        What kept runs from being finished, by key.

    Raises:
        InputError: a process was killed.
    """
    failed: dict[str, str] = {}
    with telling(len(jobs), lambda: sum(map(cache.finished, jobs)), console) as teller:
        for wait in (False, True):
            left = [job for job in jobs if job.key not in failed and not cache.finished(job)]
            calls = (_call(job, names[job.key], cache, wait, teller) for job in left)
            for key, made, problem in _attempts(calls, processes):
                if problem is not None:
                    failed[key] = problem
                    _log.error(f"{names[key]}: failed: {problem}")
                elif made:
                    teller.end(names[key])
    return failed


def _call(job: Job, name: str, cache: Cache, wait: bool, teller: Teller) -> Any:
    """A call for joblib, which asks for it when a process is free to make it."""
    teller.begin(name)
    return delayed(_attempt)(job, cache, wait)


def _attempts(calls: Iterator[Any], processes: int) -> Iterator[Attempt]:
    """Attempts at runs, as they end; each process has its share of the cores."""
    parallel: Any = Parallel(processes, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    try:
        yield from parallel(calls)
    except BrokenExecutor as error:
        raise InputError(
            f"processes: one of {processes} was killed, most often for lack of memory; give the command "
            "again, which goes on, with fewer of them"
        ) from error


def _attempt(job: Job, cache: Cache, wait: bool) -> Attempt:
    try:
        return Attempt(job.key, cache.make(job, wait=wait))
    except (FloatingPointError, InputError, RuntimeError) as error:
        # One run's failure, such as too little memory, leaves the others to be made.
        return Attempt(job.key, made=False, problem=str(error).partition("\n")[0])
