"""Memory and time that `emlc correct` takes for many labels, of 14 classes as in Clothing1M.

    python -m benchmarks.label_memory --rows "[100000, 1000000]"

Trains on 5,000 rows, then corrects a table of each size in a process of its own (on Linux). Prints the
resident memory once the samples are loaded, and the peak at the end: the difference bounds the memory for
correcting and writing.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli
from rich.console import Console

from emlc.config import Settings
from emlc.data import Samples
from emlc.labels.files import write_blocks
from emlc.labels.table import label_schema
from emlc.runs.run import Run
from emlc.runs.train import train

CLASSES, FEATURES = 14, 8


def label_memory(
    rows: list[int] | None = None, correct: str | None = None, all_probabilities: bool = False
) -> None:
    """Measure every table size in a process of its own.

    Args:
        rows: Numbers of rows, 100,000 and 1,000,000 by default.
        correct: Passed to the child processes: the run to correct with.
        all_probabilities: Passed to the child processes: whether to write the probabilities of all classes.
    """
    if correct is not None:
        for n in rows or []:
            print(_correct(Path(correct), n, all_probabilities=all_probabilities))
        return
    print("| rows | all probabilities | MiB, samples there | MiB, peak | more | seconds | MB of CSV |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        _train(Path(folder) / "run")
        for n in rows or [100_000, 1_000_000]:
            for flag in ("false", "true"):
                command = [sys.executable, "-m", "benchmarks.label_memory", "--rows", f"[{n}]"]
                subprocess.run(
                    [*command, "--correct", f"{folder}/run", "--all_probabilities", flag], check=True
                )


def _samples(n: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % CLASSES
    X = rng.normal(size=(n, FEATURES)).astype(np.float32)
    X[np.arange(n), truth % FEATURES] += 3 * (1 + truth // FEATURES)
    given = np.where(rng.random(n) < 0.3, rng.integers(0, CLASSES, n), truth)
    classes = [f"class {k}" for k in range(CLASSES)]
    return Samples.from_arrays(X, given, true_labels=truth, classes=classes)


def _train(folder: Path) -> None:
    settings = Settings(trusted_per_class=10, epochs=2, device="cpu", output=str(folder))
    train(settings, _samples(5_000, 0), console=Console(quiet=True))


def _correct(folder: Path, n: int, *, all_probabilities: bool) -> str:
    run = Run.load(folder, device="cpu")
    samples = _samples(n, 1)
    run.correct_labels(samples.take(np.arange(20_000)))  # so that what is loaded on first use is not counted
    before, start = _resident_mib(), time.perf_counter()
    tables = (table for _, table, _ in run.iter_label_tables(samples, all_probabilities=all_probabilities))
    schema = label_schema(samples.classes, true_labels=True, all_probabilities=all_probabilities)
    for _ in write_blocks(folder / "out.csv", tables, schema):
        pass
    seconds, after = time.perf_counter() - start, _peak_mib()
    size = (folder / "out.csv").stat().st_size / 1e6
    figures = (before, after, after - before, seconds, size)
    cells = [f"{n:,}", "yes" if all_probabilities else "no", *(f"{figure:.0f}" for figure in figures)]
    return f"| {' | '.join(cells)} |"


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    auto_cli(label_memory)
