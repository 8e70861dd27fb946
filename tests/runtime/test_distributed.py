"""Several processes against one: weights, metrics, and what happens when one of them dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

import joint_runs
import several
import tiny
from emlc.cli import main
from emlc.config import Settings
from emlc.runs.reporters import QuietReporter
from emlc.runs.train import train
from emlc.runtime import distributed
from emlc.runtime.distributed import RankLost, start_workers

TESTS = Path(__file__).parents[1]


def torchrun(*arguments, processes=2, **options):
    """Start processes as a user would, on gloo."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            str(processes),
            *map(str, arguments),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        **options,
    )


def test_a_worker_that_cannot_reach_the_others_says_so(monkeypatch):
    def unreachable(*_, **__):
        raise torch.distributed.DistNetworkError("connection refused")

    monkeypatch.setattr(distributed, "under_torchrun", lambda: True)
    monkeypatch.setattr(distributed, "end_with_parent", lambda: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", unreachable)
    with pytest.raises(RankLost, match="cannot be reached"), start_workers("cpu"):
        pass


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    several.in_two_processes(joint_runs.run_all, folder)
    return folder


@pytest.mark.parametrize("case", joint_runs.CASES)
def test_two_processes_train_like_one_with_the_joint_batch(case, of_two_processes, tmp_path):
    joint_runs.run(case, tmp_path, tiny.ALONE)
    assert_same_weights(tmp_path, of_two_processes / case)


def assert_same_weights(folder, other):
    for which in ("last", "chosen"):
        files = sorted((folder / which).glob("*.safetensors"))
        assert files
        for file in files:
            expected = load_file(other / which / file.name)
            for name, tensor in load_file(file).items():
                torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", joint_runs.CASES)
def test_metrics_are_those_of_all_processes(case, of_two_processes, tmp_path):
    joint_runs.run(case, tmp_path, tiny.ALONE)
    alone, joint = (
        torch.load(f / "history.pt", weights_only=True) for f in (tmp_path, of_two_processes / case)
    )
    for of_one, of_two in zip(alone, joint, strict=True):
        timeless = {name: value for name, value in of_one.items() if name != "seconds"}
        assert timeless == pytest.approx({name: of_two[name] for name in timeless}, rel=1e-6, abs=1e-6)


def test_another_number_of_processes_goes_on_with_a_run(of_two_processes, tmp_path):
    begun = shutil.copytree(of_two_processes / "interrupted", tmp_path / "begun")
    joint_runs.run("look-ahead of 5", begun, tiny.ALONE)
    assert_same_weights(begun, of_two_processes / "look-ahead of 5")


# The command line


DIGITS = ("train", "digits", "--trusted_per_class", "5", "--noise", "symmetric", "--noise_rate", "0.5")
SMALL = ("--backbone", "mlp", "--width", "8", "--device", "cpu")


def test_a_rank_that_dies_ends_the_run_which_then_goes_on(tmp_path):
    arguments = [*DIGITS, *SMALL, "--epochs", "400", "--output", str(tmp_path / "run")]
    run = start_emlc(*arguments, "--devices", "2")
    wait_for(lambda: (tmp_path / "run" / "checkpoint.pt").exists(), run)
    children = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    _, output = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "rank" in output
    assert "died (killed by signal 9)" in output
    assert "--resume goes on from its last checkpoint" in output
    assert "Traceback" not in output

    left = pd.read_csv(tmp_path / "run" / "metrics.csv")
    settings = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    again = Settings(**(settings | {"devices": 1}))
    reached = resume_until(again, epochs=len(left) + 1)
    timeless = [name for name in left if name != "seconds"]
    pd.testing.assert_frame_equal(reached[timeless].iloc[: len(left)], left[timeless])


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_ends_all_ranks_with_one_message(tmp_path, capfd, number, status, word):
    arguments = [*DIGITS, *SMALL, "--epochs", "400", "--output", str(tmp_path / "run")]

    def send():
        while not (tmp_path / "run" / "checkpoint.pt").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with several.forked_ranks(tmp_path / "logs"):
        assert main([*arguments, "--devices", "2"]) == status
    sender.join()
    logs = [*(tmp_path / "logs").rglob("stderr.log"), *(tmp_path / "logs").rglob("stdout.log")]
    assert len(logs) == 4
    messages = capfd.readouterr().err + "".join(log.read_text() for log in logs)
    told = [line for line in messages.splitlines() if line.startswith("emlc: ")]
    assert told == [f"emlc: {word}; `emlc train ... --resume` goes on from the last checkpoint"]
    assert "Traceback" not in messages
    assert not list((tmp_path / "run").rglob(".*"))


def test_bad_input_is_reported_once(tmp_path, capfd):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    arguments = [str(tmp_path / "data.csv"), "--trusted_per_class", "5", "--output", str(tmp_path / "run")]
    with several.forked_ranks(tmp_path / "logs"):
        assert main(["train", *arguments, "--devices", "2", "--device", "cpu"]) == 2
    logs = [*(tmp_path / "logs").rglob("stderr.log"), *(tmp_path / "logs").rglob("stdout.log")]
    assert len(logs) == 4
    messages = capfd.readouterr().err + "".join(log.read_text() for log in logs)
    assert messages.count("no column 'label'") == 1
    assert "Traceback" not in messages


def test_two_nodes_find_each_other(tmp_path):
    # Two torchrun agents, as on two machines; on one machine they differ in their ports only.
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = [*DIGITS, *SMALL, "--epochs", "2", "--output", tmp_path / "run"]
    nodes = [
        torchrun(
            *("--nnodes=2", f"--node_rank={node}", "--rdzv_backend=c10d", "--rdzv_id=emlc"),
            *(f"--rdzv_endpoint=localhost:{port}", "-m", "emlc", *arguments),
            processes=1,
            stdout=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    outputs = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0]
    assert sorted("run: " in text for text in outputs) == [False, True]  # one of them reports
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["processes"] == 2


def start_emlc(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "emlc", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.1)


def resume_until(settings, epochs):
    """The metrics of a resumed run, stopped after some epochs."""

    class Enough(Exception):
        pass

    class Stopping(QuietReporter):
        def on_epoch(self, progress):
            if progress.epoch >= epochs:
                raise Enough(progress.history)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emlc.runs.train.RunReporter", lambda *_: Stopping())
        with pytest.raises(Enough) as stopped:
            train(settings, resume=True, console=Console(quiet=True))
    return pd.DataFrame(stopped.value.args[0])
