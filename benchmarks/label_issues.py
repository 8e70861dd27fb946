"""How well wrong labels are found and corrected, beside cleanlab on the same student's probabilities.

    python -m benchmarks.label_issues benchmarks/label_issues.yaml --seeds "[3,4,5]"

Part of each data set is held out before training, and its labels are assessed by networks that saw neither
them nor their samples. The labels of the training set, for which cleanlab asks for cross-validation, are
assessed by the networks that were trained on them. FOLDER/results.json keeps the figures of finished seeds,
which are measured again if the settings, the data or the code differ. Writes FOLDER/results.md.

"The teacher's q" are the labels that the student learns from.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cleanlab
import numpy as np
from jsonargparse import auto_cli

from benchmarks.kept import Kept, decided_by, short_key
from emlc.config import Settings
from emlc.data import Samples, noise, read, split_samples
from emlc.labels.decision import bayes
from emlc.labels.quality import FIGURES, QualityMeter, issue_figures
from emlc.reproduce.plan import ON_EQUAL_TERMS, job
from emlc.reproduce.tables import cell, hardware, markdown_table
from emlc.runs.run import Run
from emlc.runs.train import train
from emlc.runtime.files import read_yaml, write_text

_HELD_OUT = 0.2


def label_issues(
    cases: str, seeds: list[int] | None = None, folder: str | None = None, data: str | None = None
) -> None:
    """Train on every case with every seed, assess the labels, and tabulate the results.

    Args:
        cases: YAML file of cases: name -> settings.
        seeds: Seeds, 0 to 2 by default.
        folder: Folder for runs and results, by default runs/benchmarks/CASES.
        data: Data to use instead of the data that the settings name.
    """
    home = Path(folder or f"runs/benchmarks/{Path(cases).stem}")
    kept, results = Kept(home / "results.json"), dict[str, list[dict[str, Any]]]()
    for name, values in cases_from(Path(cases), data).items():
        results[name] = []
        for seed in seeds or range(3):
            decided = decided_by("benchmarks.label_issues", values | {"seed": seed}, [values["data"]])
            assess = partial(_assess, values, seed, home / "runs" / short_key(decided))
            results[name].append(kept.figures(f"{name}, seed {seed}", decided, assess))
    seed_list = ", ".join(str(seed) for seed in seeds or range(3))
    note = (
        f"Per cent, mean ± standard deviation over seeds {seed_list}. "
        f"{hardware(next(iter(results.values()))[0]['summary'])}, cleanlab {cleanlab.__version__}."
    )
    table = _table(results)
    write_text(home / "results.md", f"{table}\n\n{note}\n")
    print(f"{table}\n\n{note}\n\nwritten: {home}/results.md, {kept.file}")


def cases_from(file: Path, data: str | None = None) -> dict[str, dict[str, Any]]:
    """Read cases, by name, with the settings that all have.

    Args:
        file: The YAML file.
        data: Data to use instead of the data that it names.

    Raises:
        InputError: It cannot be read, or settings are wrong.
    """
    of_all = {} if data is None else {"data": data}
    cases = {name: ON_EQUAL_TERMS | values | of_all for name, values in read_yaml(file).items()}
    for values in cases.values():
        job(values)
    return cases


def _assess(values: dict[str, Any], seed: int, output: Path) -> dict[str, Any]:
    """Train, and assess the labels of the training set and of the held-out part."""
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
    """Inject noise of the training set's kind and rate into held-out samples."""
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
        assert run.transition is not None
        soft.append(bayes(predictions.teacher.double().numpy(), run.transition.to_numpy(), block.given))
    figures: dict[str, Any] = meter.figures() or {}
    given, truth, q = samples.labels, samples.true_labels, np.concatenate(soft)
    assert given is not None
    assert truth is not None
    given_probability = q[np.arange(len(given)), given]
    return {"emlc": figures["emlc"], "cleanlab": figures["cleanlab"]} | {
        "the teacher's q": issue_figures(given, truth, q.argmax(axis=1), given_probability)
    }


def _table(results: dict[str, Any]) -> str:
    headings = ["noise", "labels", "by", *(name.replace("_", " ") for name in FIGURES)]
    lines = []
    for name, runs in results.items():
        for part in ("held out", "training"):
            for tool in ("emlc", "cleanlab", "the teacher's q"):
                figures = [run["figures"][part][tool] for run in runs]
                cells = [cell([_per_cent(f[key]) for f in figures]) for key in FIGURES]
                lines.append([name, part, tool, *cells])
    return markdown_table(headings, lines)


def _per_cent(value: float | None) -> float | None:
    return None if value is None else 100 * value


if __name__ == "__main__":
    auto_cli(label_issues, as_positional=True)
