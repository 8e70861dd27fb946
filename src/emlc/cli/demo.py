"""Demonstrate emlc in a minute: digits with 80 % of the labels redrawn and 10 trusted labels per class.

Trains on the trusted labels only, on the noisy labels only, and with EMLC on both; prints a table and
writes summary.json and pictures. The images are scikit-learn's digits; a quarter of them are held
out for testing and never used to choose an epoch.
"""

import shutil
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.results import show
from emlc.config import Settings
from emlc.errors import InputError

METHODS = ("trusted-only", "cross-entropy", "emlc")

USAGE = "[options]"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=str, default="runs/demo", help="directory for one run per method")
    parser.add_argument("--seed", type=int, default=0, help="seed of split, noise and training")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the noisy images")


def run(arguments: Namespace) -> None:
    folder = Path(arguments.output)
    settings = {method: demo_settings(method, folder, arguments.seed, arguments.epochs) for method in METHODS}
    from rich.console import Console

    from emlc.runs.outputs import check_our_folder
    from emlc.runs.train import train
    from emlc.runtime.files import write_json

    check_our_folder(folder, METHODS[0])
    for method in METHODS:
        _remove_earlier_demo(folder / method, settings[method])
    summaries: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        summaries[method] = train(settings[method]).summary
    write_json(folder / "summary.json", summaries)
    Console().print(_table(summaries))
    show(f"written: {folder}/summary.json")
    for picture in sorted((folder / "emlc").glob("*.png")):
        show(f"written: {picture}")
    show(f"written: {folder}/emlc/labels.csv (the corrected labels)")


def _remove_earlier_demo(folder: Path, settings: Settings) -> None:
    """Remove the run of an earlier demo; any other run in its place is an error."""
    from emlc.runs.stored_settings import read_settings
    from emlc.runtime.locks import in_use

    if not folder.exists():
        return
    before, now = read_settings(folder, Settings).as_dict(), settings.as_dict()
    free = {"seed", "epochs", "output", *(name for name in now if now[name] == "auto")}
    if any(before[name] != now[name] for name in now if name not in free):
        raise InputError(f"output: {folder} holds a run that is not the demo's; name another directory")
    with in_use(folder):
        shutil.rmtree(folder)


def demo_settings(method: str, folder: Path, seed: int, epochs: int) -> Settings:
    """Return the demo's settings for a method; all others keep their defaults. Rivals are runs here."""
    return Settings(
        data="digits",
        trusted_per_class=10,
        noise="symmetric",
        noise_rate=0.8,
        image_model="none",
        method=method,
        epochs=epochs,
        noisy_batch=128,
        rivals=False,
        seed=seed,
        output=str(folder / method),
    )


def _table(summaries: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table

    first = next(iter(summaries.values()))
    table = Table(
        title=f"Digits, {first['noise_rate_nominal']:.0%} symmetric noise "
        f"({first['noise_rate_actual']:.1%} of {first['noisy_samples']:,} labels wrong), "
        f"{first['trusted_samples']} trusted"
    )
    columns = {
        "test %, chosen epoch": "test_accuracy",
        "test %, last epoch": "last_test_accuracy",
        "labels recovered %": "label_recovery",
        "wrong labels recovered %": "wrong_label_recovery",
        "seconds": "seconds",
    }
    table.add_column("method", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right")
    for method, summary in summaries.items():
        values = [summary[key] for key in columns.values()]
        table.add_row(method, *("-" if value is None else f"{value:.1f}" for value in values))
    return table
