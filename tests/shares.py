"""What each of two processes does in the tests of shares."""

import os
import signal
from pathlib import Path

import torch

from emlc.cli import main
from emlc.data import Samples
from emlc.data.rows_on_disk import RowsOnDisk

ON = ("--device", "cpu", "--part_rows", "8")
COMMANDS = {
    "correct": ("run", "new.npz", *ON, "--true_label_column", "truth"),
    "predict": ("run", "few.npz", *ON),  # one part, for two processes
    "embed": ("photos", *ON, "--image_model", "model"),
}


def work(folder: Path, *argv: str) -> None:
    """What each rank does: a command in a folder."""
    torch.set_num_threads(1)
    os.chdir(folder)
    assert main([*argv]) == 0


def die_after(parts: int, argv: list[str]) -> None:
    """A command of which each process is killed when it has read so many parts."""
    torch.set_num_threads(1)
    read, done = RowsOnDisk.read, 0

    def deadly(self: RowsOnDisk, start: int, stop: int) -> Samples | None:
        nonlocal done
        if done == parts:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return read(self, start, stop)

    RowsOnDisk.read = deadly
    main(argv)
