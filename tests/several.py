"""Starts several ranks as ``torchrun`` does, but forks them off a process that has imported what they need.

A rank that starts by itself takes 10 s of CPU to import it, most often many times what it then does.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.run
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher import api

from emlc.cli import main

NEEDED = [
    *("lightning_fabric", "sklearn.datasets", "sklearn.linear_model", "sklearn.model_selection"),
    *("torch.utils.tensorboard", "torch._decomp.decompositions_for_jvp"),
    *("emlc.runs.train", "emlc.pretraining", "emlc.cli.main", "several", "test_resume"),
]
"""What a rank or another short run imports on its way."""


def context() -> multiprocessing.context.ForkServerContext:
    """Of processes that are forked off one that has imported what is needed."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(NEEDED)
    return found


def in_two_processes(work: Callable[..., object], *arguments: Any) -> None:
    """Call a function in two ranks of a run; if one fails, this does."""
    context()
    config = api.LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="tests",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="forkserver",
    )
    api.elastic_launch(config, work)(*arguments)


@contextmanager
def forked_ranks(logs: Path) -> Iterator[None]:
    """Here ``emlc --devices N`` and ``torchrun -m emlc`` fork ranks, which tell files below a folder."""
    context()
    launch = api.elastic_launch

    def forking(config: api.LaunchConfig, entrypoint: str) -> Callable[..., object]:
        told = DefaultLogsSpecs(log_dir=str(logs), redirects=Std.ALL)
        forked = replace(config, start_method="forkserver", logs_specs=told)
        return lambda *words: launch(forked, rank)(*words[words.index("emlc") + 1 :])

    with pytest.MonkeyPatch.context() as patch:
        for module in (api, torch.distributed.run):
            patch.setattr(module, "elastic_launch", forking)
        yield


def rank(*words: str) -> None:
    """One rank of an ``emlc`` command."""
    if status := main(words):
        raise SystemExit(status)
