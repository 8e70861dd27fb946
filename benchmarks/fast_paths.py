"""Do the fast paths cost accuracy? The demo's EMLC run with each of them, over several seeds.

    python -m benchmarks.fast_paths

All variants have the same splits, networks and steps. Finished runs are read, not trained again. This is no
grid of `benchmarks.grid`, which would make one run of those that differ in ``save_memory`` alone. Writes
FOLDER/results.md and FOLDER/results.json.
"""

from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from emlc.config import Settings
from emlc.reproduce.tables import cell, hardware
from emlc.runs.train import train
from emlc.runtime.files import write_json, write_text

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
    results: dict[str, list[dict[str, Any]]] = {}
    for variant, changes in _VARIANTS.items():
        name = variant.replace(", ", "-").replace(" ", "-")
        results[variant] = [
            train(
                Settings(**(_DEMO | changes | {"seed": seed, "output": f"{folder}/{name}-{seed}"})),
                resume=True,
            ).summary
            for seed in seeds
        ]
    lines = [f"| {' | '.join(['variant', *_FIGURES])} |", "|---" * (len(_FIGURES) + 1) + "|"]
    for variant, summaries in results.items():
        cells = [cell([summary[key] for summary in summaries]) for key in _FIGURES.values()]
        lines.append(f"| {' | '.join([variant, *cells])} |")
    made_on = hardware(summaries[0] | {"precision": "precision as in the table"})
    note = f"Mean ± standard deviation over seeds {', '.join(map(str, seeds))}. {made_on}."
    text = "\n".join([*lines, "", note, ""])
    write_json(Path(folder) / "results.json", results)
    write_text(Path(folder) / "results.md", text)
    print(text)


if __name__ == "__main__":
    auto_cli(fast_paths)
