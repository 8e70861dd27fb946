"""The engine on a small experiment: what it trains, reads, goes on with and tabulates."""

import errno
import json
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from grids import TINY, grid, run_grid

from emlc import InputError
from emlc.config import PretrainSettings
from emlc.methods.cross_entropy import CrossEntropy
from emlc.reproduce import cache as caching
from emlc.reproduce import work
from emlc.reproduce.cache import Cache
from emlc.reproduce.engine import Shard
from emlc.reproduce.plan import CHOSEN, PRETRAIN, Part, cells, distinct, job
from emlc.reproduce.tables import Value, markdown
from emlc.runs.train import train

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def home(done, tmp_path):
    """A copy of the finished experiment's runs, to be changed."""
    shutil.copytree(done.runs, tmp_path / "runs")
    return tmp_path


@pytest.fixture
def trained(monkeypatch):
    """The settings of the runs that are trained in a test."""
    settings = []

    def spy(each, **more):
        settings.append(each)
        return train(each, **more)

    monkeypatch.setattr(caching, "train", spy)
    return settings


def by_hand(folder, row, column):
    """Test accuracies of a cell's runs, at the chosen and at the last epoch, from their metrics.csv."""
    runs = json.loads((folder / "results.json").read_text())["runs"]
    figures = []
    for run in runs:
        if (run["row"], run["column"]) == (row, column):
            epochs = pd.read_csv(folder.parent / "runs" / run["run"] / "metrics.csv")
            best = epochs.sort_values(["choice_accuracy", "choice_loss"], ascending=[False, True]).iloc[0]
            figures.append((best["test_accuracy"], epochs["test_accuracy"].iloc[-1]))
    return np.array(figures).T


@pytest.mark.parametrize("row", ["cross-entropy", "trusted-only"])
@pytest.mark.parametrize("column", ["half", "pairs"])
def test_the_table_has_mean_and_deviation_of_the_runs(done, row, column):
    chosen, last = by_hand(done.folder, row, column)
    assert len(chosen) == 2
    table = pd.read_csv(done.folder / "table.csv").set_index(["measure", "row", "column"])
    for measure, figures in (("test_accuracy", chosen), ("last_test_accuracy", last)):
        cell = table.loc[measure, row, column]
        assert cell["n"] == 2
        assert cell["mean"] == pytest.approx(figures.mean(), abs=1e-3)
        assert cell["sd"] == pytest.approx(figures.std(ddof=1), abs=1e-3)
    text = (done.folder / "table.md").read_text()
    assert f"{chosen.mean():.1f} ± {chosen.std(ddof=1):.1f}" in text.split("after the last epoch")[0]


def test_the_papers_figures_stand_beside_ours_where_it_has_any(done):
    table = pd.read_csv(done.folder / "table.csv").set_index(["measure", "row", "column"])
    assert table.loc["test_accuracy", "cross-entropy", "half"]["paper_mean"] == 79.4
    assert table["paper_mean"].notna().sum() == 1
    line = next(x for x in (done.folder / "table.md").read_text().splitlines() if x.startswith("| cross"))
    assert line.count("(paper ") == 1
    assert "(paper 79.4)" in line.split("|")[2]


def test_the_best_of_a_column_is_bold_and_so_is_its_equal(done):
    lines = (done.folder / "table.md").read_text().split("##")[1].splitlines()
    for k, column in enumerate(("half", "pairs")):
        rows = ("cross-entropy", "trusted-only")
        means = {row: by_hand(done.folder, row, column)[0].mean().round(1) for row in rows}
        for row in rows:
            line = next(x for x in lines if x.startswith(f"| {row}"))
            assert ("**" in line.split("|")[2 + k]) == (means[row] == max(means.values()))


def test_a_ceiling_takes_no_part():
    rows = (Part("one"), Part("two"), Part("most", ceiling=True))
    values = {(row.label, "half"): Value([each]) for row, each in zip(rows, (50.0, 60.0, 70.0), strict=True)}
    text = markdown(CHOSEN, rows, (Part("half"),), values)
    assert "| **60.0** |" in text
    assert text.count("**") == 2


def test_the_table_says_what_was_measured_and_on_what(done):
    text = (done.folder / "table.md").read_text()
    assert done.notes == []
    for each in ("60 noisy, 20 trusted, 450 test", "seeds 0, 1", "torch", "`what was typed`", "are wrong"):
        assert each in text
    assert (done.folder / "picture.png").read_bytes().startswith(PNG)


def test_finished_runs_are_not_made_again_and_changed_ones_are(home, trained):
    again = run_grid(grid(), home)
    assert trained == []
    assert again.notes == []
    run_grid(grid(common=TINY | {"learning_rate": 0.5}, seeds=(0,)), home)
    assert [each.learning_rate for each in trained] == [0.5] * 4


def test_the_key_depends_on_what_decides_the_result_alone():
    values = TINY | {"method": "fine-tuning", "noise": "symmetric", "noise_rate": 0.5, "seed": 0}
    key = job(values).key
    same = ({"workers": 3}, {"device": "auto"}, {"checkpoint_every": 5}, {"hyper": {"fine_tuned_share": 0.5}})
    other = (
        {"seed": 1},
        {"momentum": 0.5},
        {"hyper": {"fine_tuned_share": 0.4}},
        {PRETRAIN: {"data": "digits"}},
    )
    assert [job(values | each).key == key for each in (*same, *other)] == [True] * 4 + [False] * 4
    keys = {job(values | {PRETRAIN: {"data": "digits", "epochs": n}}).key for n in (1, 2)}
    assert len(keys) == 2


def test_files_count_by_their_contents_and_folders_by_their_files(tmp_path):
    def key(data):
        values = {"data": str(data), "label_column": "y", "id_column": "id", "trusted_per_class": 2}
        return job(values | {"method": "glc"}).key

    (tmp_path / "images" / "cat").mkdir(parents=True)
    files = [tmp_path / name for name in ("one.csv", "other.csv", "images/cat/1.png", "images/cat/2.png")]
    for file in files:
        file.write_text("id,y\n")
    one, other, images, glob = (key(tmp_path / name) for name in ("one.csv", "other.csv", "images", "*.csv"))
    assert one == other
    assert len({one, images, glob, key(tmp_path / "no.csv")}) == 4
    (tmp_path / "one.csv").write_text("id,Y\n")  # of the same length
    assert key(tmp_path / "one.csv") != one
    assert key(tmp_path / "*.csv") != glob
    files[-1].unlink()
    assert key(tmp_path / "images") != images


def test_the_key_has_the_learning_rates_that_are_left_open():
    values = TINY | {"method": "emlc"}
    assert job(values).key == job(values | {"learning_rate": 0.05, "teacher_learning_rate": 0.02}).key
    assert job(values).key != job(values | {"learning_rate": 0.04, "teacher_learning_rate": 0.02}).key


@pytest.mark.parametrize("parts", [1, 2, 3, 9])
def test_shards_are_disjoint_and_complete(tmp_path, monkeypatch, parts):
    made = []
    monkeypatch.setattr(caching, "train", lambda settings, **_: made.append(settings.output))
    for part in range(parts):
        run_grid(grid(), tmp_path, shard=Shard(part, parts))
    outputs = {str(tmp_path / "runs" / each.key) for each in distinct(cells(grid()))}
    assert len(outputs) == 8
    assert set(made) == outputs
    # What stands in for training leaves nothing, so that each is tried without and with waiting for others.
    assert set(Counter(made).values()) == {2}


def test_missing_runs_are_reported_and_shown(home):
    for run in distinct(cells(grid(seeds=(1,), columns=grid().columns[:1]))):
        shutil.rmtree(home / "runs" / run.key)
    outcome = run_grid(grid(), home, shard=Shard(8, 9))  # of eight runs, this shard has none
    assert outcome.notes == ["2 of 8 runs are missing"]
    table = pd.read_csv(outcome.folder / "table.csv").set_index(["measure", "row", "column"])
    assert list(table.loc["test_accuracy"]["n"]) == [1, 2, 1, 2]
    assert len(json.loads((outcome.folder / "results.json").read_text())["missing"]) == 2


def test_without_any_run_the_table_is_of_dashes(tmp_path):
    outcome = run_grid(grid(), tmp_path, shard=Shard(8, 9))
    assert outcome.notes == ["8 of 8 runs are missing"]
    assert not (outcome.folder / "picture.png").exists()


def test_an_interrupted_command_continues_to_the_same_table(done, tmp_path, monkeypatch):
    original, steps = CrossEntropy.step, []

    def step(*arguments):
        steps.append(None)
        if len(steps) == 4:  # in the second epoch of three
            raise KeyboardInterrupt
        return original(*arguments)

    small = grid(rows=grid().rows[:1], columns=grid().columns[:1], seeds=(0,))
    with monkeypatch.context() as patch:
        patch.setattr(CrossEntropy, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run_grid(small, tmp_path)
    left = 6 - 2  # the epoch that had ended is kept
    steps.clear()
    monkeypatch.setattr(CrossEntropy, "step", lambda *a: (steps.append(None), original(*a))[1])
    run_grid(small, tmp_path)
    assert len(steps) == left
    (key,) = (each.key for each in distinct(cells(small)))
    one, other = (pd.read_csv(home / key / "metrics.csv") for home in (done.runs, tmp_path / "runs"))
    assert one.drop(columns="seconds").equals(other.drop(columns="seconds"))


def test_a_diverged_run_is_reported_and_the_others_are_made(home, monkeypatch):
    def fail(settings, **_):
        raise FloatingPointError("student_loss is not finite")

    monkeypatch.setattr(caching, "train", fail)
    outcome = run_grid(grid(seeds=(0, 2), rows=grid().rows[:1], columns=grid().columns[:1]), home)
    assert outcome.notes == [
        "1 of 2 runs are missing",
        "cross-entropy, half, seed 2 failed: student_loss is not finite",
    ]
    assert outcome.failed == {"cross-entropy, half, seed 2": "student_loss is not finite"}


def test_a_run_that_fails_unexpectedly_stops_no_other_and_leaves_its_traceback(home, monkeypatch):
    def fail(settings, **_):
        raise KeyError("what was looked for")

    monkeypatch.setattr(caching, "train", fail)
    outcome = run_grid(grid(seeds=(0, 2), rows=grid().rows[:1], columns=grid().columns[:1]), home)
    (problem,) = outcome.failed.values()
    assert problem.startswith("KeyError: 'what was looked for' (traceback: ")
    traceback = Path(problem.partition("traceback: ")[2].removesuffix(")")).read_text()
    assert "in fail" in traceback


def test_a_full_disk_stops_all_runs(home, monkeypatch):
    def fail(settings, **_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching, "train", fail)
    with pytest.raises(OSError, match="No space left"):
        run_grid(grid(seeds=(2,)), home)


def test_a_run_that_another_process_makes_is_left_alone(home, trained):
    (each,) = distinct(cells(grid(seeds=(5,), rows=grid().rows[:1], columns=grid().columns[:1])))
    cache = Cache(home / "runs")
    with FileLock(home / "runs" / f"{each.key}.lock"):
        assert not cache.make(each, wait=False)
    assert trained == []
    assert cache.make(each, wait=False)
    assert len(trained) == 1


def test_pretraining_is_made_once_and_first(tmp_path, monkeypatch):
    made = []

    def pretrain(settings, **_):
        made.append(settings.seed)
        Path(settings.output).mkdir(parents=True)
        (Path(settings.output) / "backbone.safetensors").write_text("")

    monkeypatch.setattr(caching, "pretrain", pretrain)
    monkeypatch.setattr(caching, "train", lambda settings, **_: made.append(settings.init))
    column = Part("SimCLR", grid().columns[0].settings | {PRETRAIN: {"data": "digits", "epochs": 1}})
    jobs = sorted(distinct(cells(grid(columns=(column,)))), key=lambda each: each.settings.seed)
    assert [each.settings.seed for each in jobs] == [0, 0, 1, 1]
    assert all(isinstance(each.start.settings, PretrainSettings) for each in jobs)
    cache = Cache(tmp_path / "runs")
    for each in jobs:
        cache.make(each, wait=True)
    # The seed draws the test images of digits, which pretraining must not see: each seed has its own.
    backbones = [str(cache.folder(each.start) / "backbone.safetensors") for each in jobs[::2]]
    assert made == [0, *backbones[:1] * 2, 1, *backbones[1:] * 2]
    assert len(set(backbones)) == 2


def test_one_pretraining_serves_all_seeds_where_the_test_set_is_given():
    column = Part("SimCLR", {"data": "cifar10", PRETRAIN: {"data": "cifar10"}})
    study = grid(columns=(column,))
    common = {name: value for name, value in study.common.items() if name not in ("data", "noisy_limit")}
    jobs = distinct(cells(replace(study, common=common)))
    assert len(jobs) == 4
    assert len({each.start.key for each in jobs}) == 1
    limited = distinct(cells(replace(study, common=common | {"noisy_limit": 100})))
    assert len({each.start.key for each in limited}) == 2  # of which each seed draws its own


def test_pretraining_has_the_images_of_its_runs():
    column = Part("SimCLR", {"data": "d.npz", "test_fraction": 0.5, PRETRAIN: {"epochs": 1}})
    study = replace(grid(columns=(column,)), common={"trusted_per_class": 2})
    for each in distinct(cells(study)):
        start, run = each.start.settings, each.settings
        assert (start.data, start.test_fraction, start.seed) == (run.data, 0.5, run.seed)
    other = replace(column, settings=column.settings | {PRETRAIN: {"epochs": 1, "test_fraction": 0.2}})
    with pytest.raises(InputError, match="pretrain: expected test_fraction as the run has it"):
        cells(replace(study, columns=(other,)))


def test_a_method_that_there_is_not_is_refused():
    rows = (*grid().rows, Part("other", {"method": "fine-tunin"}))
    with pytest.raises(InputError, match=r"other, half: method: .* did you mean fine-tuning"):
        cells(grid(rows=rows))


def test_wrong_settings_are_named_with_row_and_column():
    wrong = replace(grid().rows[0], settings={"method": "cross-entropy", "momentum": 2.0, "no_such": 1})
    with pytest.raises(InputError, match="cross-entropy, half: no_such: no such setting"):
        cells(grid(rows=(wrong,)))


def test_two_processes_make_what_one_does(done, tmp_path):
    made = run_grid(grid(), tmp_path, processes=2)
    assert made.notes == []
    ours, theirs = (pd.read_csv(each.folder / "table.csv") for each in (made, done))
    timed = ours["measure"] == "seconds"
    pd.testing.assert_frame_equal(ours[~timed], theirs[~timed])


def test_of_two_processes_a_failed_run_leaves_the_others_to_be_made(tmp_path):
    """That a file is not there is found out by the process that reads it."""
    columns = (*grid().columns, Part("gone", {"data": "gone.npz"}))
    study = grid(columns=columns, rows=grid().rows[:1], seeds=(0,))
    done = run_grid(study, tmp_path, processes=2)
    assert list(done.failed) == ["cross-entropy, gone, seed 0"]
    assert "gone.npz" in done.failed["cross-entropy, gone, seed 0"]
    table = pd.read_csv(done.folder / "table.csv").set_index(["measure", "column"])
    assert list(table.loc["test_accuracy"]["n"]) == [1, 1, 0]


def test_a_killed_process_is_one_message(tmp_path, monkeypatch):
    """As the system kills what takes too much memory."""
    monkeypatch.setattr(work, "_attempt", _kill)
    with pytest.raises(InputError, match="processes: one of 2 was killed"):
        run_grid(grid(), tmp_path, processes=2)


def _kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_runs_begun_elsewhere_go_on_in_another_folder(tmp_path, monkeypatch):
    """As when a machine's FOLDER/runs are copied: the weights they start from then have another path."""
    start = job({**TINY, "noise": "symmetric", "noise_rate": 0.5, "method": "cross-entropy", "seed": 0})
    values = {**start.settings.as_dict(), PRETRAIN: {"epochs": 1, "batch": 16, "backbone": "cnn", "width": 2}}
    each = job({name: value for name, value in values.items() if value is not None})
    whole, begun, copied = (Cache(tmp_path / name / "runs") for name in ("whole", "begun", "copied"))
    whole.make(each, wait=True)

    steps = 0
    original = CrossEntropy.step

    def interrupted(self, *batches):
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return original(self, *batches)

    monkeypatch.setattr(CrossEntropy, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        begun.make(each, wait=True)
    monkeypatch.setattr(CrossEntropy, "step", original)
    shutil.copytree(tmp_path / "begun", tmp_path / "copied")
    shutil.rmtree(tmp_path / "begun")
    assert not copied.finished(each)
    copied.make(each, wait=True)
    ours, theirs = (cache.read(each).summary for cache in (copied, whole))
    assert ours["test_accuracy"] == theirs["test_accuracy"]
    last = "last/student.safetensors"
    assert (copied.folder(each) / last).read_bytes() == (whole.folder(each) / last).read_bytes()


def test_a_run_that_cannot_be_made_leaves_the_others(home, monkeypatch):
    for each in (home / "runs").glob("*/summary.json"):
        each.unlink()

    def refuse(settings, **more):
        if settings.method == "trusted-only":
            raise InputError("no such data\nand more")
        return train(settings, **more)

    monkeypatch.setattr(caching, "train", refuse)
    finished = run_grid(grid(), home)
    assert finished.notes[0] == "4 of 8 runs are missing"
    assert list(finished.failed.values()) == ["no such data"] * 4
    assert finished.notes[1:] == [f"{name} failed: no such data" for name in finished.failed]


def test_if_no_run_can_be_made_it_is_an_error(tmp_path, monkeypatch):
    def refuse(settings, **more):
        raise InputError("no such data")

    monkeypatch.setattr(caching, "train", refuse)
    with pytest.raises(InputError, match="no such data"):
        run_grid(grid(seeds=(0,)), tmp_path)
