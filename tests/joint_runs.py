"""Small runs in float64 whose weights must not depend on the number of processes; also for each rank."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

import tiny
from emlc.config.methods import method_class
from emlc.data import Split
from emlc.networks.backbones import Classifier
from emlc.networks.standardize import Standardize, Statistics
from emlc.networks.teacher import build_teacher
from emlc.runs.fit import fit
from emlc.runs.reporters import QuietReporter
from emlc.runtime.distributed import Ranks, start_ranks

EXACT: dict[str, Any] = {"look_ahead": 5, "meta_gradient": "exact", "noisy_batch": 6}

# Batches of 16 and 8; 63 noisy samples: the last batch has 15, which two processes cannot share evenly.
CASES = {
    "look-ahead of 1": {"jvp": "forward"},
    "look-ahead of 5": {"look_ahead": 5, "jvp": "forward", "noisy_batch": 6},
    "finite differences": {"jvp": "finite-difference"},
    "exact, look-ahead of 5": {"look_ahead": 5, "meta_gradient": "exact", "jvp": "forward", "noisy_batch": 6},
    "random corruption": {"jvp": "forward", "corruption": "random"},
    "student learns from trusted": {"jvp": "forward", "student_trusted": True, "look_ahead": 2},
    "cross-entropy": {"method": "cross-entropy"},
    "trusted-only": {"method": "trusted-only"},
    "batch norm": {"jvp": "forward", "backbone": "mlp"},
    "batch norm, finite differences": {"jvp": "finite-difference", "backbone": "mlp"},
    "batch norm, double backward": {"jvp": "double-backward", "backbone": "mlp", "look_ahead": 2},
    "batch norm, exact": {"jvp": "forward", "backbone": "mlp", "look_ahead": 2, "meta_gradient": "exact"},
    "augmented images": {"jvp": "forward", "backbone": "cnn", "width": 2},
    "warm-up": {"jvp": "forward", "warm_up_epochs": 1},
    "noise-aware": {"jvp": "forward", "teacher": "noise-aware"},
    "closed form": {"teacher": "noise-aware", "look_ahead": 2, "student_trusted": True},
    "noise-aware, exact": {"jvp": "forward", "teacher": "noise-aware", "backbone": "mlp", **EXACT},
}

DEFAULTS = {"backbone": "linear", "learning_rate": 0.05, "teacher": "gate", "schedule": "constant"}


def run(case: str, folder: Path, ranks: Ranks, epochs: int = 2) -> None:
    """Train in float64, or go on, and leave weights and history in the folder."""
    settings = tiny.settings(**(DEFAULTS | {"epochs": epochs} | CASES[case]))
    image = settings.backbone == "cnn"
    split = tiny.split(settings, image=image, test=tiny.unlike(9, 1, image=image))
    torch.manual_seed(0)
    method = method_class(settings.method)(settings, split.noisy.inputs, 3)
    if settings.backbone == "linear":  # without batch norm
        hidden = chain if case == "closed form" else hidden_layer
        method.student = Classifier(hidden(split), 7, 3)
        if settings.method == "emlc":
            method.teacher = build_teacher(settings, hidden(split), 7, 3)
    for network in method.networks().values():
        network.double()
    history = fit(method, split, settings, QuietReporter(), folder, ranks).history
    if ranks.is_first:
        torch.save(history, folder / "history.pt")


def hidden_layer(_: Split) -> nn.Module:
    return nn.Sequential(Floating(), nn.Linear(4, 7), nn.Tanh())


def chain(split: Split) -> nn.Module:
    return nn.Sequential(Standardize(Statistics(split.noisy.inputs)), nn.Linear(4, 7), nn.ReLU())


class Floating(nn.Module):
    """Inputs as float64."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.double()


def run_all(folder: Path) -> None:
    """What each rank does."""
    torch.set_num_threads(1)
    ranks = start_ranks("cpu")
    for name in CASES:
        run(name, folder / name, ranks)
    run("look-ahead of 5", folder / "interrupted", ranks, epochs=1)
