"""CIFAR-10 as in the paper's Table 1, and CIFAR-10N: every method from the same initial weights.

    python -m benchmarks.cifar10 benchmarks/cifar10_paper.yaml --seeds "[0]"

Rows are methods, columns are kinds of noise; a cell is the test accuracy of the student at the epoch of best
trusted accuracy. The last row, cross-entropy on the true labels, is the ceiling. Finished runs are read, not
trained again. Writes FOLDER/results.md and FOLDER/results.json.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from emlc.config import DataSettings, Settings
from emlc.data import Samples, read
from emlc.reproduce.tables import cell, hardware
from emlc.runs.train import train
from emlc.runtime.files import read_yaml, write_json, write_text

HUMAN = ("worst", "aggregate")
"""Columns of human labels (CIFAR-10N)."""

COLUMNS: dict[str, dict[str, Any]] = {
    "symmetric 20 %": {"noise": "symmetric", "noise_rate": 0.2},
    "symmetric 50 %": {"noise": "symmetric", "noise_rate": 0.5},
    "symmetric 80 %": {"noise": "symmetric", "noise_rate": 0.8},
    "symmetric 90 %": {"noise": "symmetric", "noise_rate": 0.9},
    "asymmetric 40 %": {"noise": "asymmetric", "noise_rate": 0.4},
    "worst": {},
    "aggregate": {},
}

ROWS: dict[str, dict[str, Any]] = {
    "trusted-only": {"method": "trusted-only"},
    "cross-entropy": {"method": "cross-entropy"},
    "EMLC, k = 1": {"method": "emlc", "look_ahead": 1},
    "EMLC, k = 5": {"method": "emlc", "look_ahead": 5},
    "true labels": {"method": "cross-entropy", "noise": "none", "noise_rate": 0.0},
}


def cifar10(
    settings: str,
    seeds: list[int] | None = None,
    rows: list[str] | None = None,
    columns: list[str] | None = None,
    folder: str | None = None,
) -> None:
    """Fill the table.

    Args:
        settings: YAML file with settings; ``data`` is a folder of parquet files with the columns image,
            label (the truth), worst and aggregate (human labels).
        seeds: Seeds, 0 by default.
        rows: Methods to run, all by default.
        columns: Kinds of noise, all by default.
        folder: Folder for runs and results, by default runs/benchmarks/SETTINGS.
    """
    values = read_yaml(settings)
    home = Path(folder or f"runs/benchmarks/{Path(settings).stem}")
    rows, columns, seeds = rows or list(ROWS), columns or list(COLUMNS), seeds or [0]
    data = {name: _read(values, name) for name in ("label", *(c for c in columns if c in HUMAN))}
    test = _read(values, "label", test=True)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {row: {} for row in rows}
    for column in columns:  # column by column: an interrupted table has whole columns
        for row in rows:
            samples = data["label" if row == "true labels" or column not in HUMAN else column]
            results[row][column] = [
                _run(values | COLUMNS[column] | ROWS[row], samples, test, home / column / row, seed)
                for seed in seeds
            ]
            _write(home, results, columns, seeds)
    print((home / "results.md").read_text(encoding="utf-8"))


def _read(values: dict[str, Any], column: str, *, test: bool = False) -> Samples:
    names = {field.name for field in fields(DataSettings)}
    chosen = {"label_column": "label" if test else column, "true_label_column": "label"}
    settings = DataSettings(**{name: value for name, value in values.items() if name in names} | chosen)
    return read(values["data"], settings, role="test" if test else "data")


def _run(values: dict[str, Any], data: Samples, test: Samples, folder: Path, seed: int) -> dict[str, Any]:
    run_values = {"data": None, "seed": seed, "output": f"{folder}-seed{seed}"}
    return train(Settings(**(values | run_values)), data, test=test, resume=True).summary


def _write(
    home: Path, results: dict[str, dict[str, list[dict[str, Any]]]], columns: list[str], seeds: list[int]
) -> None:
    tables = {
        "Test accuracy of the chosen student, %": "test_accuracy",
        "Test accuracy after the last epoch, %": "last_test_accuracy",
        "Labels recovered, %": "label_recovery",
        "Minutes of training": "minutes",
    }
    finished = [column for column in columns if any(column in cells for cells in results.values())]
    text = "\n\n".join(f"{title}\n\n{_table(results, key, finished)}" for title, key in tables.items())
    first = next(summaries[0] for cells in results.values() for summaries in cells.values())
    note = (
        f"Seeds {', '.join(map(str, seeds))}; mean ± standard deviation over several. "
        f"{first['noisy_samples']:,} noisy, {first['trusted_samples']:,} trusted, "
        f"{first['test_samples']:,} test samples. {hardware(first)}."
    )
    write_text(home / "results.md", f"{text}\n\n{note}\n")
    write_json(home / "results.json", results)


def _table(results: dict[str, dict[str, list[dict[str, Any]]]], key: str, columns: list[str]) -> str:
    lines = [f"| method | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row, cells in results.items():
        values = [_values(cells.get(column, []), key) for column in columns]
        if any(value is not None for each in values for value in each):
            lines.append(f"| {row} | {' | '.join(cell(each) for each in values)} |")
    return "\n".join(lines)


def _values(summaries: list[dict[str, Any]], key: str) -> list[float | None]:
    return [s["seconds"] / 60 if key == "minutes" else s[key] for s in summaries]


if __name__ == "__main__":
    auto_cli(cifar10, as_positional=True)
