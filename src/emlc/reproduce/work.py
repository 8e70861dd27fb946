"""Make the missing runs of an experiment, one after the other or several at a time."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from traceback import format_exception
from typing import Any, NamedTuple

from joblib import Parallel, delayed
from rich.console import Console

from emlc.errors import InputError
from emlc.reproduce.cache import Cache
from emlc.reproduce.plan import Job
from emlc.reproduce.progress import RunProgress, show_progress
from emlc.runtime.files import write_text

_log = logging.getLogger(__name__)


class Attempt(NamedTuple):
    """The outcome of an attempt at a run.

    Attributes:
        key: Key of the run's job.
        finished: Whether this attempt finished the run; False if another command did, or before.
        problem: The error message, if the run failed.
    """

    key: str
    finished: bool
    problem: str | None = None


def make_runs(
    jobs: Sequence[Job], names: Mapping[str, str], cache: Cache, console: Console, processes: int = 1
) -> dict[str, str]:
    """Make every run that is not finished.

    Commands that run at the same time share the work: each leaves a run to the command that is making it. At
    the end each waits for the others' runs, and makes those that they did not finish.

    Args:
        jobs: The runs.
        names: Names of the runs to show, by key.
        cache: Cache of the runs.
        console: Console for progress.
        processes: Number of runs made at the same time.

    Returns:
        Error messages of the failed runs, by key.

    Raises:
        InputError: A process was killed.
    """
    failed: dict[str, str] = {}
    with show_progress(len(jobs), lambda: sum(map(cache.finished, jobs)), console) as progress:
        for wait in (False, True):
            left = [job for job in jobs if job.key not in failed and not cache.finished(job)]
            calls = (_call(job, names[job.key], cache, wait, progress) for job in left)
            for key, finished, problem in _attempts(calls, processes):
                if problem is not None:
                    failed[key] = problem
                    _log.error(f"{names[key]}: failed: {problem}")
                elif finished:
                    progress.end(names[key])
    return failed


def _call(job: Job, name: str, cache: Cache, wait: bool, progress: RunProgress) -> Any:
    """Return a call for joblib, which takes the next one when a process is free."""
    progress.begin(name)
    return delayed(_attempt)(job, cache, wait)


def _attempts(calls: Iterator[Any], processes: int) -> Iterator[Attempt]:
    """Yield attempts as they end; each process has its share of the cores."""
    parallel: Any = Parallel(processes, return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    try:
        yield from parallel(calls)
    except BrokenExecutor as error:
        raise InputError(
            f"processes: one of {processes} was killed, most likely for lack of memory; give the command "
            "again with fewer processes: finished runs are kept"
        ) from error


def _attempt(job: Job, cache: Cache, wait: bool) -> Attempt:
    try:
        return Attempt(job.key, cache.make(job, wait=wait))
    except OSError:
        raise  # a full disk stops all runs
    except Exception as error:
        # The failure of one run, such as a lack of memory, must not stop the others.
        told = str(error).partition("\n")[0]
        if isinstance(error, InputError | FloatingPointError):
            return Attempt(job.key, finished=False, problem=told)
        traceback = cache.folder(job).with_suffix(".error.txt")
        write_text(traceback, "".join(format_exception(error)))
        problem = f"{type(error).__name__}: {told} (traceback: {traceback})"
        return Attempt(job.key, finished=False, problem=problem)
