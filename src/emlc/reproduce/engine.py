"""Run an experiment: make the missing runs, then tabulate and plot all that are finished."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console

from emlc.errors import InputError
from emlc.reproduce import figures
from emlc.reproduce.cache import Cache, Outcome
from emlc.reproduce.paper import published
from emlc.reproduce.plan import (
    HOURS,
    PRETRAIN,
    RATIO,
    Cell,
    Grid,
    Measure,
    Part,
    Timing,
    cells,
    distinct,
    values_of,
)
from emlc.reproduce.results import Results
from emlc.reproduce.tables import Value, Values, hardware, markdown, tidy
from emlc.reproduce.work import make_runs
from emlc.runtime.distributed import pick_device
from emlc.runtime.files import write_csv, write_json, write_text
from emlc.runtime.messages import show_messages
from emlc.timing.hardware import describe_hardware, describe_versions
from emlc.timing.step import Record, measure_steps


class Shard(NamedTuple):
    """A share of the runs: those whose index in the list of runs is ``part`` modulo ``parts``."""

    part: int
    parts: int


class Reproduced(NamedTuple):
    """The outcome of a grid.

    Attributes:
        notes: Notes that belong below the table, above all on missing and failed runs.
        failed: Name of each failed run -> the error message.
    """

    notes: list[str]
    failed: dict[str, str]


def reproduce(
    grid: Grid,
    home: Path,
    folder: Path,
    *,
    shard: Shard | None = None,
    processes: int = 1,
    command: str = "",
    console: Console | None = None,
) -> Reproduced:
    """Make the missing runs of a grid, and write its tables and picture.

    Args:
        grid: The experiment.
        home: Folder of the runs of all experiments.
        folder: Folder for ``table.csv``, ``table.md``, ``picture.png`` and ``results.json``.
        shard: The share of the runs to make; all by default. Runs that other machines made are shown, too.
        processes: Number of runs made at the same time.
        command: The command line, which is written beside the results.
        console: Console for messages and progress; standard error by default.

    Raises:
        InputError: The settings of a cell are wrong, no run could be made, or a process was killed.
    """
    cache = Cache(home)
    grid_cells = cells(grid)
    jobs = distinct(grid_cells)
    shard_jobs = jobs if shard is None else jobs[shard.part :: shard.parts]
    names = {each.job.key: f"{each.row.label}, {each.column.label}, seed {each.seed}" for each in grid_cells}
    with show_messages(console) as shown:
        cache.make_features(shard_jobs)
        problems = make_runs(shard_jobs, names, cache, shown, processes)
    if problems and not any(map(cache.finished, jobs)):
        raise InputError(next(iter(problems.values())))
    outcomes: dict[tuple[str, str], list[Outcome]] = {
        (r.label, c.label): [] for r in grid.rows for c in grid.columns
    }
    for each in grid_cells:
        if cache.finished(each.job):
            outcomes[each.row.label, each.column.label].append(cache.read(each.job))
    results = Results(grid, outcomes)
    missing = [names[each.job.key] for each in grid_cells if not cache.finished(each.job)]
    failed = {names[key]: problem for key, problem in problems.items()}
    notes = [f"{len(missing)} of {len(grid_cells)} runs are missing"] if missing else []
    notes += [f"{name} failed: {problem}" for name, problem in failed.items()]
    _write(results, grid_cells, cache, folder, missing, notes, command)
    return Reproduced(notes, failed)


def _write(
    results: Results,
    grid_cells: Sequence[Cell],
    cache: Cache,
    folder: Path,
    missing: Sequence[str],
    run_notes: Sequence[str],
    command: str,
) -> None:
    grid = results.grid
    tables = {measure: results.values(measure) for measure in grid.measures}
    parts = (grid.rows, grid.columns)
    write_csv(folder / "table.csv", pd.concat([tidy(m, *parts, values) for m, values in tables.items()]))
    known = {m: v for m, v in tables.items() if any(value.ours for value in v.values())}
    notes = [
        *_notes(results),
        *_row_settings(grid.rows),
        *_settings_by_noise(grid),
        *grid.notes,
        *run_notes,
        *([f"`{command}`"] if command else []),
    ]
    shown = (markdown(measure, *parts, values, len(grid.seeds)) for measure, values in known.items())
    sections = [f"# {grid.title}", *shown]
    write_text(folder / "table.md", "\n\n".join([*sections, *notes]) + "\n")
    write_json(
        folder / "results.json",
        {
            "experiment": grid.name,
            "command": command,
            "versions": describe_versions(),
            "missing": list(missing),
            "notes": list(notes),
            "runs": [
                {"row": each.row.label, "column": each.column.label, "seed": each.seed, "run": each.job.key}
                | {"summary": cache.read(each.job).summary}
                for each in grid_cells
                if cache.finished(each.job)
            ],
        },
    )
    if known:
        figures.save(folder / "picture.png", results)


def _notes(results: Results) -> list[str]:
    """Say what was measured, on which samples and hardware."""
    notes = [f"Mean ± standard deviation over seeds {_seeds(results)}; the best of a column is bold."]
    for column in results.grid.columns:
        summaries = [o.summary for row in results.rows for o in results.outcomes[row.label, column.label]]
        if summaries:
            notes.append(f"{column.label}: {_samples(summaries)}.")
    machines = {hardware(o.summary) for each in results.outcomes.values() for o in each}
    return [*notes, *(f"Made on {machine}." for machine in sorted(machines))]


def _seeds(results: Results) -> str:
    """Name the seeds, and the rows that have others."""
    rows_of: dict[Sequence[int], list[str]] = {results.grid.seeds: []}
    for row in results.rows:
        rows_of.setdefault(row.seeds or results.grid.seeds, []).append(row.label)
    (seeds, _), *others = [(", ".join(map(str, each)), rows) for each, rows in rows_of.items()]
    return seeds + "".join(f" ({', '.join(rows)}: {each})" for each, rows in others if rows)


def _row_settings(rows: Sequence[Part]) -> list[str]:
    """Name the settings that not all rows share, so that readers can judge whether terms are equal."""
    texts = [f"{row.label}: {text}" for row in rows if (text := _in_words(row.settings))]
    for row in rows:
        texts += [f"{row.label} on {data}: {_in_words(settings)}" for data, settings in row.by_data.items()]
    return [f"Settings of single rows: {'; '.join(texts)}."] if texts else []


def _settings_by_noise(grid: Grid) -> list[str]:
    """Name the hyper-parameters of rows that depend on the column, but for those that the row overrides."""
    texts = []
    for row in grid.rows:
        chosen = {}
        for column in grid.columns:
            values = values_of(grid, row, column)
            hypers = row.hypers_in(values)
            chosen[column.label] = {n: v for n, v in hypers.items() if values["hyper"][n] == v}
        words = [f"{column} {_in_words(hypers)}" for column, hypers in chosen.items() if hypers]
        texts += [f"{row.label}: {'; '.join(words)}"] if words else []
    return [f"Hyper-parameters that authors chose by the noise: {'. '.join(texts)}."] if texts else []


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        _in_words(value) if name == "hyper" else f"{name} {value}"
        for name, value in settings.items()
        if name not in ("method", "look_ahead", PRETRAIN)  # the label names these
        and (name, value) != ("hyper", None)
    )


def _samples(summaries: Sequence[Mapping[str, Any]]) -> str:
    counts = [_range(summaries, f"{name}_samples") + f" {name}" for name in ("noisy", "trusted", "test")]
    rates = [s["noise_rate_actual"] for s in summaries if s["noise_rate_actual"] is not None]
    wrong = f"; {mean(rates):.1%} of the noisy labels are wrong" if rates else ""
    return f"samples: {', '.join(counts)}{wrong}"


def _range(summaries: Iterable[Mapping[str, Any]], name: str) -> str:
    values = sorted({s[name] for s in summaries})
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def time_steps(
    timing: Timing, folder: Path, *, command: str = "", console: Console | None = None
) -> dict[str, str]:
    """Measure what training steps cost, and write the same files as :func:`reproduce`.

    Returns:
        Label of each step that could not be measured -> the error message.
    """
    records = measure_steps(timing.options, console)
    several = len({r.engine for r in records if r.method == "emlc"}) > 1
    rows = [
        # Plain training is the reference: it is bound to be the fastest, and takes no part in the ranking.
        Part(_step_label(r, several), paper=_method_label(r), ceiling=r.method == "cross-entropy")
        for r in records
    ]
    failed = {row.label: r.problem for row, r in zip(rows, records, strict=True) if r.problem is not None}
    hours = [[s * timing.images / 3600 for s in r.seconds] for r in records]
    mlc = {r.captured: r.seconds for r in records if r.method == "mlc"}
    ratios = [[s / m for s, m in zip(r.seconds, mlc.get(r.captured, ()), strict=False)] for r in records]
    column = Part("hours", paper="hours")
    tables: dict[Measure, Values] = {}
    reference = published(timing.paper, "mlc", "hours")
    for measure, each in ((HOURS, hours), (RATIO, ratios)):
        values = {}
        for row, ours in zip(rows, each, strict=True):
            paper = published(timing.paper, row.paper, "hours")
            if paper is not None and reference is not None and measure is RATIO:
                paper = paper._replace(mean=round(paper.mean / reference.mean, 3))
            values[row.label, column.label] = Value(ours, paper)
        tables[measure] = values
    write_csv(folder / "table.csv", pd.concat([tidy(m, rows, [column], v) for m, v in tables.items()]))
    device = describe_hardware(pick_device(timing.options.device))
    where = f"{device['device']}, {device['threads']} thread(s)"
    what = f"Median (lower to upper quartile) of {timing.options.repetitions} round(s) on {where}."
    problems = [f"{label}: not measured: {problem}" for label, problem in failed.items()]
    notes = [what, *timing.notes, *problems, *([f"`{command}`"] if command else [])]
    sections = [f"# {timing.title}", *(markdown(m, rows, [column], v) for m, v in tables.items())]
    write_text(folder / "table.md", "\n\n".join([*sections, *notes]) + "\n")
    contents = {"experiment": timing.name, "command": command, "versions": describe_versions()}
    write_json(
        folder / "results.json", contents | {"hardware": device, "records": [asdict(r) for r in records]}
    )
    picture = folder / "picture.png"
    if any(value.ours for value in tables[RATIO].values()):
        figures.save_bars(picture, timing.title, RATIO, [r.label for r in rows], tables[RATIO])
    else:
        picture.unlink(missing_ok=True)  # one of before would be of other times than the table
    return failed


def _method_label(record: Record) -> str:
    """Return the label of a record's method, as in the other tables."""
    return f"emlc, k = {record.k}" if record.method == "emlc" else record.method


def _step_label(record: Record, several_engines: bool) -> str:
    """Return the label of a kind of step: the method, and the engine where several were measured."""
    engine = record.engine if several_engines and record.method == "emlc" else None
    parts = [_method_label(record), engine, "CUDA graph" if record.captured else None]
    return ", ".join(part for part in parts if part is not None)
