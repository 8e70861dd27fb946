"""Experiments as data: rows by columns of settings, seeds, and the measures and picture of their runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

from emlc.config import DataSettings, PretrainSettings, Settings
from emlc.config.methods import method_class
from emlc.errors import InputError, InputErrors, raise_together
from emlc.reproduce.key import run_key
from emlc.reproduce.pretrained import PretrainedFeatures
from emlc.timing.options import StepOptions

Picture = Literal["accuracies", "against", "epochs", "steps", "features"]
"""Kind of plot of an experiment: see :mod:`emlc.reproduce.figures`."""

PRETRAIN = "pretrain"
"""Key beside the settings of a run: the settings of the pretraining that it starts from, or None."""

FEATURES = "features"
"""Key beside the settings of a run: the :class:`PretrainedFeatures` that stand in for its images, or None."""


Hypers = Mapping[str, Any]
ByNoise = Callable[[Mapping[str, Any]], Hypers]
"""Maps the settings of a run, its noise among them, to hyper-parameters of its method."""


@dataclass(frozen=True)
class Part:
    """A row or a column of a grid.

    Attributes:
        label: Label in tables and plots.
        settings: Settings of its runs beside those that all share; may hold :data:`PRETRAIN` and
            :data:`FEATURES`.
        paper: Name of the row or column in the paper's table, if it is there.
        at: Position on the horizontal axis of an "against" picture.
        by_data: Name of a data set -> settings of a row on it, which override all others.
        ceiling: Whether it uses knowledge that the others lack, and is left out of the ranking.
        by_noise: Hyper-parameters of a row that depend on the column; those in ``settings`` override them.
        seeds: Seeds of the runs of a row, if it has others than the grid.
    """

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None
    at: float | None = None
    by_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ceiling: bool = False
    by_noise: ByNoise | None = None
    seeds: tuple[int, ...] | None = None

    def hypers_in(self, values: Mapping[str, Any]) -> Hypers:
        """Return the hyper-parameters of this row that depend on these settings of a run."""
        return {} if self.by_noise is None else self.by_noise(values)


class Measure(NamedTuple):
    """A figure of a run that is tabulated.

    Attributes:
        name: Its name in the files.
        title: Title of its table.
        ranked: Whether the table shows which row is best.
        of_rounds: Whether it is a time, measured in rounds. One that is disturbed would move a mean, so its
            median and quartiles are tabulated.
    """

    name: str
    title: str
    ranked: bool = True
    of_rounds: bool = False


CHOSEN = Measure("test_accuracy", "Test accuracy of the chosen student, %")
LAST = Measure("last_test_accuracy", "Test accuracy after the last epoch, %")
RECOVERY = Measure("label_recovery", "Labels recovered at the chosen epoch, %")
WRONG_RECOVERY = Measure("wrong_label_recovery", "Wrong labels recovered at the chosen epoch, %")
LAST_RECOVERY = Measure("last_label_recovery", "Labels recovered after the last epoch, %")
LAST_WRONG_RECOVERY = Measure("last_wrong_label_recovery", "Wrong labels recovered after the last epoch, %")
META_OBJECTIVE = Measure("meta_objective", "Meta objective, mean over the last tenth of the steps")
SEPARATION = Measure("separation", "Silhouette of the true classes in the student's features, -1 to 1")
CORRECTED = Measure("corrected_label_accuracy", "Corrected labels of labels.csv that are right, %")
SECONDS = Measure("seconds", "Seconds of training", ranked=False)  # beside other runs, on any machine

MEASURES = (CHOSEN, LAST, RECOVERY, WRONG_RECOVERY, CORRECTED, SECONDS)
"""Default measures of a grid."""

HOURS = Measure("hours", "Hours per epoch", of_rounds=True)
RATIO = Measure("ratio", "Time relative to MLC", of_rounds=True)

LESS_IS_BETTER = {META_OBJECTIVE.name, HOURS.name, RATIO.name}


@dataclass(frozen=True)
class Grid:
    """An experiment each of whose cells has one run per seed.

    Attributes:
        name: Name of the experiment and of its folder.
        title: Title of its table and plot.
        rows: The rows, mostly methods.
        columns: The columns, mostly kinds of noise.
        common: Settings of all runs; a column's settings override them, and a row's override both.
        seeds: Seeds of the runs of a cell, but for rows with seeds of their own.
        measures: Measures to tabulate, the main one first: the paper's figures are compared with that one.
        picture: Kind of plot.
        paper: Table of the paper to compare with, see :mod:`emlc.reproduce.paper`.
        notes: Notes to print below the table.
    """

    name: str
    title: str
    rows: tuple[Part, ...]
    columns: tuple[Part, ...]
    common: Mapping[str, Any]
    seeds: tuple[int, ...]
    measures: tuple[Measure, ...] = MEASURES
    picture: Picture = "accuracies"
    paper: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """An experiment that measures what a step costs, by ``emlc bench step``.

    Attributes:
        name: Name of the experiment and of its folder.
        title: Title of its table and plot.
        options: Which steps to measure, and how often.
        images: Noisy images per epoch, to which the times are scaled.
        paper: Table of the paper to compare with, see :mod:`emlc.reproduce.paper`.
        notes: Notes to print below the table.
    """

    name: str
    title: str
    options: StepOptions
    images: int
    paper: str | None = None
    notes: tuple[str, ...] = ()


ON_EQUAL_TERMS: dict[str, Any] = {"epochs": 15, "noisy_batch": 128, "rivals": False}
"""Settings of a run that is measured, unless it has others: they do not depend on the size of the data."""


_LABELS = {"label_column", "true_label_column"}
"""Settings in which a pretraining, which learns from no label, may differ from its runs."""


@dataclass(frozen=True)
class Job:
    """A run, or a pretraining, to make.

    Attributes:
        settings: All its settings. When it is made, ``output`` is set; with ``start`` also ``init``, and with
            ``features`` ``data`` and ``test``.
        start: The pretraining that it starts from.
        features: What it learns from in place of the images of ``data``.
    """

    settings: Settings | PretrainSettings
    start: "Job | None" = None
    features: PretrainedFeatures | None = None

    @cached_property
    def key(self) -> str:
        """What the run is found by: see :func:`~emlc.reproduce.key.run_key`."""
        start = None if self.start is None else self.start.key
        return run_key(self.settings, start, None if self.features is None else self.features.name)


class Cell(NamedTuple):
    """The run of one seed in a row and a column."""

    row: Part
    column: Part
    seed: int
    job: Job


def method_of(grid: Grid, row: Part) -> str:
    """Return the method of a row: its own, or else the one that all rows share."""
    return str({"method": "emlc", **grid.common, **row.settings}["method"])


def values_of(grid: Grid, row: Part, column: Part) -> dict[str, Any]:
    """Return the settings of the runs of a cell by name, without their seed."""
    values = {**grid.common, **column.settings, **row.settings}
    values |= row.by_data.get(values.get("data", ""), {})
    hypers = row.hypers_in(values)
    return {**values, "hyper": {**hypers, **(values.get("hyper") or {})}} if hypers else values


def cells(grid: Grid) -> list[Cell]:
    """Return every run of a grid, column by column.

    Raises:
        InputError: Settings are wrong; names every such row and column.
    """
    problems: list[str] = []
    grid_cells = []
    for column in grid.columns:
        for row in grid.rows:
            seeds = row.seeds or grid.seeds
            try:
                jobs = [job({**values_of(grid, row, column), "seed": s}) for s in seeds]
            except InputError as error:
                each = error.problems if isinstance(error, InputErrors) else [str(error)]
                problems += [f"{row.label}, {column.label}: {problem}" for problem in each]
                continue
            grid_cells += [Cell(row, column, seed, each) for seed, each in zip(seeds, jobs, strict=True)]
    raise_together(problems, grid.name, shown=20)
    return grid_cells


def job(values: Mapping[str, Any]) -> Job:
    """Return the job of a run whose settings are given by name.

    Raises:
        InputError: There is no such setting, or its value is wrong.
    """
    start, features = values.get(PRETRAIN), values.get(FEATURES)
    settings = {name: value for name, value in values.items() if name not in (PRETRAIN, FEATURES)}
    settings = ON_EQUAL_TERMS | settings
    unknown = settings.keys() - {f.name for f in fields(Settings)}
    if start is not None:
        unknown |= {
            f"{PRETRAIN}.{name}" for name in start.keys() - {f.name for f in fields(PretrainSettings)}
        }
    raise_together([f"{name}: no such setting" for name in sorted(unknown)], "the settings")
    if start is None:
        return Job(_followed(Settings(**settings)), features=features)
    data_settings = {f.name for f in fields(DataSettings)} & settings.keys()
    data = {name: settings[name] for name in data_settings}
    both = (data.keys() & start.keys()) - _LABELS
    if unlike := sorted(name for name in both if start[name] != data[name]):
        raise InputError(
            f"{PRETRAIN}: expected {', '.join(unlike)} as the run has it: the images are its own"
        )
    start = {**data, **start}
    if start["data"] == "digits" or start.keys() & {"test_fraction", "noisy_limit"}:
        # The seed draws the split: with another one, pretraining would see test images of the run.
        start["seed"] = settings["seed"]
    # The cache replaces this name by the file when the pretraining is finished.
    begun = Settings(**{**settings, "init": f"{PRETRAIN}ed"})
    return Job(_followed(begun), Job(PretrainSettings(**start)))


def _followed(settings: Settings) -> Settings:
    """Return the settings without those that do nothing with the method: the rows of a grid share some."""
    default: dict[str, Any] = {f.name: f.default for f in fields(Settings)}
    idle = method_class(settings.method).idle_settings(settings)
    return replace(settings, **{name: default[name] for name in idle})


def distinct(grid_cells: Sequence[Cell]) -> list[Job]:
    """Return the runs of cells, each once, in the same order on every machine."""
    return [each for _, each in sorted({cell.job.key: cell.job for cell in grid_cells}.items())]
