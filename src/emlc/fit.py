"""Algorithm 1: the one training loop. What happens in a step is the method's affair."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from emlc.checkpoint import Progress, load_checkpoint, save_checkpoint, save_networks
from emlc.config import Settings
from emlc.data import Split
from emlc.data.augment import Augment, default_augmentations
from emlc.data.loaders import Batch, Stream
from emlc.errors import InputError
from emlc.methods import Method
from emlc.metrics import epoch_metrics

_NOISY_STREAM, _TRUSTED_STREAM = 1, 2
"""Numbers that keep the random orders of the two sets apart."""


class Reporter(Protocol):
    """What the loop tells the outside."""

    def on_start(self, progress: Progress, steps_per_epoch: int) -> None: ...
    def on_step(self, progress: Progress) -> None: ...
    def on_note(self, note: str) -> None: ...
    def on_epoch(self, progress: Progress) -> None: ...


def fit(
    method: Method,
    split: Split,
    settings: Settings,
    reporter: Reporter,
    folder: Path,
    device: torch.device,
) -> list[dict[str, float]]:
    """Train a method on a split, from its latest checkpoint in ``folder`` if there is one.

    Writes ``checkpoint.pt`` and the weights ``chosen/*.safetensors`` (best on the validation set, or
    without one on the trusted set) and ``last/*.safetensors``.

    Returns:
        The metrics of every epoch.
    """
    method.prepare(device)
    noisy, trusted = _streams(split, settings)
    steps_per_epoch = math.ceil(noisy.num_batches() / method.look_ahead)
    schedule = _Schedule(method, settings, steps_per_epoch)
    checkpoint = folder / "checkpoint.pt"
    progress = load_checkpoint(checkpoint, method, device) if checkpoint.exists() else Progress()
    trusted_batches = trusted.cycle(start=progress.steps) if method.uses_trusted else itertools.repeat(None)

    reporter.on_start(progress, steps_per_epoch)
    while progress.epoch < settings.epochs:
        method.train_mode()
        method.epoch = progress.epoch
        if progress.noisy_batches == 0:
            method.start_epoch()
        clock = time.perf_counter()
        for group in _look_ahead_groups(noisy, method, progress, steps_per_epoch):
            schedule.apply(progress.steps)
            batch = next(trusted_batches)
            losses = method.step([b.to(device) for b in group], None if batch is None else batch.to(device))
            clock = _advance(progress, losses, method.look_ahead, clock)
            while method.notes:
                reporter.on_note(method.notes.pop(0))
            reporter.on_step(progress)
            if settings.checkpoint_every and progress.steps % settings.checkpoint_every == 0:
                save_checkpoint(checkpoint, method, progress, device)
        _finish_epoch(progress, method, split, schedule)
        if chosen_epoch(progress.history) == progress.epoch:
            save_networks(folder / "chosen", method.networks())
        # Told before it is saved: a run killed in between tells the epoch again, and never leaves it out.
        reporter.on_epoch(progress)
        save_checkpoint(checkpoint, method, progress, device)
    save_networks(folder / "last", method.networks())
    return progress.history


def chosen_epoch(history: Sequence[dict[str, float]]) -> int:
    """The epoch (from 1) with the best accuracy on the choosing set; a tie goes to the lower loss.

    Warm-up epochs are no candidates; 0 if there are only such.
    """
    candidates = [row for row in history if not row.get("warm_up")]
    best = max(
        candidates, key=lambda row: (row["choice_accuracy"], -row["choice_loss"]), default={"epoch": 0}
    )
    return int(best["epoch"])


def pick_device(name: str) -> torch.device:
    """The torch device that a setting names; ``auto`` is CUDA where there is one.

    Raises:
        InputError: no such kind of device, or CUDA is asked for and absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device: {name} was asked for, but torch {torch.__version__} finds no CUDA device")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"device: {name} was asked for, but there are {count} CUDA devices")
    return device


def _streams(split: Split, settings: Settings) -> tuple[Stream, Stream]:
    noisy_default, trusted_default = default_augmentations(split.noisy.inputs)
    streams = []
    for samples, names, default, batch_size, number in (
        (split.noisy, settings.noisy_augmentation, noisy_default, settings.noisy_batch, _NOISY_STREAM),
        (
            split.trusted,
            settings.trusted_augmentation,
            trusted_default,
            settings.trusted_batch,
            _TRUSTED_STREAM,
        ),
    ):
        names = default if names is None else names
        augment = Augment(names, (samples.inputs.shape[2], samples.inputs.shape[3])) if names else None
        streams.append(Stream(samples, augment, batch_size, (settings.seed, number), settings.workers))
    return streams[0], streams[1]


def _look_ahead_groups(
    noisy: Stream, method: Method, progress: Progress, steps_per_epoch: int
) -> Iterator[list[Batch]]:
    """The rest of the epoch in groups of k noisy batches; what is left over is a shorter look-ahead."""
    k = method.look_ahead
    if not method.uses_noisy:
        yield from ([] for _ in range(progress.noisy_batches // k, steps_per_epoch))
        return
    batches = noisy.epoch(progress.epoch, start=progress.noisy_batches)
    while group := list(itertools.islice(batches, k)):
        yield group


def _advance(progress: Progress, losses: dict[str, torch.Tensor], k: int, clock: float) -> float:
    progress.steps += 1
    progress.epoch_steps += 1
    progress.noisy_batches += k
    for name, loss in losses.items():
        progress.losses.setdefault(name, []).append(loss.item())
    now = time.perf_counter()
    progress.seconds += now - clock
    return now


def _finish_epoch(progress: Progress, method: Method, split: Split, schedule: "_Schedule") -> None:
    progress.epoch += 1
    losses = progress.mean_losses()
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"{name} is not finite in epoch {progress.epoch}: lower learning_rate or meta_weight"
            )
    progress.history.append(
        {
            "epoch": progress.epoch,
            "steps": progress.steps,
            "warm_up": float(method.warming_up),
            "learning_rate": schedule.learning_rate,
            "seconds": round(progress.seconds, 3),
            **losses,
            **epoch_metrics(method, split),
        }
    )
    progress.noisy_batches = progress.epoch_steps = 0


class _Schedule:
    """Learning rates as a function of the step alone, so that nothing of it needs to be saved."""

    def __init__(self, method: Method, settings: Settings, steps_per_epoch: int) -> None:
        self._optimizers = list(method.optimizers().values())
        self._initial = [optimizer.param_groups[0]["lr"] for optimizer in self._optimizers]
        self._cosine = settings.schedule == "cosine"
        self._total = settings.epochs * steps_per_epoch

    def apply(self, step: int) -> None:
        factor = (1 + math.cos(math.pi * step / self._total)) / 2 if self._cosine else 1.0
        for optimizer, initial in zip(self._optimizers, self._initial, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = initial * factor

    @property
    def learning_rate(self) -> float:
        """The student's, as last applied."""
        return float(self._optimizers[0].param_groups[0]["lr"])
