"""What an experiment is: rows by columns of settings, seeds, and what is tabulated and drawn of the runs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, NamedTuple

from emlc.config import DataSettings, PretrainSettings, Settings, names_of
from emlc.config.methods import METHODS
from emlc.errors import InputError, InputErrors, raise_together
from emlc.timing.options import StepOptions

Picture = Literal["accuracies", "against", "epochs", "steps", "features"]
"""How an experiment is drawn: see :mod:`emlc.reproduce.figures`."""

PRETRAIN = "pretrain"
"""Beside settings of a run: those of the pretraining whose backbone it starts from, or None."""


@dataclass(frozen=True)
class Part:
    """A row or a column.

    Attributes:
        label: As it is shown.
        settings: What its runs have of their own; also :data:`PRETRAIN`.
        paper: Its name in the paper's table, if it is there.
        at: Where it stands on the horizontal axis of an "against" picture.
        ceiling: Whether it knows what the others do not, so that it takes no part in the competition.
    """

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None
    at: float | None = None
    ceiling: bool = False


class Measure(NamedTuple):
    """A figure of a run that is tabulated: its name, and what it is called."""

    name: str
    title: str


CHOSEN = Measure("test_accuracy", "Test accuracy of the chosen student, %")
LAST = Measure("last_test_accuracy", "Test accuracy after the last epoch, %")
RECOVERY = Measure("label_recovery", "Labels recovered at the chosen epoch, %")
WRONG_RECOVERY = Measure("wrong_label_recovery", "Wrong labels recovered at the chosen epoch, %")
LAST_RECOVERY = Measure("last_label_recovery", "Labels recovered after the last epoch, %")
LAST_WRONG_RECOVERY = Measure("last_wrong_label_recovery", "Wrong labels recovered after the last epoch, %")
META_OBJECTIVE = Measure("meta_objective", "Meta objective, mean over the last tenth of the steps, nats")
SEPARATION = Measure("separation", "Silhouette of the true classes in the student's features, -1 to 1")
SECONDS = Measure("seconds", "Seconds of training")

MEASURES = (CHOSEN, LAST, RECOVERY, WRONG_RECOVERY, SECONDS)
"""Of a table of accuracies."""

HOURS = Measure("hours", "Hours an epoch")
RATIO = Measure("ratio", "Times MLC's")

LESS_IS_BETTER = {SECONDS.name, META_OBJECTIVE.name, HOURS.name, RATIO.name}


@dataclass(frozen=True)
class Grid:
    """An experiment whose cells are runs, one a seed.

    Attributes:
        name: Of its folder.
        title: What it shows.
        rows: Mostly methods.
        columns: Mostly kinds of noise.
        common: Settings of all runs; a column's, and then a row's, go before them.
        seeds: The runs of a cell.
        measures: What is tabulated, the main one first. The paper's figures are of that one.
        picture: How it is drawn.
        paper: The paper's table whose figures stand beside ours, see :mod:`emlc.reproduce.paper`.
        notes: What a reader has to know.
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
        images: Noisy images of an epoch.
    """

    name: str
    title: str
    options: StepOptions
    images: int
    paper: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A run, or a pretraining, that is wanted, wherever it is stored.

    Attributes:
        settings: Everything but where it is stored and, with ``start``, what it starts from.
        start: The pretraining that it starts from.
    """

    settings: Settings | PretrainSettings
    start: "Job | None" = None

    @cached_property
    def key(self) -> str:
        """Twenty characters that say what decides the result, and not where and by whom it is made."""
        free = names_of(type(self.settings), lambda facts: facts.free_on_resume or facts.path == "folder")
        values = {name: value for name, value in self.settings.as_dict().items() if name not in free}
        if isinstance(self.settings, Settings):
            values |= {
                "hyper": asdict(self.settings.hyper_parameters),
                "warm_up_epochs": self.settings.warm_up,
            }
        values["start"] = None if self.start is None else self.start.key
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


class Cell(NamedTuple):
    """One seed's run of a row and a column."""

    row: Part
    column: Part
    seed: int
    job: Job


def known_rows(grid: Grid) -> tuple[list[Part], list[str]]:
    """The rows whose methods there are, and the methods that there are not."""
    methods = {row.label: row.settings.get("method", grid.common.get("method", "emlc")) for row in grid.rows}
    known = [row for row in grid.rows if methods[row.label] in METHODS]
    return known, sorted({str(m) for m in methods.values() if m not in METHODS})


def cells(grid: Grid) -> list[Cell]:
    """Every run of a grid, column by column, of the rows whose methods there are.

    Raises:
        InputError: names every row and column whose settings are wrong.
    """
    rows, _ = known_rows(grid)
    problems: list[str] = []
    found = []
    for column in grid.columns:
        for row in rows:
            try:
                jobs = [
                    job({**grid.common, **column.settings, **row.settings, "seed": s}) for s in grid.seeds
                ]
            except InputError as error:
                each = error.problems if isinstance(error, InputErrors) else [str(error)]
                problems += [f"{row.label}, {column.label}: {problem}" for problem in each]
                continue
            found += [Cell(row, column, seed, each) for seed, each in zip(grid.seeds, jobs, strict=True)]
    raise_together(problems, grid.name, shown=20)
    return found


def job(values: Mapping[str, Any]) -> Job:
    """The job of a run's settings, given by name.

    Raises:
        InputError: there is no such setting, or its value is wrong.
    """
    start = values.get(PRETRAIN)
    own = {name: value for name, value in values.items() if name != PRETRAIN}
    unknown = own.keys() - {f.name for f in fields(Settings)}
    if start is not None:
        unknown |= {
            f"{PRETRAIN}.{name}" for name in start.keys() - {f.name for f in fields(PretrainSettings)}
        }
    raise_together([f"{name}: no such setting" for name in sorted(unknown)], "the settings")
    if start is None:
        return Job(Settings(**own))
    data = {name: own[name] for name in {f.name for f in fields(DataSettings)} & own.keys()}
    if unlike := sorted(name for name in data.keys() & start.keys() if start[name] != data[name]):
        raise InputError(
            f"{PRETRAIN}: expected {', '.join(unlike)} as the run has it: the images are its own"
        )
    start = {**data, **start}
    if start["data"] == "digits" or start.keys() & {"test_fraction", "noisy_limit"}:
        # The seed draws which images these are, and which are for testing: another would see the latter.
        start["seed"] = own["seed"]
    # The file is named when the pretraining is there.
    return Job(Settings(**{**own, "init": f"{PRETRAIN}ed"}), Job(PretrainSettings(**start)))


def distinct(wanted: Sequence[Cell]) -> list[Job]:
    """The runs of cells, each once, in an order that machines agree on."""
    return [each for _, each in sorted({cell.job.key: cell.job for cell in wanted}.items())]
