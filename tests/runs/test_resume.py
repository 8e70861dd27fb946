"""A run that is killed and resumed, again and again, ends with the very bits of one that was left alone."""

import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import several
import tiny
from emlc.cli import main
from emlc.methods.emlc import EMLC
from emlc.runs import plots

# 140 noisy samples in 9 batches: 5 teacher steps an epoch, the last one with a single batch.
ARGUMENTS = [
    *("train", "digits", "--trusted_per_class", "3", "--noise", "symmetric", "--noise_rate", "0.4"),
    *("--noisy_limit", "140", "--noisy_batch", "16", "--trusted_batch", "8", "--look_ahead", "2"),
    *("--width", "2", "--learning_rate", "0.1"),
    *("--noisy_augmentation", "[crop]", "--trusted_augmentation", "[crop, flip]"),
    *("--epochs", "3", "--checkpoint_every", "3", "--device", "cpu"),
]
CONSTANT = ["--schedule", "constant"]
COSINE = ["--schedule", "cosine", "--meta_gradient", "exact", "--nesterov", "true", "--warm_up_epochs", "1"]

# Where the lives of a run end, one after another: before its n-th step, or before or after the n-th time
# that a file is renamed to its name.
LIVES = [
    ("step", "", 2),  # before there is a checkpoint
    ("step", "", 5),  # in the first epoch, after the checkpoint of step 3
    ("before", "chosen/teacher.safetensors", 1),  # the chosen student is written, its teacher is not
    ("after", "metrics.csv", 1),  # the epoch is told, but not saved
    ("after", "checkpoint.pt", 1),  # between two epochs
    ("before", "checkpoint.pt", 2),  # with the checkpoint of step 9 written, but not in place
    ("step", "", 6),  # in the third epoch
    ("after", "checkpoint.pt", 2),  # the last step is saved, its epoch is not finished
    ("before", "checkpoint.pt", 1),  # the last epoch is told, but not saved
    ("after", "checkpoint.pt", 1),  # everything is saved, no result is written
    ("before", "last/teacher.safetensors", 1),
    ("before", "labels.csv", 1),
    ("before", "summary.json", 1),
]
FEW_LIVES = [("step", "", 5), ("after", "checkpoint.pt", 1), ("step", "", 4)]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def live(argv: list[str], event: str = "", name: str = "", n: int = 0) -> None:
    """In a process of its own: run a command, and die at an event."""
    torch.set_num_threads(1)
    plots.save = lambda *_: None  # they take longer than everything else together
    multiprocessing.set_start_method("fork", force=True)  # as usual, for the loading processes
    count = 0

    def happens() -> bool:
        nonlocal count
        count += 1
        return count == n

    step, rename = EMLC.step, Path.replace

    def deadly_step(*arguments):
        if happens():
            die()
        return step(*arguments)

    def deadly_rename(temporary: Path, path: Path):
        deadly = path.as_posix().endswith(name) and happens()
        if deadly and event == "before":
            die()
        rename(temporary, path)
        if deadly:
            die()

    if event == "step":
        EMLC.step = deadly_step
    elif event:
        Path.replace = deadly_rename
    sys.exit(main(argv))


@pytest.fixture(scope="module")
def start():
    """Start ``live`` in a process forked off one that has imported torch."""
    context = several.context()

    def run(*arguments):
        process = context.Process(target=live, args=arguments)
        process.start()
        return process

    return run


@pytest.fixture(scope="module")
def spawn(start):
    """Run ``live`` in such a process, and return its exit status."""

    def run(*arguments) -> int | None:
        process = start(*arguments)
        process.join(timeout=100)
        assert process.exitcode is not None
        return process.exitcode

    return run


@pytest.fixture(scope="module")
def whole(spawn, tmp_path_factory):
    """The directory of an uninterrupted run with more arguments, trained once for each."""
    folders = {}

    def make(*more: str) -> Path:
        if more not in folders:
            folders[more] = tmp_path_factory.mktemp("whole") / "run"
            assert spawn([*ARGUMENTS, *more, "--output", str(folders[more])]) == 0
        return folders[more]

    return make


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole(*CONSTANT), tmp_path / "copy")


@pytest.fixture
def unfinished(copy):
    (copy / "summary.json").unlink()
    return copy


def assert_same_run(folder: Path, other: Path) -> None:
    for which in ("chosen", "last"):
        for network in ("student", "teacher"):
            tensors = (load_file(f / which / f"{network}.safetensors") for f in (folder, other))
            assert tiny.same_tensors(*tensors), f"{which} {network}"
    for name in ("steps.csv", "labels.csv", "split.csv"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    metrics, expected = (pd.read_csv(f / "metrics.csv").drop(columns="seconds") for f in (folder, other))
    pd.testing.assert_frame_equal(metrics, expected, check_exact=True)


@pytest.mark.parametrize(
    ("more", "lives"), [(CONSTANT, LIVES), (COSINE, FEW_LIVES)], ids=["constant", "cosine"]
)
def test_a_run_killed_at_every_kind_of_moment_ends_with_the_same_bits(spawn, whole, tmp_path, more, lives):
    argv = [*ARGUMENTS, *more, "--output", str(tmp_path / "run"), "--resume"]
    for life in lives:
        assert spawn(argv, *life) == -signal.SIGKILL, life
        assert not (tmp_path / "run/summary.json").exists()
    assert spawn(argv) == 0
    assert_same_run(tmp_path / "run", whole(*more))


def test_a_process_killed_from_outside_and_resumed(start, spawn, whole, tmp_path):
    argv = [*ARGUMENTS, *CONSTANT, "--output", str(tmp_path / "run")]
    process = start([*argv, "--checkpoint_every", "1"])
    while not (tmp_path / "run/checkpoint.pt").exists() and process.is_alive():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert spawn([*argv, "--resume"]) == 0  # with another checkpoint_every, which makes no difference
    assert_same_run(tmp_path / "run", whole(*CONSTANT))


def test_resuming_a_finished_run_touches_nothing_and_says_so(copy, capsys):
    def files():
        return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in copy.rglob("*")}

    before = files()
    assert main([*ARGUMENTS, *CONSTANT, "--output", str(copy), "--resume", "--workers", "1"]) == 0
    assert files() == before
    assert f"{copy} is finished, and is left as it is" in capsys.readouterr().err


def test_a_terminated_run_says_how_to_go_on_and_does(tmp_path, capsys, monkeypatch):
    assert main([*ARGUMENTS, *CONSTANT, "--output", str(tmp_path / "whole")]) == 0
    argv = [*ARGUMENTS, *CONSTANT, "--output", str(tmp_path / "run")]
    save, saved, before = torch.save, [], signal.getsignal(signal.SIGTERM)

    def interrupted_save(*arguments):
        save(*arguments)
        saved.append(1)
        if len(saved) == 3:  # while a temporary file is there
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(torch, "save", interrupted_save)
    assert main(argv) == 143
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("emlc: ")]
    assert told == ["emlc: terminated; `emlc train ... --resume` goes on from the last checkpoint"]
    assert not list((tmp_path / "run").rglob(".*"))
    assert signal.getsignal(signal.SIGTERM) == before
    assert main([*argv, "--resume"]) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_flipped_bit_in_a_checkpoint_is_told_and_the_one_before_leads_to_the_same_end(
    spawn, whole, tmp_path, capsys
):
    argv = [*ARGUMENTS, *CONSTANT, "--output", str(tmp_path / "run"), "--resume"]
    assert spawn(argv, "after", "/checkpoint.pt", 3) == -signal.SIGKILL
    path = tmp_path / "run/checkpoint.pt"
    teacher = torch.load(path, weights_only=True)["networks"]["teacher"]
    weights = teacher["noisy_head.weight"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weights) + 3] ^= 1
    path.write_bytes(content)
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert f"{path}: not a checkpoint of this run: it was damaged after it was written" in err
    assert "without that file, --resume goes on from the checkpoint before, checkpoint.before.pt" in err
    path.unlink()
    assert spawn(argv) == 0
    assert_same_run(tmp_path / "run", whole(*CONSTANT))


@pytest.mark.parametrize("which", ["chosen", "last"])
def test_a_flipped_bit_in_the_weights_is_told(copy, capsys, which):
    path = copy / which / "student.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    assert main(["predict", str(copy), "digits", "--weights", which]) == 2
    message = f"{path}: not the weights of this student: damaged after it was written"
    assert message in capsys.readouterr().err
    other = {"chosen": "last", "last": "chosen"}[which]
    assert main(["predict", str(copy), "digits", "--weights", other]) == 0


def test_loading_processes_may_change_on_the_way(spawn, whole, tmp_path):
    argv = [*ARGUMENTS, *CONSTANT, "--output", str(tmp_path / "run"), "--resume"]
    assert spawn(argv, "step", "", 8) == -signal.SIGKILL
    assert spawn([*argv, "--workers", "2"]) == 0
    assert_same_run(tmp_path / "run", whole(*CONSTANT))


# What is refused


def refused(argv, folder, capsys):
    """The message of a command that must end with exit status 2 and leave a folder as it was."""

    def contents():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents()
    assert main([*argv, "--output", str(folder)]) == 2
    assert contents() == before
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()[-1].removeprefix("emlc: error: ")


def test_a_run_that_exists_is_not_overwritten(copy, capsys):
    message = refused([*ARGUMENTS, *CONSTANT], copy, capsys)
    assert message == f"output: {copy} holds a run already; --resume goes on with it, --output names another"


def test_changed_settings_are_named(copy, capsys):
    changes = ["--epochs", "4", "--schedule", "cosine", "--resume"]
    message = refused([*ARGUMENTS, *changes], copy, capsys)
    assert "epochs was 3, now 4" in message
    assert "schedule was 'constant', now 'cosine'" in message
    assert "width" not in message


def test_changed_data_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = tiny.samples(prefix="")
    table = pd.DataFrame(data.inputs.numpy()).assign(label=data.labels, true=data.true_labels)
    table.to_csv("data.csv", index=False)
    argv = ["train", "data.csv", "--trusted_per_class", "4", "--true_label_column", "true", "--epochs", "1"]
    assert main([*argv, "--output", "run"]) == 0
    table.assign(label=(table["label"] + 1) % 3).to_csv("data.csv", index=False)
    message = refused([*argv, "--resume"], Path("run"), capsys)
    assert "split.csv: the data, settings or seed have changed since this run began" in message


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the file was run')",)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", pickle.dumps(Harmful())], ids=["empty", "garbage", "pickle"]
)
def test_a_broken_checkpoint(unfinished, capsys, content):
    (unfinished / "checkpoint.pt").write_bytes(content)
    assert main([*ARGUMENTS, *CONSTANT, "--output", str(unfinished), "--resume"]) == 2
    err = capsys.readouterr().err
    assert f"emlc: error: {unfinished}/checkpoint.pt: not a checkpoint of this run: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize("cut", [0.5, 0.99])
def test_half_a_checkpoint(unfinished, capsys, cut):
    content = (unfinished / "checkpoint.pt").read_bytes()
    (unfinished / "checkpoint.pt").write_bytes(content[: int(cut * len(content))])
    assert main([*ARGUMENTS, *CONSTANT, "--output", str(unfinished), "--resume"]) == 2
    assert "checkpoint.pt: not a checkpoint of this run" in capsys.readouterr().err


def test_a_checkpoint_of_other_networks(unfinished, capsys):
    path = unfinished / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["networks"]["teacher"]["noisy_head.weight"]
    torch.save(state, path)
    assert main([*ARGUMENTS, *CONSTANT, "--output", str(unfinished), "--resume"]) == 2
    assert "noisy_head.weight" in capsys.readouterr().err


def test_a_checkpoint_holds_the_whole_teacher_both_optimisers_and_the_position(whole):
    state = torch.load(whole(*CONSTANT) / "checkpoint.pt", weights_only=True)
    assert {"transition_logits", "noisy_head.weight"} <= state["networks"]["teacher"].keys()
    for optimizer in ("student", "teacher"):
        assert state["optimizers"][optimizer][0]["momentum_buffer"].norm() > 0
    assert state["progress"]["steps"] == 15
    assert state["progress"]["epoch"] == 3
