"""Reporters of a run's progress: a progress bar, metrics.csv and TensorBoard."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emlc.runs.checkpoint import Progress as RunProgress
from emlc.runtime.files import write_csv

_log = logging.getLogger(__name__)


class ConsoleReporter:
    """A reporter that shows a progress bar and logs one message per epoch.

    The bar, with samples per second, losses and time left, is shown on a terminal only.

    Args:
        title: Text before each line, such as the method's name.
        samples_per_step: Noisy samples per teacher step, for the samples per second.
        epochs: Total number of epochs.
        console: Console that shows the bar; it may be quiet.
        noisy_test: Whether the labels of the test set are as noisy as the others.
    """

    def __init__(
        self, title: str, samples_per_step: int, epochs: int, console: Console, noisy_test: bool = False
    ) -> None:
        self._title = title
        self._noisy_test = noisy_test
        self._samples_per_step = samples_per_step
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[losses]}"),
            console=console,
            disable=console.quiet or not console.is_terminal,
            transient=True,
        )

    def on_start(self, progress: RunProgress, steps_per_epoch: int) -> None:
        self._first_step = progress.steps
        self._first_seconds = progress.seconds
        self._losses_at: tuple[int, int] | None = None
        self._task = self._bar.add_task(
            self._title, total=self._epochs * steps_per_epoch, completed=progress.steps, rate="", losses=""
        )
        self._bar.start()

    def on_step(self, progress: RunProgress) -> None:
        if self._bar.disable:
            return
        seconds = progress.seconds - self._first_seconds
        rate = (progress.steps - self._first_step) * self._samples_per_step / max(seconds, 1e-9)
        self._bar.update(self._task, completed=progress.steps, rate=f"{rate:,.0f}/s")
        # The means are over all steps of the epoch, and change only where further losses have been read.
        at = progress.epoch, progress.losses_read
        if at != self._losses_at:
            self._losses_at = at
            means = progress.mean_losses().items()
            losses = " ".join(f"{_BAR_NAMES.get(name, name)} {mean:.3f}" for name, mean in means)
            self._bar.update(self._task, losses=losses)

    def on_epoch(self, progress: RunProgress) -> None:
        row = progress.history[-1]
        _log.info(f"{self._title} {describe_epoch(row, self._epochs, noisy_test=self._noisy_test)}")
        _log.debug(f"{self._title} epoch {row['epoch']:.0f}: {describe_losses(row)}")

    def close(self) -> None:
        self._bar.stop()


class RunReporter(ConsoleReporter):
    """A console reporter that also writes ``metrics.csv`` and TensorBoard events to the run directory.

    Args:
        folder: Run directory.
        arguments: Arguments of :class:`ConsoleReporter`.
    """

    def __init__(self, folder: Path, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._folder = folder

    def on_start(self, progress: RunProgress, steps_per_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

        super().on_start(progress, steps_per_epoch)
        # After a crash the event files may be ahead of the checkpoint: TensorBoard drops those events.
        self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=progress.steps + 1)

    def on_epoch(self, progress: RunProgress) -> None:
        write_metrics(self._folder / "metrics.csv", progress.history)
        for name, value in progress.history[-1].items():
            if name not in ("epoch", "steps", "warm_up", "latest_wins"):
                self._writer.add_scalar(name, value, progress.steps)
        self._writer.flush()
        super().on_epoch(progress)

    def close(self) -> None:
        super().close()
        if hasattr(self, "_writer"):
            self._writer.close()


class QuietReporter:
    """A reporter that does nothing, for all ranks but the first."""

    def on_start(self, progress: RunProgress, steps_per_epoch: int) -> None: ...
    def on_step(self, progress: RunProgress) -> None: ...
    def on_epoch(self, progress: RunProgress) -> None: ...
    def close(self) -> None: ...


def write_metrics(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the metrics as CSV, one row per epoch, atomically."""
    write_csv(path, pd.DataFrame(history))


_BAR_NAMES = {
    "student_loss": "loss",
    "teacher_ce": "ce",
    "teacher_bce": "bce",
    "teacher_nll": "nll",
    "meta_objective": "meta",
}
"""Short names of the losses, so that the progress bar fits 80 columns."""

_EPOCH_FORMATS = {
    "contrastive_loss": "loss {:.3f}",
    "knn_accuracy": "nearest neighbours {:.1f}",
    "trusted_accuracy": "trusted {:.1f} % right",
    "validation_accuracy": "validation {:.1f} % right",
    "test_accuracy": "test {:.1f} % right",
    "label_recovery": "corrected labels {:.1f} % right",
}
"""Formats of the metrics in the message of an epoch."""

_LOSS_FORMATS = {
    "student_loss": "loss {:.3f}",
    "meta_objective": "meta {:.3f}",
    "wrong_label_recovery": "wrong labels recovered {:.1f}",
    "retain_weight_right": "retain right {:.2f}",
    "retain_weight_wrong": "wrong {:.2f}",
}
"""Formats of the metrics that are logged for debugging; metrics.csv has them all."""


def describe_losses(row: dict[str, float]) -> str:
    """Format what happens inside the method in an epoch as one line."""
    return "  ".join(text.format(row[name]) for name, text in _LOSS_FORMATS.items() if name in row)


def describe_epoch(row: dict[str, float], epochs: int, *, noisy_test: bool = False) -> str:
    """Format the main metrics of an epoch as one line, with the estimated time left."""
    formats = _EPOCH_FORMATS | (
        {"test_accuracy": "test {:.1f} % like the noisy labels"} if noisy_test else {}
    )
    parts = [text.format(row[name]) for name, text in formats.items() if name in row]
    left = row["seconds"] / row["epoch"] * (epochs - row["epoch"])
    return f"epoch {row['epoch']:.0f}/{epochs}  " + "  ".join(parts) + f"  [{left:.0f} s left]"
