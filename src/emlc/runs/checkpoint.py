"""Checkpoints: all that a run needs to resume with the same result as if it had not been interrupted.

A checkpoint holds tensors, numbers and strings only, and is read with ``weights_only=True``: loading
it runs no code.
"""

import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from emlc.errors import InputError
from emlc.runtime.files import atomic_write, disk_errors
from emlc.runtime.tensors import load_tensors, save_tensors


class Trained(Protocol):
    """What a checkpoint holds: networks, optimisers and per-sample tensors by name, and decisions."""

    decisions: dict[str, str]

    def networks(self) -> dict[str, nn.Module]: ...
    def optimizers(self) -> dict[str, torch.optim.Optimizer]: ...
    def sample_state(self) -> dict[str, Tensor]: ...


@dataclass
class Progress:
    """The position of a run in its training.

    Attributes:
        epoch: Number of finished epochs.
        noisy_batches: Number of noisy batches used in the current epoch.
        steps: Number of steps taken over all epochs; also the number of trusted batches used.
        epoch_steps: Number of steps taken in the current epoch.
        losses: The losses of all steps so far, by name.
        seconds: Training time so far.
        history: The metrics of every finished epoch.
        threads: Number of threads that torch computed with on the CPU.
    """

    epoch: int = 0
    noisy_batches: int = 0
    steps: int = 0
    epoch_steps: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    threads: int | None = None

    @property
    def losses_read(self) -> int:
        """Number of steps, over all epochs, whose losses have been read."""
        return max(map(len, self.losses.values()), default=0)

    def mean_losses(self) -> dict[str, float]:
        """Return the mean losses over the current epoch's steps whose losses have been read."""
        read = self.epoch_steps - (self.steps - self.losses_read)
        return {name: sum(losses[-read:]) / read for name, losses in self.losses.items() if read > 0}


CHECKPOINT = "checkpoint.pt"
BEFORE = "checkpoint.before.pt"
"""Names of the latest checkpoint of a run, and of the one before it."""
INITIAL = "initial"
"""Name of the folder with the student's backbone before training, in runs that need it at their end."""


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint to resume from: the latest or, if that is gone, the one before; None without."""
    return next((folder / name for name in (CHECKPOINT, BEFORE) if (folder / name).exists()), None)


def save_checkpoint(folder: Path, method: Trained, progress: Progress) -> None:
    """Write networks, optimisers and position, atomically, and keep the checkpoint before.

    No random states are saved: all draws are functions of the seed and the position, and so are learning
    rates. Options of the optimisers are not saved either: they follow from the settings and the device.
    """
    state = {
        "networks": {name: network.state_dict() for name, network in method.networks().items()},
        "optimizers": {name: o.state_dict()["state"] for name, o in method.optimizers().items()},
        "sample_state": method.sample_state(),
        "decisions": method.decisions,
        "progress": asdict(progress),
    }
    path = folder / CHECKPOINT
    with atomic_write(path) as temporary:
        with disk_errors(path, RuntimeError):
            torch.save(state, temporary)
        if path.exists():  # a process that is killed after this line leaves the one before
            path.replace(folder / BEFORE)


def load_checkpoint(path: Path, method: Trained) -> Progress:
    """Restore a run in place from :func:`save_checkpoint` and return its position.

    Raises:
        InputError: the file is damaged, or not a checkpoint of this method and these networks.
    """
    try:
        _check_sums(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        for name, network in method.networks().items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in method.optimizers().items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state["optimizers"][name], "param_groups": groups})
        for name, table in method.sample_state().items():
            table.copy_(_same_shape(state["sample_state"][name], table, name))
        method.decisions.update(state["decisions"])
        return Progress(**state["progress"])
    except Exception as error:
        has_other = path.name == CHECKPOINT and path.with_name(BEFORE).exists()
        then = f"goes on from the checkpoint before, {BEFORE}" if has_other else "starts anew"
        raise InputError(
            f"{path}: not a checkpoint of this run: {error}; without that file, --resume {then}"
        ) from error


def _check_sums(path: Path) -> None:
    """Compare all parts of a checkpoint with the checksums in it: torch does not."""
    with zipfile.ZipFile(path) as file:
        if (part := file.testzip()) is not None:
            raise ValueError(f"it was damaged after it was written: the checksum of {part} differs")


def _same_shape(stored: Tensor, table: Tensor, name: str) -> Tensor:
    if stored.shape != table.shape:
        raise ValueError(f"{name} has shape {tuple(stored.shape)}, expected {tuple(table.shape)}")
    return stored


NetworkWeights = dict[str, dict[str, Tensor]]
"""The tensors of each network: by the network's name, then by the tensor's."""


def copy_weights(networks: dict[str, nn.Module]) -> NetworkWeights:
    """Copy the networks' current weights, contiguous, to the CPU."""
    return {
        name: {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in network.state_dict().items()
        }
        for name, network in networks.items()
    }


def save_weights(folder: Path, weights: NetworkWeights) -> None:
    """Write each network's weights to ``folder/NAME.safetensors``, each atomically."""
    for name, tensors in weights.items():
        save_tensors(folder / f"{name}.safetensors", tensors)


def save_networks(folder: Path, networks: dict[str, nn.Module]) -> None:
    """Write the networks' current weights with :func:`save_weights`."""
    save_weights(folder, copy_weights(networks))


def load_networks(folder: Path, networks: dict[str, nn.Module]) -> None:
    """Load the weights that :func:`save_weights` wrote into the networks; every tensor must fit.

    Raises:
        InputError: a file is missing, damaged, or holds other tensors than the network has.
    """
    for name, network in networks.items():
        path = folder / f"{name}.safetensors"
        try:
            network.load_state_dict(load_tensors(path))
        except Exception as error:
            raise InputError(
                f"{path}: not the weights of this {name}: {error}; --weights chosen and --weights last use "
                "those of the chosen and of the last epoch"
            ) from error
