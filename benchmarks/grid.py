"""Run a study: a grid of settings, rows by columns, over seeds, from a YAML file.

    python -m benchmarks.grid benchmarks/meta_weight.yaml
    python -m benchmarks.grid benchmarks/digits.yaml --methods '["emlc"]' --seeds "[0,1]"

The file has ``title``, ``seeds``, the ``settings`` that all runs share, and ``rows`` and ``columns``: labels,
each with further settings. Runs are shared with ``emlc reproduce``, and finished ones are not made again.
Writes FOLDER/NAME/table.md, table.csv, picture.png and results.json, with accuracies and recovered labels.
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from emlc.cli.reproduce import parse_shard
from emlc.errors import InputError
from emlc.reproduce.engine import Shard, reproduce
from emlc.reproduce.experiments import restricted
from emlc.reproduce.plan import Grid, Part
from emlc.runtime.files import read_yaml


def grid(
    file: str,
    seeds: list[int] | None = None,
    methods: list[str] | None = None,
    data: str | None = None,
    shard: str | None = None,
    processes: int = 1,
    folder: str = "runs/reproduce",
) -> None:
    """Make the runs that are missing, and tabulate them.

    Args:
        file: The YAML file.
        seeds: Seeds to use instead of the file's.
        methods: Only rows of these methods.
        data: Data to use instead of the file's, if all its runs have the same.
        shard: I/N, from 0/N to N-1/N: make only this share of the runs.
        processes: Number of runs made at the same time.
        folder: Folder for runs and results.

    Raises:
        InputError: A run failed, and the table has the others; or an option does not go with the file.
    """
    study = restricted(grid_from(Path(file)), seeds, methods)
    if data is not None:
        study = _with_data(study, data)
    home, part = Path(folder), parse_shard(shard)
    outcome = reproduce(
        study,
        home / "runs",
        home / study.name,
        shard=None if part is None else Shard(*part),
        processes=processes,
        command=shlex.join(["python", "-m", "benchmarks.grid", *sys.argv[1:]]),
    )
    print((home / study.name / "table.md").read_text(encoding="utf-8"))
    if outcome.failed:
        raise InputError(f"{len(outcome.failed)} runs failed: {'; '.join(outcome.failed)}")


def _with_data(study: Grid, data: str) -> Grid:
    """Return a study with other data.

    Raises:
        InputError: Rows or columns name their own data, which override those that all runs share.
    """
    own = [part.label for part in (*study.rows, *study.columns) if "data" in part.settings]
    if own:
        raise InputError(f"data: cannot be given with {study.name}, whose data are those of {', '.join(own)}")
    return replace(study, common={**study.common, "data": data})


def grid_from(file: Path) -> Grid:
    """Read a study from a file.

    Raises:
        InputError: A part of it is missing or of the wrong type.
    """
    values = read_yaml(file)
    kinds = {"title": str, "seeds": list, "settings": dict, "rows": dict, "columns": dict}
    if unknown := values.keys() - kinds.keys():
        raise InputError(f"{file}: expected {', '.join(kinds)}, got also {', '.join(map(str, unknown))}")
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            raise InputError(f"{file}: {name}: expected a {kind.__name__}, got {values.get(name)!r}")
    return Grid(
        name=file.stem,
        title=values["title"],
        rows=_parts(file, values["rows"]),
        columns=_parts(file, values["columns"]),
        common=values["settings"],
        seeds=tuple(values["seeds"]),
    )


def _parts(file: Path, values: dict[Any, Any]) -> tuple[Part, ...]:
    for label, settings in values.items():
        if not isinstance(settings, dict):
            raise InputError(f"{file}: {label}: expected settings, got {settings!r}")
    return tuple(Part(str(label), settings) for label, settings in values.items())


if __name__ == "__main__":
    try:
        auto_cli(grid, as_positional=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
