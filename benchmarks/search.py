"""Search the hyper-parameters of every method, each with the same number of trials.

    python -m benchmarks.search runs/reproduce/features/cifar10-*/train.npz
    python -m benchmarks.search runs/reproduce/features/cifar10-*/train.npz --methods '["mslc"]'

`emlc reproduce table1 --scale features` makes the features. The trials, and what they are scored on, are
benchmarks/search.yaml's. Writes FOLDER/search/trials.csv, the score of every trial, and prints the best of
each method. Finished runs are not made again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from sklearn.model_selection import ParameterGrid

from emlc.errors import InputError
from emlc.reproduce.engine import reproduce
from emlc.reproduce.experiments import restricted
from emlc.reproduce.plan import Grid, Part
from emlc.runtime.files import read_yaml

_FILE = Path(__file__).with_suffix(".yaml")
_HELD_OUT = 10_000


def search(features: str, methods: list[str] | None = None, folder: str = "runs/reproduce") -> None:
    """Make the trials that are missing, and tabulate all.

    Args:
        features: An .npz file of training samples: X (n, d) and columns of labels.
        methods: Only these methods.
        folder: Folder for runs and results.
    """
    home = Path(folder) / "search"
    study = search_from(_FILE, _held_out(Path(features), home), methods)
    made = reproduce(study, Path(folder) / "runs", home)
    trials = _scores(json.loads((home / "results.json").read_text(encoding="utf-8"))["runs"])
    trials.to_csv(home / "trials.csv", index=False)
    best = trials.loc[trials.groupby("method", sort=False)["score"].idxmax()]
    print(best.to_string(index=False))
    if made.failed:
        raise InputError(f"{len(made.failed)} trials failed: {'; '.join(made.failed)}")


def search_from(file: Path, data: Mapping[str, Any], methods: Sequence[str] | None = None) -> Grid:
    """Return the grid of all trials.

    Args:
        file: The YAML file that names them.
        data: Settings that name the samples.
        methods: Only these methods.

    Raises:
        InputError: The file cannot be read, or has no such method.
    """
    plan = read_yaml(file)
    rows = _rows(plan["methods"])
    columns = tuple(Part(label, settings) for label, settings in plan["columns"].items())
    trials = Grid("search", plan["title"], rows, columns, {**plan["settings"], **data}, (plan["seed"],))
    return restricted(trials, None, methods)


def _scores(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the accuracy of every trial on the held-out samples, by column and their mean, in %."""
    rows = [(r["row"], r["column"], r["summary"]["test_accuracy"]) for r in runs]
    table = pd.DataFrame(rows, columns=["row", "column", "accuracy"]).pivot(
        index="row", columns="column", values="accuracy"
    )
    table = table.dropna()
    table.insert(0, "score", table.mean(axis=1).round(2))
    names = table.index.to_series().str.partition(", ")
    table.insert(0, "trial", names[2])
    table.insert(0, "method", names[0])
    return table.sort_values(["method", "score"], ascending=[True, False])


def _held_out(features: Path, folder: Path) -> dict[str, str]:
    """Write the samples to learn from and those to score on; return the settings that name them."""
    with np.load(features, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files if name != "classes"}
        classes = {name: arrays[name] for name in arrays.files if name == "classes"}
    order = np.random.default_rng(0).permutation(len(values["X"]))
    folder.mkdir(parents=True, exist_ok=True)
    train = {k: v[order[_HELD_OUT:]] for k, v in values.items()}
    held_out = {k: values[k][order[:_HELD_OUT]] for k in ("X", "label")}
    np.savez(folder / "train.npz", **train, **classes)
    np.savez(folder / "held-out.npz", **held_out, **classes)
    return {"data": str(folder / "train.npz"), "test": str(folder / "held-out.npz")}


def _rows(methods: Mapping[str, Mapping[str, list[Any]]]) -> tuple[Part, ...]:
    """Return a row for every trial: ``mslc, learning_rate 0.02, ...``."""
    return tuple(
        _row(method, trial) for method, lists in methods.items() for trial in ParameterGrid(dict(lists))
    )


def _row(method: str, trial: Mapping[str, Any]) -> Part:
    hyper = {name.removeprefix("hyper."): value for name, value in trial.items() if name.startswith("hyper.")}
    own = {name: value for name, value in trial.items() if not name.startswith("hyper.")}
    label = ", ".join([method, *(f"{name} {value}" for name, value in trial.items())])
    return Part(label, {"method": method, **own, "hyper": hyper})


if __name__ == "__main__":
    auto_cli(search, as_positional=True)
