"""What each of two processes does in the tests of shares."""

import os
import signal
from pathlib import Path

import torch

from emlc.cli import main
from emlc.data import Samples, portions

PHOTOS = ("--image_model", "model", "--device", "cpu", "--part_rows", "4")


def run_all(folder: Path, run: Path) -> None:
    """Correct, predict and embed, one after another."""
    torch.set_num_threads(1)
    os.chdir(folder)
    for argv in commands(run, "two"):
        assert main([*argv]) == 0


def commands(run: Path, stem: str) -> list[tuple[str, ...]]:
    """Commands whose outputs have a stem."""
    on = ("--device", "cpu", "--part_rows", "8")
    return [
        ("correct", str(run), "new.npz", *on, "--true_label_column", "truth", "--output", f"{stem}.csv"),
        ("predict", str(run), "new.npz", *on, "--output", f"{stem}-predictions.csv"),
        ("predict", str(run), "few.npz", *on, "--output", f"{stem}-few.csv"),
        (
            "embed",
            "photos",
            *PHOTOS,
            "--embedding_cache",
            f"{stem}-cache",
            "--output",
            f"{stem}-photos.parquet",
        ),
    ]


def die_after(parts: int, argv: list[str]) -> None:
    """A command of which each process is killed when it has read so many parts."""
    torch.set_num_threads(1)
    read, done = portions._InBlocks.read, 0

    def deadly(self: portions._InBlocks, start: int, stop: int) -> Samples | None:
        nonlocal done
        if done == parts:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return read(self, start, stop)

    portions._InBlocks.read = deadly
    main(argv)
