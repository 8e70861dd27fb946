"""Compare methods on one configuration over seeds: a table of mean and spread.

    python -m benchmarks.compare benchmarks/digits.yaml --seeds "[0,1,2,3,4]"

Every method gets the same split, noise, networks and number of student steps a seed. A run that is
finished already is read instead of trained again. Writes FOLDER/results.json and FOLDER/results.md.
"""

from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from emlc.config import Settings
from emlc.reproduce.tables import cell, hardware
from emlc.runs.train import train
from emlc.runtime.files import read_yaml, write_json, write_text

FIGURES = {
    "test %, chosen": "test_accuracy",
    "test %, last": "last_test_accuracy",
    "labels recovered %": "label_recovery",
    "wrong labels recovered %": "wrong_label_recovery",
    "minutes": "minutes",
}


def compare(
    settings: str,
    seeds: list[int] | None = None,
    methods: list[str] | None = None,
    folder: str | None = None,
    data: str | None = None,
) -> None:
    """Train every method with every seed and tabulate the results.

    Args:
        settings: YAML file with settings.
        seeds: Seeds, 0 to 4 by default.
        methods: Methods, by default trusted-only, cross-entropy and emlc.
        folder: Where runs and results go, by default runs/benchmarks/SETTINGS.
        data: In place of the data that the settings name.
    """
    home = Path(folder or f"runs/benchmarks/{Path(settings).stem}")
    values = read_yaml(settings) | ({} if data is None else {"data": data})
    results = {
        method: [_summary(values | {"method": method, "seed": seed}, home) for seed in seeds or range(5)]
        for method in methods or ["trusted-only", "cross-entropy", "emlc"]
    }
    first = next(iter(results.values()))[0]
    table = _table(results)
    note = (
        f"Mean ± standard deviation over seeds {', '.join(str(seed) for seed in seeds or range(5))}. "
        f"{first['noisy_samples']:,} noisy samples{_noise(first)}; "
        f"{first['trusted_samples']:,} trusted; {first['test_samples']:,} test. "
        f"{hardware(first)}."
    )
    write_json(home / "results.json", results)
    write_text(home / "results.md", f"{table}\n\n{note}\n")
    print(f"{table}\n\n{note}\n\nwritten: {home}/results.md, {home}/results.json")


def _summary(values: dict[str, Any], home: Path) -> dict[str, Any]:
    output = home / f"{values['method']}-seed{values['seed']}"
    resolved = Settings(**(values | {"output": str(output)}))

    # Goes on with an interrupted run, reads a finished one, and refuses one made with other settings.
    summary = train(resolved, resume=True).summary
    return summary | {"minutes": summary["seconds"] / 60}


def _noise(summary: dict[str, Any]) -> str:
    rate = summary["noise_rate_actual"]
    return "" if rate is None else f", {rate:.1%} of them wrong"


def _table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"| method | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 1) + "|"]
    for method, summaries in results.items():
        cells = [cell([s[key] for s in summaries]) for key in FIGURES.values()]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    auto_cli(compare, as_positional=True)
