"""Outputs in parts: what is made again after a kill, and what of others' parts is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tiny
from emlc.cli import main
from emlc.data.rows_on_disk import RowsOnDisk
from emlc.runtime.locks import in_use

ARRAYS = {"X": np.random.default_rng(1).normal(size=(50, 4)), "y": np.array(tiny.CLASSES)[np.arange(50) % 3]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    tiny.trained(folder)
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A folder with new data, from which a command is given with a trained run."""
    monkeypatch.chdir(tmp_path)
    np.savez("new.npz", **ARRAYS)
    return trained


def correct(run, output, *options):
    return main(["correct", str(run), "new.npz", "--output", output, "--device", "cpu", *options])


def contents(folder, stem):
    return [(folder / f"{stem}{ending}").read_bytes() for ending in (".csv", ".parquet")]


class Killed(BaseException):
    """In place of kill -9: no block ends as it would at an error of ours."""


def kill_after(monkeypatch, count):
    """The rows of so many parts are read; then the command is gone."""
    read, done = RowsOnDisk.read, 0

    def deadly(self, start, stop):
        nonlocal done
        done += 1
        if done > count:
            raise Killed
        return read(self, start, stop)

    monkeypatch.setattr(RowsOnDisk, "read", deadly)
    return lambda: monkeypatch.setattr(RowsOnDisk, "read", read)


def rows_read(monkeypatch):
    read, starts = RowsOnDisk.read, []

    def counted(self, start, stop):
        starts.append(start)
        return read(self, start, stop)

    monkeypatch.setattr(RowsOnDisk, "read", counted)
    return starts


def test_the_size_of_the_parts_changes_no_value(run, tmp_path):
    for stem, rows in {"one": "50", "some": "7"}.items():
        assert correct(run, f"{stem}.csv", "--part_rows", rows, "--all_probabilities") == 0
    one, some = (pd.read_parquet(f"{stem}.parquet") for stem in ("one", "some"))
    assert one["id"].tolist() == [str(k) for k in range(50)]
    # Matrix products of other sizes differ in their last bits.
    pd.testing.assert_frame_equal(some, one, rtol=1e-5, check_exact=False)
    assert pd.read_csv("some.csv").columns.tolist() == one.columns.tolist()
    assert len(pd.read_csv("some.csv")) == 50
    assert not list(tmp_path.glob("*.parts"))


def test_a_command_that_is_killed_goes_on_by_part(run, tmp_path, monkeypatch):
    assert correct(run, "whole.csv", "--part_rows", "8") == 0
    alive = kill_after(monkeypatch, 4)
    with pytest.raises(Killed):
        correct(run, "again.csv", "--part_rows", "8")
    assert not (tmp_path / "again.csv").exists()
    done = sorted(path.name for path in (tmp_path / "again.csv.parts").glob("part-*.json"))
    assert done == [f"part-0000{k}-of-00007.json" for k in range(4)]
    alive()
    starts = rows_read(monkeypatch)
    assert correct(run, "again.csv", "--part_rows", "8") == 0
    assert starts == [32, 40, 48]
    assert contents(tmp_path, "again") == contents(tmp_path, "whole")
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("changed", ["data", "options", "decision", "size"])
def test_parts_of_something_else_are_made_anew(changed, run, tmp_path, monkeypatch, capfd):
    run = Path(shutil.copytree(run, "run"))
    alive = kill_after(monkeypatch, 4)
    with pytest.raises(Killed):
        correct(run, "labels.csv", "--part_rows", "8")
    alive()
    options = ["--all_probabilities"] if changed == "options" else []
    if changed == "decision":
        decision = json.loads((run / "decision.json").read_text())
        (run / "decision.json").write_text(json.dumps(decision | {"threshold": 0.01}))
    if changed == "data":
        np.savez("new.npz", **ARRAYS | {"X": -ARRAYS["X"]})
    rows = "9" if changed == "size" else "8"
    assert correct(run, "labels.csv", "--part_rows", rows, *options) == 0
    assert "labels.csv.parts held parts of other data, weights or options" in capfd.readouterr().err
    assert correct(run, "fresh.csv", "--part_rows", rows, *options) == 0
    assert contents(tmp_path, "labels") == contents(tmp_path, "fresh")


def test_a_part_that_was_changed_is_refused(run, tmp_path, monkeypatch, capfd):
    alive = kill_after(monkeypatch, 4)
    with pytest.raises(Killed):
        correct(run, "labels.csv", "--part_rows", "8")
    alive()
    part = Path("labels.csv.parts/part-00002-of-00007.csv")
    part.write_text(part.read_text()[:-9])
    assert correct(run, "labels.csv", "--part_rows", "8") == 2
    assert f"{part}: has {part.stat().st_size:,} bytes, expected" in capfd.readouterr().err
    assert not (tmp_path / "labels.csv").exists()


def test_a_part_of_another_output_is_made_anew(run, tmp_path, monkeypatch):
    for name, options in {"labels": [], "others": ["--all_probabilities"]}.items():
        alive = kill_after(monkeypatch, 3)
        with pytest.raises(Killed):
            correct(run, f"{name}.csv", "--part_rows", "8", *options)
        alive()
    for path in (tmp_path / "others.csv.parts").glob("part-00001-*"):
        shutil.copy(path, tmp_path / "labels.csv.parts")
    assert correct(run, "labels.csv", "--part_rows", "8") == 0
    assert correct(run, "fresh.csv", "--part_rows", "8") == 0
    assert contents(tmp_path, "labels") == contents(tmp_path, "fresh")


def test_the_folder_of_the_parts_is_nobody_elses(run, tmp_path, capfd):
    folder = tmp_path / "labels.csv.parts"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    assert correct(run, "labels.csv") == 2
    assert "labels.csv.parts holds thesis.txt, and no parts.json" in capfd.readouterr().err
    assert (folder / "thesis.txt").read_text() == "mine"
    with in_use(tmp_path / "others.csv.parts"):
        assert correct(run, "others.csv") == 2
    assert "others.csv.parts is in use by process" in capfd.readouterr().err


def test_what_parts_warn_of_is_told_once_and_counted(run, capfd):
    labels = ARRAYS["y"].copy()
    labels[[1, 30, 31, 45]] = ""
    np.savez("new.npz", **ARRAYS | {"y": labels})
    assert correct(run, "labels.csv", "--part_rows", "10", "--drop_unlabelled", "true") == 0
    told = [line for line in capfd.readouterr().err.splitlines() if "without a label" in line]
    assert told == [
        "new.npz: left out 1 samples without a label",
        "new.npz, counted from row 30: left out 2 samples without a label (and the like in 1 more parts)",
    ]
    assert len(pd.read_csv("labels.csv")) == 46


def test_a_source_of_which_nothing_is_left_is_an_error(run, tmp_path, capfd):
    np.savez("new.npz", **ARRAYS | {"y": np.full(50, "")})
    assert correct(run, "labels.csv", "--part_rows", "10", "--drop_unlabelled", "true") == 2
    assert "no samples are left, of 50" in capfd.readouterr().err
    assert not (tmp_path / "labels.csv").exists()


def test_a_part_has_a_row(run, capfd):
    assert correct(run, "labels.csv", "--part_rows", "0") == 2
    assert "part_rows: expected at least 1, got 0" in capfd.readouterr().err


def test_figures_of_the_joined_labels_are_those_of_all_parts(run, tmp_path):
    truth = np.array(tiny.CLASSES)[(np.arange(50) + (np.arange(50) % 5 == 0)) % 3]
    np.savez("new.npz", **ARRAYS | {"truth": truth})
    known = ["--true_label_column", "truth"]
    for stem, rows in {"one": "50", "some": "7"}.items():
        assert correct(run, f"{stem}.csv", "--part_rows", rows, *known) == 0
    figures = [(tmp_path / f"{stem}-quality.json").read_text() for stem in ("one", "some")]
    assert figures[0] == figures[1]
    assert '"wrong_labels": 10' in figures[0]
    assert pd.read_parquet("some.parquet").columns.tolist() == pd.read_parquet("one.parquet").columns.tolist()
