"""Making the runs of an experiment that are not there yet, alone or in several processes."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence

import torch
from rich.console import Console

from emlc.errors import InputError
from emlc.reproduce.cache import Cache
from emlc.reproduce.plan import Job
from emlc.reproduce.progress import telling


def carry_out(
    jobs: Sequence[Job], names: Mapping[str, str], cache: Cache, console: Console, processes: int = 1
) -> dict[str, str]:
    """Make every run that is not finished.

    Processes take the next run that nobody makes, so that commands started side by side share the work,
    too. At the end each waits for the runs that others make, and makes what they have left.

    Args:
        jobs: The runs.
        names: What to call them, by key.
        cache: Where they are kept.
        console: Where to tell how it goes.
        processes: How many of them work, this one among them.

    Returns:
        What kept runs from being finished, by key.

    """
    if all(map(cache.finished, jobs)):
        return {}
    if processes == 1:
        return _work(jobs, names, cache, console)
    threads = max(1, (os.cpu_count() or 1) // processes)
    torch.set_num_threads(threads)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    arguments = (jobs, names, cache, threads, console.is_terminal)
    others = [context.Process(target=_help, args=arguments, daemon=True) for _ in range(processes - 1)]
    for other in others:
        other.start()
    try:
        return _work(jobs, names, cache, console)
    finally:
        for other in others:
            other.terminate()


def _help(jobs: Sequence[Job], names: Mapping[str, str], cache: Cache, threads: int, silent: bool) -> None:
    """What the other processes do; what they cannot do the first one meets in turn, and tells."""
    torch.set_num_threads(threads)
    try:
        _work(jobs, names, cache, Console(stderr=True, quiet=silent), first=False)
    except (Exception, KeyboardInterrupt):
        return


def _work(
    jobs: Sequence[Job], names: Mapping[str, str], cache: Cache, console: Console, *, first: bool = True
) -> dict[str, str]:
    parent = multiprocessing.parent_process()
    failed: dict[str, str] = {}
    with telling(len(jobs), lambda: sum(map(cache.finished, jobs)), console) as teller:
        for wait in (False, True) if first else (False,):
            for job in jobs:
                if job.key in failed or cache.finished(job):
                    continue
                if not first and parent is not None and not parent.is_alive():
                    return failed
                name = names[job.key]
                teller.begin(name)
                try:
                    if cache.make(job, wait=wait):
                        teller.end(name)
                except (FloatingPointError, InputError, RuntimeError) as error:
                    # One run's failure, such as too little memory, leaves the others to be made.
                    failed[job.key] = str(error).partition("\n")[0]
                    if first:
                        console.out(f"{name}: failed: {failed[job.key]}", highlight=False)
    return failed
