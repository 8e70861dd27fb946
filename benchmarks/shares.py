"""Time and memory of `emlc correct` on many embedded rows, by one process and by several of torchrun.

    python -m benchmarks.shares --rows 1000000 --features 384 --processes "[1, 2]" --repeats 3

Makes a parquet file of rows with ids, labels and embeddings (float32, row groups of 65,536), trains on 5,000
rows, and corrects the labels of all. The runs of a repetition take turns. Prints the seconds by the clock,
the CPU seconds of the process that needs most and of joining the parts, both after the imports, and the peak
resident memory of each process. On a machine that others use, CPU seconds tell more than the clock.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jsonargparse import auto_cli
from rich.console import Console

CLASSES, GROUP, SMALL = 10, 65_536, 5_000


def shares(
    rows: int = 1_000_000,
    features: int = 384,
    processes: list[int] | None = None,
    repeats: int = 3,
    rank_of: str | None = None,
) -> None:
    """Measure every number of processes.

    Args:
        rows: Number of rows.
        features: Numbers per row.
        processes: Numbers of processes, 1 and 2 by default.
        repeats: How often each is measured.
        rank_of: Passed to the processes that are measured: the folder of the data.
    """
    if rank_of is not None:
        _rank(Path(rank_of))
        return
    print("| rows x numbers | processes | s | CPU s, slowest | CPU s, joining | MiB, peak of each |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder), rows, features)
        for _ in range(repeats):
            for number in processes or [1, 2]:
                print(f"| {rows:,} x {features} {_measure(Path(folder), number)}", flush=True)


def _prepare(folder: Path, rows: int, features: int) -> None:
    from emlc.config import Settings
    from emlc.runs.train import train

    rng = np.random.default_rng(0)
    for name, n, noise in (("new", rows, 0.3), ("data", SMALL, 0.3), ("trusted", 100, 0.0)):
        _write(folder / f"{name}.parquet", n, features, noise, rng)
    settings = Settings(
        data=str(folder / "data.parquet"),
        trusted=str(folder / "trusted.parquet"),
        output=str(folder / "run"),
        epochs=3,
        device="cpu",
        rivals=False,
    )
    train(settings, console=Console(quiet=True))


def _write(path: Path, rows: int, features: int, noise: float, rng: np.random.Generator) -> None:
    with pq.ParquetWriter(path, _block(0, 1, features, 0, rng).schema) as writer:
        for start in range(0, rows, GROUP):
            writer.write_table(_block(start, min(start + GROUP, rows), features, noise, rng))


def _block(start: int, stop: int, features: int, noise: float, rng: np.random.Generator) -> pa.Table:
    truth = rng.integers(0, CLASSES, stop - start)
    X = rng.normal(size=(len(truth), features)).astype(np.float32)
    X[np.arange(len(truth)), truth] += 4
    given = np.where(rng.random(len(truth)) < noise, rng.integers(0, CLASSES, len(truth)), truth)
    offsets = pa.array(np.arange(len(truth) + 1) * features, pa.int32())
    return pa.table(
        {
            "id": [f"sample-{k}" for k in range(start, stop)],
            "label": pa.array([f"class {k}" for k in range(CLASSES)]).take(pa.array(given)),
            "embedding": pa.ListArray.from_arrays(offsets, pa.array(X.reshape(-1))),
        }
    )


def _measure(folder: Path, processes: int) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "-m"]
    start = time.perf_counter()
    subprocess.run(
        [*command, "benchmarks.shares", "--rank_of", str(folder)], check=True, stdout=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - start
    ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]
    slowest = max(rank["cpu"] - rank["joining"] for rank in ranks)
    peaks = " and ".join(f"{rank['peak']:.0f}" for rank in ranks)
    return f"| {processes} | {seconds:.0f} | {slowest:.1f} | {ranks[0]['joining']:.1f} | {peaks} |"


def _rank(folder: Path) -> None:
    """Correct as one of the processes, and write what it took."""
    from emlc.cli import main
    from emlc.runs import label_parts

    join, joining = label_parts.join_label_parts, [0.0]

    def timed(*arguments: object, **options: object) -> object:
        before = time.process_time()
        meter = join(*arguments, **options)  # type: ignore[arg-type]
        joining[0] = time.process_time() - before
        return meter

    label_parts.join_label_parts = timed  # type: ignore[assignment]
    before = time.process_time()
    argv = ["correct", str(folder / "run"), str(folder / "new.parquet"), "--device", "cpu"]
    assert main([*argv, "--output", str(folder / "out.csv")]) == 0
    usage = {
        "cpu": time.process_time() - before,
        "joining": joining[0],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(usage))


if __name__ == "__main__":
    auto_cli(shares)
