"""What it is worth to know which label a checked sample had been given.

    python -m benchmarks.drawn runs/reproduce/features/cifar10-*/train.npz

Draws samples of CIFAR-10 at random and "checks" them by their true labels, as a user of `emlc draw` does,
trains, and decides which labels are wrong: with the labels that the checked samples had been given, and
without. `emlc reproduce table1 --scale features` makes the features. FOLDER/results.json keeps the figures of
every finished run, which are measured again if the features or the code differ. Writes FOLDER/results.md.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jsonargparse import auto_cli

from benchmarks.kept import Kept, decided_by
from emlc.config import Settings
from emlc.data import Split, make_split
from emlc.reproduce.tables import cell, markdown_table
from emlc.runs.run import Run
from emlc.runs.train import train
from emlc.runtime.files import write_text

_RANDOM = "half at random"
_DATA = {_RANDOM: "symmetric", "human, worst": "worst", "human, aggregate": "aggregate"}
"""Columns of given labels in the features' file; the first is made here."""
_FIGURES = {
    "given": "right, given",
    "student": "the student's prediction",
    "without": "corrected, labels before the check unknown",
    "with": "corrected, known",
    "power": "power of T",
    "test": "test accuracy",
}


def drawn(
    features: str,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    numbers: Sequence[int] = (100, 1000),
    folder: str = "runs/benchmarks/drawn",
) -> None:
    """Train on every kind of labels, number of checked samples and seed, and tabulate.

    Args:
        features: An .npz file of training samples: X (n, d), label, worst and aggregate; test.npz beside it.
        seeds: Seeds of the draw, the noise and the networks.
        numbers: How many samples are checked.
        folder: Folder for the results.
    """
    kept = Kept(Path(folder) / "results.json")
    train_and_test = [Path(features), _test_of(Path(features))]
    lines = []
    for name in _DATA:
        for number in numbers:
            runs = []
            for seed in seeds:
                decided = decided_by(
                    "benchmarks.drawn", {"labels": name, "checked": number, "seed": seed}, train_and_test
                )
                measure = partial(_measure, Path(features), name, number, seed)
                runs.append(kept.figures(f"{name}, {number}, seed {seed}", decided, measure))
            cells = [cell([(1 if key == "power" else 100) * run[key] for run in runs]) for key in _FIGURES]
            lines.append([name, f"{number:,}", *cells])
            print(", ".join(lines[-1]), flush=True)
    table = markdown_table(["labels", "checked", *_FIGURES.values()], lines)
    write_text(Path(folder) / "results.md", table + "\n")
    print(table)


def _test_of(features: Path) -> Path:
    return features.with_name("test.npz")


def _measure(features: Path, name: str, number: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as work, np.load(features) as file:
        arrays = dict(file)
        n, C = len(arrays["label"]), len(arrays["classes"])
        redrawn = np.where(rng.random(n) < 0.5, rng.integers(C, size=n), arrays["label"])
        given = redrawn if name == _RANDOM else arrays[_DATA[name]]
        np.savez(f"{work}/data.npz", **{k: arrays[k] for k in ("X", "label", "classes")}, given=given)
        rows = rng.permutation(n)[:number]
        names = arrays["classes"]
        checked = {
            "id": rows,
            "given_label": names[given[rows]],
            "checked_label": names[arrays["label"][rows]],
        }
        pd.DataFrame(checked).to_csv(f"{work}/checked.csv", index=False)
        settings = Settings(
            data=f"{work}/data.npz",
            test=str(_test_of(features)),
            label_column="given",
            true_label_column="label",
            trusted=f"{work}/checked.csv",
            rivals=False,
            seed=seed,
            output=f"{work}/run",
        )
        run = train(settings, lean=True)
        split, _ = make_split(settings, settings, seed)
        forgotten = replace(split, trusted=replace(split.trusted, label_before_review=None))
        decisions = {"with": run.decide(split), "without": run.decide(forgotten)}
        assert split.noisy.true_labels is not None
        figures = {"given": float((split.noisy.given == split.noisy.true_labels).mean())}
        figures["student"] = _right(run, split, "predicted_label")
        figures |= {key: _right(replace(run, known_decision=d), split) for key, d in decisions.items()}
        power = getattr(decisions["with"], "transition_power", 1.0)
        assert split.test is not None
        predicted = run.predict_proba(split.test.inputs).argmax(dim=1).numpy()
        return figures | {"power": power, "test": float(np.mean(predicted == split.test.given))}


def _right(run: Run, split: Split, column: str = "corrected_label") -> float:
    """Return the share of the noisy samples whose label in a column of the label table is right."""
    tables = [table for _, table, _ in run.iter_label_tables(split.noisy)]
    table = pd.concat(tables)
    return float(np.mean(table[column].to_numpy() == table["true_label"].to_numpy()))


if __name__ == "__main__":
    auto_cli(drawn)
