"""What a round of review does to the next run, by the order in which samples are reviewed.

    python -m benchmarks.review_rounds --features features

Trains, decides on fifty noisy samples by their true labels, worst first or at random, applies the decisions
as `emlc apply` does, and trains again. "Worst first, as before" is the same without the column of the labels
that reviewed samples had been given: what emlc did before it kept them. FOLDER/results.json keeps every
finished round: a command that was interrupted goes on where it stopped. A round is measured again if the
features or the code differ. Writes FOLDER/results.md.

``--features`` names the folder of the arrays of :mod:`benchmarks.patch_features`, train.npz and test.npz;
without it CIFAR-10 is left out.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jsonargparse import auto_cli
from numpy.typing import NDArray

from benchmarks.kept import Kept, decided_by
from benchmarks.tickets import tickets
from emlc.config import Settings
from emlc.config.presets import preset_path
from emlc.data import Split, make_split
from emlc.report.gallery import choose
from emlc.reproduce.tables import cell, markdown_table
from emlc.review import apply_decisions
from emlc.runs.run import Run
from emlc.runs.train import train
from emlc.runtime.files import write_text

ORDERS = {"worst": "worst first", "random": "random", "as before": "worst first, as before"}
"""Key and name of each order."""
FIGURES = {"test": "test accuracy", "rest": "right labels, not reviewed", "all": "right labels, all"}
_TICKETS = {"noisy": 800, "trusted": 60, "test": 600}
_WRONG = 0.3


def review_rounds(
    features: str | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    decisions: int = 50,
    folder: str = "runs/benchmarks/review_rounds",
) -> None:
    """Measure a round on every data set, with every order and seed, and tabulate the differences.

    Args:
        features: Folder of the features of CIFAR-10.
        seeds: Seeds of the data, the split, the noise and the networks.
        decisions: Number of samples that are reviewed.
        folder: Folder for the results.
    """
    home = Path(folder)
    kept = Kept(home / "results.json")
    rows = []
    for name in ["tickets", "digits", *(["CIFAR-10"] if features else [])]:
        seen = [_rounds(kept, name, seed, decisions, features) for seed in seeds]
        rows += [_row(name, order, [rounds[order] for rounds in seen]) for order in ORDERS]
    table = markdown_table(["data", "order", "wrong of the reviewed", *FIGURES.values()], rows)
    write_text(home / "results.md", f"{table}\n")
    print(f"{table}\n\nwritten: {home}/results.md, {kept.file}")


def _rounds(
    kept: Kept, name: str, seed: int, decisions: int, features: str | None
) -> dict[str, dict[str, float]]:
    """Return the figures of a round in every order; the first run is made once, if one of them needs it."""
    files = list(_features(features).values()) if name == "CIFAR-10" else [preset_path("text", "train")]
    with TemporaryDirectory() as work:

        @cache
        def before() -> Run:
            return train(_settings(name, seed, Path(work), features), lean=True)

        def figures(order: str) -> dict[str, float]:
            settings = {"data": name, "order": order, "decisions": decisions, "seed": seed}
            return kept.figures(
                f"{name}, {order}, {decisions}, seed {seed}",
                decided_by("benchmarks.review_rounds", settings, files),
                lambda: _round(before(), order, decisions, Path(work) / order),
            )

        return {order: figures(order) for order in ORDERS}


def _features(folder: str | None) -> dict[str, Any]:
    return {"data": f"{folder}/train.npz", "test": f"{folder}/test.npz"}


def _settings(name: str, seed: int, folder: Path, features: str | None) -> Settings:
    shared: dict[str, Any] = {
        "seed": seed,
        "rivals": False,
        "output": str(folder / "before"),
        "device": "cpu",
    }
    if name == "tickets":
        preset = yaml.safe_load(preset_path("text", "train").read_text(encoding="utf-8"))
        return Settings(**preset, **_write_tickets(folder, seed), **shared)
    known: dict[str, Any] = {"trusted_per_class": 10}
    if name == "digits":
        return Settings(
            data="digits", noise="symmetric", noise_rate=0.5, image_model="none", **known, **shared
        )
    human: dict[str, Any] = {"label_column": "worst", "true_label_column": "label", "noisy_limit": 5000}
    return Settings(**_features(features), **human, **known, **shared)


def _write_tickets(folder: Path, seed: int) -> dict[str, Any]:
    """Write tickets, of which 30 % of the noisy ones have a label drawn from all classes; return settings."""
    table = tickets(sum(_TICKETS.values()), 0).sample(frac=1, random_state=seed)
    rng = np.random.default_rng(seed)
    role = np.repeat(list(_TICKETS), list(_TICKETS.values()))
    redrawn = (role == "noisy") & (rng.random(len(table)) < _WRONG)
    drawn = rng.choice(table["true_label"].unique(), len(table))
    table["label"] = np.where(redrawn, drawn, table["true_label"])
    table["id"], table["trusted"] = [f"ticket-{k}" for k in range(len(table))], role == "trusted"
    is_test = role == "test"
    table[~is_test].to_csv(folder / "tickets.csv", index=False)
    table[is_test].to_csv(folder / "test.csv", index=False)
    files = {"data": str(folder / "tickets.csv"), "test": str(folder / "test.csv")}
    return files | {"trusted_column": "trusted"}


def _round(before: Run, order: str, number: int, folder: Path) -> dict[str, float]:
    split = before.split()
    table = before.with_decision(split).correct_labels(split.noisy)
    rows = _reviewed(table, order, number)
    file = folder.with_suffix(".csv")
    _decisions(table, rows, "random" if order == "random" else "worst").to_csv(file, index=False)
    apply_decisions(before, file, folder)
    settings = Settings(**yaml.safe_load((folder / "train.yaml").read_text(encoding="utf-8")))
    again, _ = make_split(settings, settings, settings.seed)
    if order == "as before":
        again = replace(
            again, trusted=replace(again.trusted, label_before_review=None, chosen_for_review=None)
        )
    no_sources: dict[str, Any] = dict.fromkeys(("data", "trusted_column", "test"))
    after = train(replace(settings, **no_sources, output=str(folder / "run")), again, lean=True)
    now = after.with_decision(again).correct_labels(again.noisy)
    right, right_now = (t["corrected_label"] == t["true_label"] for t in (table, now))
    rest = np.setdiff1d(np.arange(len(table)), rows)
    return {
        "wrong": float((table["given_label"] != table["true_label"]).iloc[rows].sum()),
        "test": _accuracy(before, split),
        "test after": _accuracy(after, again),
        "rest": 100 * float(right.iloc[rest].mean()),
        "rest after": 100 * float(right_now.mean()),
        "all": 100 * float(right.mean()),
        "all after": 100 * float(right_now.sum() + number) / (len(now) + number),
    }


def _reviewed(table: pd.DataFrame, order: str, number: int) -> NDArray[np.int64]:
    """Return the rows that are reviewed first, as the page orders them."""
    choice = choose(table, len(table))
    return choice.rows[np.argsort(choice.places) if order == "random" else slice(None)][:number]


def _decisions(table: pd.DataFrame, rows: NDArray[np.int64], chosen: str) -> pd.DataFrame:
    seen = table.iloc[rows]
    suggested, given, truth = (seen[f"{name}_label"] for name in ("corrected", "given", "true"))
    words = np.select([truth == given, truth == suggested], ["keep", "accept"], "other")
    columns = {"id": seen["id"], "decision": words, "label": truth, "given_label": given}
    return pd.DataFrame(columns | {"suggested_label": suggested, "chosen": chosen})


def _accuracy(run: Run, split: Split) -> float:
    assert split.test is not None
    predicted = run.predict_proba(split.test.inputs).argmax(dim=1).numpy()
    return 100 * float((predicted == split.test.given).mean())


def _row(name: str, order: str, rounds: Sequence[dict[str, float]]) -> list[str]:
    cells = [cell([each["wrong"] for each in rounds], 0)]
    for key in FIGURES:
        change = cell([each[f"{key} after"] - each[key] for each in rounds])
        cells.append(f"{cell([each[key] for each in rounds])}, change {change}")
    return [name, ORDERS[order], *cells]


if __name__ == "__main__":
    auto_cli(review_rounds, as_positional=False)
