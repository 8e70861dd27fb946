"""Commands whose work several processes share, against one process."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch.distributed.run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

import several
import shares
import tiny
from emlc.cli import main
from image_models import save_model, save_photos

X = np.random.default_rng(1).normal(size=(50, 4))
LABELS = np.array(tiny.CLASSES)[np.arange(50) % 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data and a run."""
    folder = tmp_path_factory.mktemp("shares")
    tiny.trained(folder / "run")
    np.savez(folder / "new.npz", X=X, y=LABELS, truth=np.roll(LABELS, 1))
    np.savez(folder / "few.npz", X=X[:3], y=LABELS[:3])
    save_model(folder / "model")
    save_photos(folder / "photos", 18)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("command", shares.COMMANDS)
def test_two_processes_write_what_one_writes(command, here, tmp_path):
    argv = (command, *shares.COMMANDS[command])
    ending = ".parquet" if command == "embed" else ".csv"
    outputs = [tmp_path / name / f"out{ending}" for name in ("one", "two")]
    cached = [["--embedding_cache", str(path.parent)] if command == "embed" else [] for path in outputs]
    assert main([*argv, "--output", str(outputs[0]), *cached[0]]) == 0
    several.in_two_processes(shares.work, here, *argv, "--output", str(outputs[1]), *cached[1])
    names = {"correct": ["out-quality.json", "out.csv", "out.parquet"]}.get(command, [f"out{ending}"])
    for name in names:
        assert (outputs[1].with_name(name)).read_bytes() == (outputs[0].with_name(name)).read_bytes()
    assert not list(outputs[1].parent.glob("*.parts"))


def in_two_processes(logs, *argv):
    """The messages of two processes of a command that fails, and the status of the first that ended."""
    with several.forked_ranks(logs), pytest.raises(ChildFailedError) as failed:
        torch.distributed.run.main(["--nproc_per_node", "2", "-m", "emlc", *map(str, argv)])
    _, failure = failed.value.get_first_failure()
    told = "".join(path.read_text() for path in sorted(logs.rglob("std*.log")))
    assert "Traceback" not in told
    return re.findall(r"^emlc: .*", told, flags=re.MULTILINE), failure.exitcode


def test_bad_input_in_one_share_ends_all_with_one_message(here, tmp_path):
    inputs = X.copy()
    inputs[45, 2] = np.nan
    np.savez(tmp_path / "bad.npz", X=inputs, y=LABELS)
    started = time.monotonic()
    argv = (
        "predict",
        here / "run",
        tmp_path / "bad.npz",
        "--part_rows",
        "8",
        "--output",
        tmp_path / "out.csv",
    )
    messages, status = in_two_processes(tmp_path / "logs", *argv)
    assert time.monotonic() - started < 60
    assert status == 2
    (message,) = messages
    assert "bad.npz, counted from row 40: row 5 (id '45'), column 2: expected a finite number" in message
    assert not (tmp_path / "out.csv").exists()
    assert not (tmp_path / "out.csv.parts" / "part-00005-of-00007.json").exists()


def test_one_process_goes_on_where_two_were_killed(here, tmp_path):
    argv = ["predict", str(here / "run"), "new.npz", "--part_rows", "8", "--device", "cpu", "--output"]
    with pytest.raises(ChildFailedError):
        several.in_two_processes(shares.die_after, 2, [*argv, str(tmp_path / "out.csv")])
    done = len([*(tmp_path / "out.csv.parts").glob("part-*.json")])
    assert 2 <= done < 7
    assert main([*argv, str(tmp_path / "out.csv")]) == 0
    assert main([*argv, str(tmp_path / "fresh.csv")]) == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "fresh.csv").read_bytes()
    assert not Path(f"{tmp_path / 'out.csv'}.parts").exists()
