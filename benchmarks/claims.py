"""What a decision claims of the label issues, beside the truth, where evidence is strong, weak and absent.

    python -m benchmarks.claims --seeds "[2,3,4]"

``--features runs/reproduce/features/cifar10-*/train.npz`` adds cases with 10,000 images of CIFAR-10 as
features, which `emlc reproduce table1 --scale features` makes. Writes FOLDER/claims.json and
FOLDER/claims.md.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jsonargparse import auto_cli
from sklearn.datasets import make_blobs, make_classification

from emlc.config import Settings
from emlc.data import Samples, read, split_samples
from emlc.labels.quality import QualityMeter
from emlc.reproduce.plan import ON_EQUAL_TERMS
from emlc.reproduce.tables import cell, markdown_table
from emlc.runs.train import train
from emlc.runtime.files import write_json, write_text

_KNOWN = {"trusted_per_class": 10}


def claims(
    seeds: list[int] | None = None, features: str | None = None, folder: str = "runs/benchmarks/claims"
) -> None:
    """Train on every case with every seed, and tabulate what is claimed and what is true.

    Args:
        seeds: Seeds, 0 to 2 by default.
        features: File of features with the arrays label (true) and worst (human).
        folder: Folder for the results.
    """
    home, results = Path(folder), dict[str, list[dict[str, Any]]]()
    for name, values in (_cases() | ({} if features is None else _feature_cases(features))).items():
        results[name] = [_assess(values, seed) for seed in seeds or range(3)]
        print(", ".join(_row(name, results[name])), flush=True)
    headings = ["data", "expected f1", "f1", "estimated noise", "noise", "right, given", "right, corrected"]
    table = markdown_table(headings, [_row(*item) for item in results.items()])
    write_json(home / "claims.json", results)
    write_text(home / "claims.md", f"{table}\n")


def _cases() -> dict[str, dict[str, Any]]:
    noise = {"symmetric 20": ("symmetric", 0.2), "symmetric 80": ("symmetric", 0.8)}
    noise |= {"asymmetric 40": ("asymmetric", 0.4)}
    digits = {
        f"digits, {name} %": {"data": "digits", "noise": kind, "noise_rate": rate} | _KNOWN
        for name, (kind, rate) in noise.items()
    }
    wrong = {"noise": "symmetric", "noise_rate": 0.3} | _KNOWN
    return digits | {
        "blobs, 30 %": {"data": "blobs"} | wrong,
        "two classes, 7 : 3, 30 %": {"data": "70"} | wrong,
        "two classes, 99 : 1, 10 %": {"data": "99"} | wrong | {"noise_rate": 0.1},
        "two classes, nothing wrong": {"data": "50"} | _KNOWN,
        "numbers that say nothing, 30 %": {"data": "nothing"} | wrong,
    }


def _feature_cases(features: str) -> dict[str, dict[str, Any]]:
    shared = {"data": features, "label_column": "label", "noisy_limit": 10_000} | _KNOWN
    human = shared | {"label_column": "worst", "true_label_column": "label"}
    noise = {"noise": "symmetric", "noise_rate": 0.2}
    return {
        "CIFAR-10, symmetric 20 %": shared | noise,
        "CIFAR-10, symmetric 80 %": shared | noise | {"noise_rate": 0.8},
        "CIFAR-10N worst": human,
        "CIFAR-10N worst, 1,000 trusted": human | {"trusted_per_class": 100},
    }


def _made(kind: str, seed: int) -> Samples:
    """Draw features and classes."""
    if kind == "blobs":
        X, y, *_ = make_blobs(3000, 20, centers=8, cluster_std=5.0, random_state=seed)
    elif kind == "nothing":
        X, y = np.random.default_rng(seed).normal(size=(2000, 30)), np.arange(2000) % 3
    else:
        share = int(kind) / 100
        options = {"n_informative": 8, "flip_y": 0, "n_clusters_per_class": 1, "random_state": seed}
        X, y = make_classification(3000, 20, weights=[share, 1 - share], **options)
    return Samples.from_arrays(X, y, true_labels=y)


def _assess(values: dict[str, Any], seed: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        settings = Settings(**(ON_EQUAL_TERMS | values | {"data": None, "seed": seed, "output": folder}))
        data = values["data"]
        is_read = data == "digits" or Path(data).suffix
        samples = read(data, settings, role="data") if is_read else _made(data, seed)
        run = train(settings, samples, lean=True)
        meter = QualityMeter()
        noisy = split_samples(samples, settings=settings, noise=settings, seed=seed).noisy
        for part in run.iter_label_tables(noisy):
            meter.add(*part)
        decision = run.decision
    figures = (meter.figures() or {})["emlc"]
    return {"expected_f1": decision.expected_f1, "estimated_rate": decision.noise_rate, "figures": figures}


def _row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    claiming = [run for run in runs if run["expected_f1"] is not None]
    columns = [
        [run["expected_f1"] for run in claiming],
        [run["figures"]["f1"] for run in claiming],
        [run["estimated_rate"] for run in claiming],
        [run["figures"]["noise_rate"] for run in runs],
        [1 - run["figures"]["noise_rate"] for run in runs],
        [run["figures"]["recovery"] for run in runs],
    ]
    cells = [cell([100 * value for value in column]) for column in columns]
    unknown = len(runs) - len(claiming)
    cells[0] = "unknown" if not claiming else cells[0] + (f", {unknown} unknown" if unknown else "")
    return [name, *cells]


if __name__ == "__main__":
    auto_cli(claims, as_positional=False)
