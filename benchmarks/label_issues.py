"""How well wrong labels are found and corrected, beside cleanlab fed the same student's probabilities.

    python -m benchmarks.label_issues benchmarks/label_issues.yaml --seeds "[3,4,5]"

Of each data set a part is held out before training. Its labels are judged by networks that have seen
neither them nor their samples; the training set's, which cleanlab would have judged by cross-validation, by
the networks that learnt from them. A seed that is finished already is read instead of trained again. Writes
FOLDER/results.json and FOLDER/results.md.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cleanlab
import numpy as np
import yaml
from jsonargparse import auto_cli

from emlc.config import Settings
from emlc.data import Samples, noise, read, split_samples
from emlc.labels.quality import FIGURES, QualityMeter, issue_figures
from emlc.reproduce.tables import cell, hardware
from emlc.runs.run import Run
from emlc.runs.train import train
from emlc.runtime.files import write_json, write_text

_HELD_OUT = 0.2


def label_issues(
    cases: str, seeds: list[int] | None = None, folder: str | None = None, data: str | None = None
) -> None:
    """Train on every case with every seed, judge the labels, and tabulate the results.

    Args:
        cases: YAML file: by name, settings.
        seeds: Seeds, 0 to 2 by default.
        folder: Where runs and results go, by default runs/benchmarks/CASES.
        data: In place of the data that the settings name.
    """
    home = Path(folder or f"runs/benchmarks/{Path(cases).stem}")
    results: dict[str, Any] = {}
    for number, (name, values) in enumerate(yaml.safe_load(Path(cases).read_text(encoding="utf-8")).items()):
        values |= {} if data is None else {"data": data}
        runs = [_finished(values, seed, home / f"case{number}-seed{seed}") for seed in seeds or range(3)]
        results[name] = runs
    seen = ", ".join(str(seed) for seed in seeds or range(3))
    note = (
        f"Per cent, mean ± standard deviation over seeds {seen}. "
        f"{hardware(next(iter(results.values()))[0]['summary'])}, cleanlab {cleanlab.__version__}."
    )
    table = _table(results)
    write_json(home / "results.json", results)
    write_text(home / "results.md", f"{table}\n\n{note}\n")
    print(f"{table}\n\n{note}\n\nwritten: {home}/results.md, {home}/results.json")


def _finished(values: dict[str, Any], seed: int, output: Path) -> dict[str, Any]:
    file = output / "label_issues.json"
    if not file.exists():
        write_json(file, _judge(values, seed, output))
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return result


def _judge(values: dict[str, Any], seed: int, output: Path) -> dict[str, Any]:
    """Train, and judge the training and the held-out labels."""
    settings = Settings(**(values | {"data": None, "seed": seed, "output": str(output)}))
    samples = read(values["data"], settings, role="data")
    rows = np.random.default_rng([seed, 1]).permutation(len(samples))
    held_out, rest = np.split(rows, [int(_HELD_OUT * len(rows))])
    training = samples.take(np.sort(rest))
    run = train(settings, training, resume=True)
    split = split_samples(training, settings=settings, noise=settings, seed=seed)
    parts = {
        "training": split.noisy,
        "held out": _with_noise(samples.take(np.sort(held_out)), settings, seed),
    }
    figures = {name: _figures(run, part) for name, part in parts.items()}
    return {"figures": figures, "noise_rate_estimated": run.decision.noise_rate, "summary": run.summary}


def _with_noise(samples: Samples, settings: Settings, seed: int) -> Samples:
    """The samples with noise as the training set has it."""
    if settings.noise == "none":
        return samples
    assert samples.labels is not None
    matrix, rate = noise.from_settings(settings, samples.classes)
    rng = np.random.default_rng([seed, 2])
    given = noise.inject(samples.labels, matrix, rng, draw=settings.noise_draw, rate=rate)
    truth = samples.labels if samples.true_labels is None else samples.true_labels
    return replace(samples, labels=given, true_labels=truth)


def _figures(run: Run, samples: Samples) -> dict[str, Any]:
    meter, soft = QualityMeter(), []
    for block, table, predictions in run.iter_label_tables(samples):
        meter.add(block, table, predictions)
        w, y_hat = predictions.retain_weight[:, None].numpy(), predictions.teacher.numpy()
        assert block.labels is not None
        soft.append(w * np.eye(len(samples.classes))[block.labels] + (1 - w) * y_hat)
    figures: dict[str, Any] = meter.figures() or {}
    given, truth, q = samples.labels, samples.true_labels, np.concatenate(soft)
    assert given is not None
    assert truth is not None
    own = q[np.arange(len(given)), given]
    return {"emlc": figures["emlc"], "cleanlab": figures["cleanlab"]} | {
        "argmax of q": issue_figures(given, truth, q.argmax(axis=1), own)
    }


def _table(results: dict[str, Any]) -> str:
    headings = ["noise", "labels", "by", *(name.replace("_", " ") for name in FIGURES)]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, runs in results.items():
        for part in ("held out", "training"):
            for tool in ("emlc", "cleanlab", "argmax of q"):
                figures = [run["figures"][part][tool] for run in runs]
                cells = [cell([_per_cent(f[key]) for f in figures]) for key in FIGURES]
                lines.append(f"| {name} | {part} | {tool} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _per_cent(value: float | None) -> float | None:
    return None if value is None else 100 * value


if __name__ == "__main__":
    auto_cli(label_issues, as_positional=True)
