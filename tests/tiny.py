"""Small samples, splits and settings, with which a run takes a fraction of a second."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from emlc.config import Settings
from emlc.config.methods import method_class
from emlc.data import Samples, Split, split_samples
from emlc.methods.emlc import EMLC
from emlc.runs.run import Run
from emlc.runs.train import train
from emlc.runtime.distributed import start_ranks

CLASSES = ("cat", "cow", "dog")
ALONE = start_ranks("cpu")
"""One process, as most runs have."""


def settings(*, image: bool = False, **changes: Any) -> Settings:
    """Settings for the samples below, with the smallest of networks with batch norm and without dropout."""
    defaults: dict[str, Any] = {
        "trusted_per_class": 4,
        "backbone": "cnn" if image else "mlp",
        "width": 5,
        "epochs": 2,
        "noisy_batch": 16,
        "trusted_batch": 8,
        "learning_rate": 0.1,
        "device": "cpu",
        "rivals": False,
    }
    if changes.get("teacher") == "gate":
        defaults |= {"label_embedding_dim": 3, "gate_hidden_dim": 4}
    if changes.get("method") == "c2d":
        defaults["init"] = "backbone.safetensors"  # which it asks for; the tests do not read it
    return Settings(**(defaults | changes))


def without_effect(settings: Settings) -> list[str]:
    """Settings that differ from their default, and do nothing with the method."""
    default = {f.name: f.default for f in fields(Settings)}
    idle = method_class(settings.method).idle_settings(settings)
    return [name for name in idle if getattr(settings, name) != default[name]]


def samples(
    n: int = 75, *, seed: int = 0, wrong: float = 0.3, image: bool = False, prefix: str = "s"
) -> Samples:
    """Three classes that can be told apart, with string labels of which a share is wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % 3)
    given = np.where(rng.random(n) < wrong, (truth + 1) % 3, truth)
    X = rng.normal(size=(n, 4)) + 3 * np.eye(3, 4)[truth]
    if image:
        X = rng.integers(0, 128, (n, 8, 8)).astype(np.uint8)
        for k, c in enumerate(truth):
            X[k, 2 * c : 2 * c + 3] += 100
    names = np.array(CLASSES)
    ids = [f"{prefix}{k}" for k in range(n)]
    return Samples.from_arrays(X, names[given], true_labels=names[truth], ids=ids)


def split(settings: Settings, *, image: bool = False, **parts: Samples) -> Split:
    """The samples above, divided as the settings say."""
    return split_samples(samples(image=image), settings=settings, seed=settings.seed, **parts)


def unlike(n: int, seed: int, *, image: bool = False) -> Samples:
    """Other samples, with right labels, for validation and test sets."""
    return samples(n, seed=seed, wrong=0, image=image, prefix=f"other{seed}-")


def trained(folder: Path) -> Run:
    """A run on features with string labels, a test set, and wrong labels that are known."""
    console = Console(quiet=True)
    return train(settings(output=str(folder), epochs=8), samples(), test=unlike(60, 3), console=console)


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class InterruptedRun(Exception):
    """In place of Ctrl-C."""


@contextmanager
def interrupted_after(steps: int) -> Iterator[None]:
    """A run of EMLC in this block must want to take more steps than these, and is stopped there."""
    original, taken = EMLC.step, 0

    def step(*arguments: Any) -> Any:
        nonlocal taken
        if taken == steps:
            raise InterruptedRun
        taken += 1
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EMLC, "step", step)
        with pytest.raises(InterruptedRun):
            yield


def emlc_in_float64(settings: Settings, *, image: bool = False) -> EMLC:
    """EMLC in float64, ready for a step; a noise-aware teacher has seen unequal classes."""
    method = EMLC(settings, samples(image=image).inputs, 3)
    for network in method.networks().values():
        network.double()
    method.setup(ALONE)
    if settings.teacher == "noise-aware":
        labels = torch.tensor([0, 0, 1, 2, 2, 2])
        method.teacher.count(labels, labels)
        method.teacher.observe(torch.tensor([0.6, 0.3, 0.1]))
    method.train_mode()
    return method
