"""A small experiment: methods that take a fraction of a second, on a few of scikit-learn's digits."""

from types import SimpleNamespace

from rich.console import Console

from emlc.reproduce.engine import reproduce
from emlc.reproduce.plan import Grid, Part

TINY = {
    "data": "digits",
    "trusted_per_class": 2,
    "noisy_limit": 60,
    "noisy_batch": 30,
    "trusted_batch": 8,
    "width": 2,
    "epochs": 3,
    "device": "cpu",
    "precision": "float32",
}


def grid(**changes):
    """Two methods by two kinds of noise by two seeds."""
    values = {
        "name": "tiny",
        "title": "Tiny",
        "rows": (
            Part("cross-entropy", {"method": "cross-entropy"}, paper="cross-entropy"),
            Part("trusted-only", {"method": "trusted-only"}, paper="trusted-only"),
        ),
        "columns": (
            Part("half", {"noise": "symmetric", "noise_rate": 0.5}, paper="CIFAR-10 symmetric 50 %"),
            Part("pairs", {"noise": "asymmetric", "noise_rate": 0.4}),
        ),
        "common": TINY,
        "seeds": (0, 1),
        "paper": "table1",
    }
    return Grid(**(values | changes))


def run_grid(experiment, home, **more):
    """Run an experiment; return the folder of results, the notes below the table, and the failed runs."""
    folder = home / experiment.name
    results = reproduce(experiment, home / "runs", folder, console=Console(quiet=True), **more)
    return SimpleNamespace(folder=folder, notes=results.notes, failed=results.failed, runs=home / "runs")
