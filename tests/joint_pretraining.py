"""Small pretraining runs whose weights must not depend on the number of processes; also for each rank."""

from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

import tiny
from emlc.config import PretrainSettings
from emlc.pretraining.loop import fit
from emlc.pretraining.probe import Probe
from emlc.pretraining.simclr import SimCLR
from emlc.runs.checkpoint import Progress, save_networks
from emlc.runs.reporters import QuietReporter
from emlc.runtime.distributed import Ranks, start_ranks

# 30 images in batches of 8: an epoch's last batch takes images of the next epoch.
CASES = {
    "sgd": {},
    "lars": {"optimizer": "lars", "learning_rate": 5.0, "weight_decay": 1e-3},
    "batch norm": {"backbone": "cnn", "width": 2},
}


class Stopped(Exception):
    """What ends an interrupted run."""


class StopAt(QuietReporter):
    """Interrupts a run after some steps."""

    def __init__(self, steps: int | None) -> None:
        self._steps = steps

    def on_step(self, progress: Progress) -> None:
        if progress.steps == self._steps:
            raise Stopped


def run(case: str, folder: Path, ranks: Ranks, stop_at: int | None = None) -> None:
    """Pretrain in float64, or go on, and leave weights, losses and accuracies in the folder."""
    defaults = {
        "data": "digits",
        "epochs": 3,
        "batch": 8,
        "projection_dim": 5,
        "learning_rate": 0.2,
        "checkpoint_every": 2,
    }
    settings = PretrainSettings(**(defaults | CASES[case]))
    samples = tiny.samples(30, image=True)
    torch.manual_seed(0)
    simclr = SimCLR(settings, samples.inputs, ranks)
    if settings.backbone == "auto":  # without batch norm
        simclr.backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.Tanh())
        simclr.head = nn.Linear(7, 5)
        for network in simclr.networks().values():
            network.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    for network in simclr.networks().values():
        network.double()
    simclr.setup()
    probe = Probe(samples, 0, ranks)
    folder.mkdir(exist_ok=True)
    reporter = StopAt(stop_at)
    progress = fit(simclr, samples.inputs, probe, settings, reporter, folder, ranks)
    if ranks.is_first:
        save_networks(folder, simclr.networks())
        torch.save([progress.losses, [row["knn_accuracy"] for row in progress.history]], folder / "told.pt")


def run_all(folder: Path) -> None:
    """What each rank does."""
    torch.set_num_threads(1)
    ranks = start_ranks("cpu")
    for name in CASES:
        run(name, folder / name, ranks)
    with suppress(Stopped):
        run("batch norm", folder / "interrupted", ranks, stop_at=5)
