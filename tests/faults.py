"""Kills at every rename that a command makes: repeated, it ends with the bits of one that was left alone.

``make faults`` runs all of it, in some minutes; the tests of ``runs/test_resume.py`` are part of every run.
"""

import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import several
from emlc.cli import main
from emlc.exports import TARGETS
from image_models import save_model, save_photos

DATA = ("digits", "--noisy_limit", "60", "--width", "2", "--device", "cpu")
TRAIN = (*DATA, "--trusted_per_class", "3", "--noise", "symmetric", "--noise_rate", "0.4", "--epochs", "2")
TRAIN += ("--noisy_batch", "16", "--trusted_batch", "8", "--checkpoint_every", "2", "--output", "run")
PRETRAIN = (*DATA, "--epochs", "2", "--batch", "32", "--checkpoint_every", "1", "--output", "backbone")
EMBED = ("--image_model", "model", "--embedding_cache", "cache", "--device", "cpu", "--output", "e.parquet")

AGAIN = {
    "train": ("train", *TRAIN, "--resume"),
    "pretrain": ("pretrain", *PRETRAIN, "--resume"),
    "report": ("report", "run", "--samples", "5", "--map_samples", "0"),
    "correct": ("correct", "run"),
    "evaluate": ("evaluate", "run"),
    "predict": ("predict", "run", "digits"),
    "apply": ("apply", "run", "decisions.csv"),
    **{f"export {target}": ("export", "run", "--to", target) for target in TARGETS if target != "onnx"},
    "draw": ("draw", "digits", "--number", "5"),
    "embed": ("embed", "photos", *EMBED),
    "resume": ("train", *TRAIN, "--resume"),
}
"""Commands that are killed, as they are repeated."""

_TIMES = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d\+00:00| UTC)")


def live(argv: tuple[str, ...], folder: str, moment: str, n: int) -> None:
    """In a process of its own: run a command, and die before or after its n-th rename.

    Where it does not die, the number of its renames is written beside the folder.
    """
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    os.chdir(folder)
    time.perf_counter = lambda: 0.0  # no two runs take the same time
    count, replace = 0, os.replace

    def deadly(source, target, **options):
        nonlocal count
        count += 1
        if (moment, count) == ("before", n):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target, **options)
        if (moment, count) == ("after", n):
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = deadly
    status = main(list(argv))
    Path(f"{folder}.renames").write_text(str(count))
    sys.exit(status)


def spawn(argv: tuple[str, ...], folder: Path, moment: str = "", n: int = 0) -> int | None:
    process = several.context().Process(target=live, args=(argv, str(folder), moment, n))
    process.start()
    process.join(timeout=300)
    return process.exitcode


def contents(folder: Path) -> dict[str, object]:
    """All that must be the same: not dates, events of TensorBoard, and what a kill has left beside."""
    files = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    return {
        name: _comparable(path)
        for name, path in files.items()
        if not re.search(r"tensorboard/|(^|/)\.(writing-|lock)", name)
    }


def _comparable(path: Path) -> object:
    if path.suffix == ".pt":  # the name of the temporary file is in it
        return repr(_values(torch.load(path, weights_only=True)))
    return _TIMES.sub(b"", path.read_bytes())


def _values(value: object) -> object:
    if isinstance(value, dict):
        return {key: _values(each) for key, each in value.items()}
    return value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run and decisions on its labels."""
    folder = tmp_path_factory.mktemp("finished") / "work"
    folder.mkdir()
    assert spawn(("train", *TRAIN), folder) == 0
    labels = pd.read_csv(folder / "run/labels.csv", dtype=str)[:4]
    decisions = labels.assign(decision="keep", label=labels["given_label"])
    decisions = decisions.rename(columns={"corrected_label": "suggested_label"})
    decisions = decisions[["id", "decision", "label", "given_label", "suggested_label"]]
    decisions.to_csv(folder / "decisions.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A folder with a run that was killed in the middle."""
    folder = tmp_path_factory.mktemp("interrupted") / "work"
    folder.mkdir()
    assert spawn(("train", *TRAIN), folder, "after", 9) == -signal.SIGKILL
    return folder


@pytest.fixture(scope="module")
def photographed(tmp_path_factory):
    """A folder with photos, and a network that embeds them."""
    folder = tmp_path_factory.mktemp("photographed") / "work"
    save_model(folder / "model")
    save_photos(folder / "photos", 9)
    return folder


@pytest.mark.parametrize("command", AGAIN)
def test_a_command_that_is_killed_at_any_rename_ends_with_the_same_bits(command, request, tmp_path):
    again = AGAIN[command]
    begun = {"train": None, "pretrain": None, "draw": None, "resume": "interrupted", "embed": "photographed"}
    fixture = begun.get(command, "finished")
    start = None if fixture is None else request.getfixturevalue(fixture)

    def fresh() -> Path:  # always at the same place, as paths are written, too
        folder = tmp_path / "work"
        shutil.rmtree(folder, ignore_errors=True)
        if start is None:
            folder.mkdir()
            return folder
        return shutil.copytree(start, folder)

    whole = fresh()
    assert spawn(again, whole) == 0
    expected, renames = contents(whole), int(Path(f"{whole}.renames").read_text())
    assert renames > 0
    for n in range(1, renames + 1):
        for moment in ("before", "after"):
            folder = fresh()
            assert spawn(again, folder, moment, n) == -signal.SIGKILL, (moment, n)
            # A command that writes a folder refuses one that is complete.
            complete = contents(folder) == expected
            assert spawn(again, folder) in ((0, 2) if complete else (0,)), (moment, n)
            assert contents(folder) == expected, (moment, n)
    print(f"{command}: {2 * renames} kills at {renames} renames")
