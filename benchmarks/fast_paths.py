"""Do the fast paths cost accuracy? The demo's EMLC run with each of them, over several seeds.

    python -m benchmarks.fast_paths

All variants have the same splits, networks and steps. FOLDER/results.json keeps the summaries of finished
runs, which are made again if the code differs. This is no grid of `benchmarks.grid`, which would make one run
of those that differ in ``save_memory`` alone. Writes FOLDER/results.md.
"""

from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from benchmarks.kept import Kept, decided_by, short_key
from emlc.config import Settings
from emlc.reproduce.tables import cell, hardware, markdown_table
from emlc.runs.train import train
from emlc.runtime.files import write_text

_DEMO: dict[str, Any] = {
    "data": "digits",
    "trusted_per_class": 10,
    "noise": "symmetric",
    "noise_rate": 0.8,
    "epochs": 30,
}
_VARIANTS: dict[str, dict[str, Any]] = {
    "float32, forward (reference)": {"precision": "float32", "jvp": "forward"},
    "float32, finite-difference": {"precision": "float32", "jvp": "finite-difference"},
    "float32, double-backward": {"precision": "float32", "jvp": "double-backward"},
    "float32, save_memory": {"precision": "float32", "jvp": "forward", "save_memory": True},
    "bf16-mixed, forward": {"precision": "bf16-mixed", "jvp": "forward"},
}
_FIGURES = {
    "test %, chosen": "test_accuracy",
    "test %, last": "last_test_accuracy",
    "labels recovered %": "label_recovery",
}


def fast_paths(
    seeds: list[int] | None = None,
    folder: str = "runs/benchmarks/fast_paths",
) -> None:
    """Train every variant with every seed and tabulate the results.

    Args:
        seeds: Seeds, 0 to 4 by default.
        folder: Folder for runs and results.
    """
    seeds = seeds or list(range(5))
    kept, rows = Kept(Path(folder) / "results.json"), []
    for variant, changes in _VARIANTS.items():
        summaries = []
        for seed in seeds:
            values = _DEMO | changes | {"seed": seed}
            decided = decided_by("benchmarks.fast_paths", values)
            make = partial(_summary, values, f"{folder}/runs/{short_key(decided)}")
            summaries.append(kept.figures(f"{variant}, seed {seed}", decided, make))
        rows.append([variant, *(cell([each[key] for each in summaries]) for key in _FIGURES.values())])
    made_on = hardware(summaries[0] | {"precision": "precision as in the table"})
    note = f"Mean ± standard deviation over seeds {', '.join(map(str, seeds))}. {made_on}."
    text = f"{markdown_table(['variant', *_FIGURES], rows)}\n\n{note}\n"
    write_text(Path(folder) / "results.md", text)
    print(text)


def _summary(values: dict[str, Any], output: str) -> dict[str, Any]:
    return train(Settings(**values, output=output), resume=True).summary


if __name__ == "__main__":
    auto_cli(fast_paths)
