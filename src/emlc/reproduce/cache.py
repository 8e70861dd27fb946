"""A cache of finished and unfinished runs, keyed by what decides their result, shared by all experiments."""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from rich.console import Console

from emlc.config import PretrainSettings, Settings
from emlc.config.methods import method_class
from emlc.methods.base import MetaObjective
from emlc.pretraining import pretrain
from emlc.reproduce.embedding import make_features
from emlc.reproduce.features import separation
from emlc.reproduce.plan import META_OBJECTIVE, SEPARATION, Job
from emlc.runs.checkpoint import CHECKPOINT, latest_checkpoint
from emlc.runs.stored_settings import read_settings
from emlc.runs.train import train
from emlc.runtime.files import read_json
from emlc.runtime.trust import check_code


class Cache:
    """Runs in folders HOME/KEY; the process that makes one holds the lock HOME/KEY.lock.

    The operating system frees the locks of a process that dies, so that none is left behind. Features that
    runs learn from are beside HOME, in a folder "features".

    Args:
        home: Folder of all runs; it need not exist yet.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._features = home, home.parent / "features"

    def folder(self, job: Job) -> Path:
        """Return the folder in which a run is stored, or would be."""
        return self._home / job.key

    def finished(self, job: Job) -> bool:
        """Whether a run is complete."""
        last = "backbone.safetensors" if isinstance(job.settings, PretrainSettings) else "summary.json"
        return (self.folder(job) / last).exists()

    def make_features(self, jobs: Iterable[Job]) -> None:
        """Compute the features that unfinished runs learn from, unless they are there.

        Raises:
            InputError: The images, or the network that embeds them, are not available.
        """
        unfinished = {job.features for job in jobs if not self.finished(job)}
        for features in filter(None, unfinished):
            make_features(features, self._features)

    def make(self, job: Job, *, wait: bool) -> bool:
        """Make a run, or resume an interrupted one, after the pretraining that it starts from.

        A finished run is left as it is.

        Args:
            job: The run.
            wait: Whether to wait while another process makes it; else it is left to that process.

        Returns:
            True if this call finished the run, False if it was finished before or by another process.

        Raises:
            InputError: The settings do not fit the data.
            FloatingPointError: The run diverged.
        """
        if self.finished(job):
            return False
        self._home.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._home / f"{job.key}.lock", timeout=-1 if wait else 0):
                if self.finished(job):
                    return False
                self._make(job)
        except Timeout:
            return False
        return True

    def _make(self, job: Job) -> None:
        output, quiet = str(self.folder(job)), Console(quiet=True)
        if isinstance(job.settings, PretrainSettings):
            pretrain(replace(job.settings, output=output), resume=True, console=quiet)
            return
        settings = replace(job.settings, output=output)
        if job.features is not None:
            make_features(job.features, self._features)
            settings = replace(settings, **job.features.sources(self._features))
        if job.start is not None:
            self.make(job.start, wait=True)
            settings = replace(settings, init=str(self.folder(job.start) / "backbone.safetensors"))
        if latest_checkpoint(self.folder(job)) is not None:
            # The same key is the same run, though it may have begun elsewhere, from a copy of the weights.
            begun = read_settings(self.folder(job), Settings)
            check_code(begun, self.folder(job) / "settings.yaml")
            paths = {name: getattr(settings, name) for name in ("data", "data_root", "test")}
            settings = replace(begun, output=output, **paths)
        train(settings, resume=True, console=quiet)
        # A grid has hundreds of runs, and none of them is ever resumed again.
        (self.folder(job) / CHECKPOINT).unlink(missing_ok=True)

    def read(self, job: Job) -> "Outcome":
        """Read a finished run."""
        return Outcome(self.folder(job))


class Outcome:
    """The results of a finished run.

    Attributes:
        folder: The run directory.
        summary: Contents of its ``summary.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.summary: dict[str, Any] = read_json(folder / "summary.json")

    def figure(self, name: str) -> float | None:
        """Return a measure of :mod:`emlc.reproduce.plan` by name, or None if the run does not have it."""
        if name == META_OBJECTIVE.name:
            steps = self.steps
            if name not in steps:
                return None
            values = steps[name].dropna()
            return float(values.tail(max(1, len(values) // 10)).mean())
        if name == SEPARATION.name:
            return separation(self.folder)
        value = self.summary.get(name)
        return None if value is None else float(value)

    @cached_property
    def meta_objective(self) -> MetaObjective:
        """What the column ``meta_objective`` of the steps is."""
        settings = read_settings(self.folder, Settings)
        objective: MetaObjective = method_class(settings.method).meta_objective(settings)
        return objective

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """``metrics.csv``: one row per epoch."""
        return pd.read_csv(self.folder / "metrics.csv")

    @cached_property
    def steps(self) -> pd.DataFrame:
        """``steps.csv``: one row per step; "iteration" counts the noisy batches seen so far."""
        table = pd.read_csv(self.folder / "steps.csv")
        batch = read_settings(self.folder, Settings).batch
        per_epoch = math.ceil(self.summary["noisy_samples"] / batch)
        return table.assign(iteration=table["step"] * per_epoch / self.epochs["steps"].iloc[0])
