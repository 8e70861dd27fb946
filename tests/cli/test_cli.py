"""The command line on a table of numbers with string labels: what it does, and what it says of bad input."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import tiny
from emlc import InputError, Run
from emlc.cli import main
from emlc.cli.arguments import normalized
from emlc.cli.main import COMMANDS
from emlc.config import Settings, names_of

SMALL = ["--width", "5", "--device", "cpu"]
SMALL += ["--epochs", "2", "--noisy_batch", "16", "--trusted_batch", "8", "--learning_rate", "0.1"]


def table(n=75, seed=0, wrong=0.3, prefix="s"):
    samples = tiny.samples(n, seed=seed, wrong=wrong, prefix=prefix)
    names = np.array(samples.classes)
    frame = pd.DataFrame(samples.inputs.numpy(), columns=["a", "b", "c", "d"])
    return frame.assign(id=samples.ids, label=names[samples.labels], truth=names[samples.true_labels])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with data.csv (wrong labels), trusted.csv and test.csv."""
    monkeypatch.chdir(tmp_path)
    table().drop(columns="truth").to_csv("data.csv", index=False)
    table(15, seed=1, wrong=0, prefix="t").drop(columns="truth").to_csv("trusted.csv", index=False)
    table(30, seed=2, wrong=0, prefix="u").drop(columns="truth").to_csv("test.csv", index=False)
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on such tables, by the command line, with the true labels known."""
    folder = tmp_path_factory.mktemp("run")
    table().to_csv(folder / "data.csv", index=False)
    table(15, seed=1, wrong=0, prefix="t").drop(columns="truth").to_csv(folder / "trusted.csv", index=False)
    table(30, seed=2, wrong=0, prefix="u").drop(columns="truth").to_csv(folder / "test.csv", index=False)
    names = {name: str(folder / f"{name}.csv") for name in ("data", "trusted", "test")}
    out = ["--output", str(folder / "run"), "--true_label_column", "truth"]
    sets = [names["data"], "--trusted", names["trusted"], "--test", names["test"]]
    assert main(["train", *sets, *out, *SMALL, "--epochs", "12"]) == 0
    return folder / "run"


def refused(argv, capsys):
    """The one message of a command that must end with exit status 2, without its prefix."""
    capsys.readouterr()
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("emlc: error: ")
    assert err.count("emlc: ") == 1
    assert "Traceback" not in err
    assert "usage:" not in err
    return err.removeprefix("emlc: error: ").rstrip("\n")


def refused_training(argv, capsys):
    """The same for training, which must leave no run behind."""
    before = set(Path.cwd().rglob("*"))
    message = refused(["train", *argv], capsys)
    assert set(Path.cwd().rglob("*")) == before
    return message


def printed(argv, capsys):
    """What a command prints that ends the program, as --help does."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


# The commands do their work


def test_train(run):
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["noisy_samples"], summary["trusted_samples"], summary["test_samples"]) == (75, 15, 30)
    assert (run / "labels.csv").is_file()
    assert json.loads((run / "model.json").read_text())["feature_columns"] == ["a", "b", "c", "d"]


def test_train_prints_its_figures(here, capsys):
    assert main(["train", "data.csv", "--trusted", "trusted.csv", *SMALL]) == 0
    out, err = capsys.readouterr()
    summary = json.loads((here / "runs/data-emlc-seed0/summary.json").read_text())
    rivals = json.loads((here / "runs/data-emlc-seed0/rivals.json").read_text())
    assert f"emlc {rivals['accuracy']['emlc']:.1f} %" in out
    assert "run: runs/data-emlc-seed0" in out
    assert f"{summary['epochs']} epochs" in out
    assert "next: emlc report runs/data-emlc-seed0" in out
    assert "75 noisy, 15 trusted" in err
    assert "epoch 2/2" in err
    assert "loss" not in err


def test_names_with_square_brackets_are_printed_as_they_are(here, capsys):
    """Columns, classes and paths are data: neither markup nor emoji is made of them."""
    names = {"cat": "[/cat]", "cow": "[red]cow", "dog": ":dog:"}
    for name in ("data", "trusted", "test"):
        spoil(f"{name}.csv", lambda t: t.replace({"label": names}).rename(columns={"a": "speed [/m]"}))
    argv = ["data.csv", "--trusted", "trusted.csv", "--test", "test.csv", "--output", "[v2]/[/x]"]
    assert main(["train", *argv, *SMALL]) == 0
    out, err = capsys.readouterr()
    assert "features: speed [/m], b, c, d\n" in err
    assert "run: [v2]/[/x]\n" in out
    assert main(["evaluate", "[v2]/[/x]"]) == 0
    output = capsys.readouterr().out
    assert "written: [v2]/[/x]/evaluation\n" in output
    assert all(f" {name} " in output for name in names.values())
    assert main(["correct", "[v2]/[/x]", "test.csv", "--true_label_column", "label"]) == 0
    assert "written: [v2]/[/x]/labels-test-quality.json\n" in capsys.readouterr().out


def test_evaluate_its_own_test_set_and_other_data(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--weights", "last"]) == 0
    figures = json.loads((run / "evaluation-last/evaluation.json").read_text())
    assert (figures["weights"], figures["data"], figures["noisy_test_labels"]) == ("last", None, False)
    summary = json.loads((run / "summary.json").read_text())
    assert figures["accuracy"] == pytest.approx(summary["last_test_accuracy"], abs=1e-3)
    assert figures["samples"] == 30
    assert f"accuracy: {figures['accuracy']}" in capsys.readouterr().out
    trusted = str(run.parent / "trusted.csv")
    assert main(["evaluate", str(run), trusted, "--output", str(tmp_path / "e")]) == 0
    of_trusted = json.loads((tmp_path / "e/evaluation.json").read_text())
    assert of_trusted["accuracy"] == pytest.approx(summary["trusted_accuracy"], abs=1e-3)
    assert (of_trusted["weights"], of_trusted["data"]) == ("chosen", trusted)


def test_each_weights_have_an_evaluation_of_their_own(run):
    for weights in ("chosen", "last"):
        assert main(["evaluate", str(run), "--weights", weights]) == 0
        assert main(["evaluate", str(run), str(run.parent / "test.csv"), "--weights", weights]) == 0
    for name, weights in {"": "chosen", "-test": "chosen", "-last": "last", "-test-last": "last"}.items():
        assert json.loads((run / f"evaluation{name}/evaluation.json").read_text())["weights"] == weights


def test_agreement_with_noisy_test_labels_is_not_called_right(here, capsys):
    frame = table(90).drop(columns="truth").assign(ok=np.arange(90) < 30)
    frame.to_csv("data.csv", index=False)
    drawn = ["--trusted_column", "ok", "--test_fraction", "0.2"]
    assert main(["train", "data.csv", *drawn, *SMALL, "--epochs", "1", "--output", "run"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(Path("run/summary.json").read_text())
    share = f"{summary['test_accuracy']:.1f} %"
    assert summary["noisy_test_labels"] is True
    assert f"agrees with {share} of the test labels, which are as noisy as the others" in captured.out
    assert "of the test samples right" not in captured.out
    assert f"test {share} like the noisy labels" in captured.err
    assert main(["evaluate", "run"]) == 0
    assert "the test labels are as noisy as the others" in capsys.readouterr().out
    assert json.loads(Path("run/evaluation/evaluation.json").read_text())["noisy_test_labels"] is True
    assert main(["report", "run"]) == 0
    page = Path("run/report.html").read_text()
    assert "Agreement with test labels" in page
    assert "Accuracy on test samples" not in page


def test_predict_needs_no_labels(run, tmp_path, capsys):
    data = table(30, seed=2, wrong=0, prefix="u")
    data[["d", "c", "id", "b", "a"]].to_csv(tmp_path / "new.csv", index=False)
    out = str(tmp_path / "p.csv")
    assert main(["predict", str(run), str(tmp_path / "new.csv"), "--output", out, "--all-probabilities"]) == 0
    assert f"30 samples classified: {out}" in capsys.readouterr().out
    predictions = pd.read_csv(out)
    assert predictions["id"].tolist() == data["id"].tolist()
    accuracy = 100 * (predictions["predicted_label"] == data["truth"]).mean()
    assert accuracy == pytest.approx(
        json.loads((run / "summary.json").read_text())["test_accuracy"], abs=1e-3
    )
    probabilities = predictions[[f"probability_{name}" for name in tiny.CLASSES]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(probabilities.max(axis=1), predictions["predicted_probability"])


def test_predict_beside_the_run_by_default(run):
    assert main(["predict", str(run), str(run.parent / "test.csv")]) == 0
    assert pd.read_csv(run / "predictions-test.csv").shape == (30, 3)


def test_inputs_of_one_name_have_outputs_of_their_own(run, tmp_path, capsys):
    for k, folder in enumerate(("first", "second")):
        (tmp_path / folder).mkdir()
        table(5 + k, seed=k, wrong=0, prefix=folder).to_csv(tmp_path / folder / "new.csv", index=False)
    table(7, seed=3, wrong=0, prefix="third").to_parquet(tmp_path / "first/new.parquet")
    sources = ["first/new.csv", "second/new.csv", "first/new.parquet"]
    for _ in range(2):  # again, over its own output
        for source in sources:
            assert main(["predict", str(run), str(tmp_path / source)]) == 0
    assert "predictions-new-2.csv" in capsys.readouterr().out
    for number, (rows, prefix) in {"": (5, "first"), "-2": (6, "second"), "-3": (7, "third")}.items():
        predictions = pd.read_csv(run / f"predictions-new{number}.csv")
        assert len(predictions) == rows
        assert predictions["id"].str.startswith(prefix).all()
    assert not (run / "predictions-new-4.csv").exists()
    for source in sources[:2]:
        assert main(["evaluate", str(run), str(tmp_path / source)]) == 0
        assert main(["correct", str(run), str(tmp_path / source)]) == 0
    for name in ("evaluation-new", "evaluation-new-2", "labels-new.csv", "labels-new-2.parquet"):
        assert (run / name).exists()
    assert json.loads((run / "evaluation-new-2/evaluation.json").read_text())["samples"] == 6


def test_data_called_last_does_not_take_the_name_of_the_last_weights(run, tmp_path):
    table(5, seed=1, wrong=0).to_csv(tmp_path / "last.csv", index=False)
    assert main(["correct", str(run), str(tmp_path / "last.csv")]) == 0
    assert (run / "labels-last-2.csv").is_file()
    assert not (run / "labels-last.csv").exists()
    assert main(["evaluate", str(run), str(tmp_path / "last.csv")]) == 0
    assert json.loads((run / "evaluation-last-2/evaluation.json").read_text())["samples"] == 5


def test_evaluate_says_what_integers_stand_for(run, tmp_path, capsys):
    data = table(30, seed=2, wrong=0).drop(columns="truth")
    numbers = dict(zip(tiny.CLASSES, (2, 0, 1), strict=True))
    data.assign(label=data["label"].map(numbers)).to_csv(tmp_path / "integers.csv", index=False, sep=";")
    argv = ["evaluate", str(run), str(tmp_path / "integers.csv")]
    assert main(argv) == 2
    assert "integers without names" in capsys.readouterr().err
    order = sorted(numbers, key=lambda name: numbers[name])
    assert main([*argv, "--classes", json.dumps(order)]) == 0
    accuracy = json.loads((run / "evaluation-integers/evaluation.json").read_text())["accuracy"]
    assert accuracy == pytest.approx(
        json.loads((run / "summary.json").read_text())["test_accuracy"], abs=1e-3
    )


def test_one_class_is_nothing_to_learn(here, capsys):
    for name in ("data", "trusted"):
        spoil(f"{name}.csv", lambda t: t.assign(label="cow"))
    assert refused_training(DATA, capsys) == "there is 1 class, 'cow'; training needs at least 2"


def test_correct_writes_the_labels_again(run, capsys):
    written = (run / "labels.csv").read_bytes()
    (run / "labels.csv").unlink()
    assert main(["correct", str(run)]) == 0
    assert (run / "labels.csv").read_bytes() == written
    issues = pd.read_csv(run / "labels.csv")["is_label_issue"].sum()
    output = capsys.readouterr().out
    assert f"75 labels, {issues} of them" in output
    threshold = json.loads((run / "decision.json").read_text())["threshold"]
    assert (
        f"a label_quality below {threshold:.3f} count as issues. Estimated from 15 trusted samples" in output
    )


def test_correct_other_data(run, tmp_path):
    other = str(run.parent / "trusted.csv")
    assert main(["correct", str(run), other, "--output", str(tmp_path / "c.csv")]) == 0
    named = [*("--label-column", "label"), *("--output", str(tmp_path / "named.csv"))]
    assert main(["correct", str(run), other, *named]) == 0
    assert (tmp_path / "named.csv").read_bytes() == (tmp_path / "c.csv").read_bytes()
    assert pd.read_csv(tmp_path / "c.csv")["given_label"].tolist() == pd.read_csv(other)["label"].tolist()


def test_no_output_replaces_data(run, tmp_path, capsys):
    """Neither what the run was trained on, nor what is read now; by whatever name it goes."""
    folder = shutil.copytree(run.parent, tmp_path / "all")
    data, other, link = folder / "data.csv", tmp_path / "new.parquet", tmp_path / "link.csv"
    pd.read_csv(folder / "test.csv").to_parquet(other)
    settings = (folder / "run/settings.yaml").read_text()
    (folder / "run/settings.yaml").write_text(settings.replace(str(run.parent), str(folder)))
    link.symlink_to(data)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    commands = {
        f"correct {folder}/run {other} --output {tmp_path}/new.csv": "DATA",
        f"correct {folder}/run --output {data}": "data",
        f"correct {folder}/run --output {folder}/./test": "test",
        f"predict {folder}/run {other} --output {other}": "DATA",
        f"predict {folder}/run {tmp_path}/*.parquet --output {other}": "DATA",
        f"export {folder}/run --to csv --output {data}": "data",
        f"export {folder}/run --to csv --output {link}": "data",
        f"report {folder}/run --output {folder}/trusted.csv": "trusted",
    }
    for command, name in commands.items():
        message = refused(command.split(), capsys)
        assert message.startswith("output: "), command
        assert f" would replace {name}, " in message, command
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_no_file_in_a_folder_of_data_is_replaced(run, tmp_path, capsys):
    """What is new there is; so is what lies in the run."""
    from emlc.runs.outputs import check_keeps_sources

    (tmp_path / "run").mkdir()
    for name in ("train.parquet", "run/labels.csv"):
        (tmp_path / name).write_text("x")
    settings = replace(Run.load(run).settings, data=str(tmp_path))
    trained = replace(Run.load(run), folder=tmp_path / "run", settings=settings)
    check_keeps_sources(trained, tmp_path / "run/labels.csv", tmp_path / "new.parquet")
    with pytest.raises(InputError, match=r"train\.parquet would replace data"):
        check_keeps_sources(trained, tmp_path / "train.parquet")


def test_initial_weights_are_not_replaced_and_names_of_weights_are_no_files(run, tmp_path, monkeypatch):
    from emlc.runs.outputs import check_keeps_sources

    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    for name in ("weights.pt", "imagenet/new.csv"):
        (tmp_path / name).write_text("x")
    trained = Run.load(run)
    named = replace(trained, settings=replace(trained.settings, init="imagenet", teacher_init="none"))
    check_keeps_sources(named, tmp_path / "imagenet/new.csv", tmp_path / "weights.pt")
    of_file = replace(trained, settings=replace(trained.settings, init=str(tmp_path / "weights.pt")))
    with pytest.raises(InputError, match=r"weights\.pt would replace init, "):
        check_keeps_sources(of_file, tmp_path / "weights.pt")


@pytest.mark.parametrize("folder", [".", "..", "made", "made.csv"])
def test_an_output_that_is_a_folder_is_refused(folder, run, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path(folder).mkdir(exist_ok=True)
    commands = {"correct": [], "predict": [str(run.parent / "test.csv")], "report": []}
    commands["export"] = ["--to", "onnx"]
    for command, more in commands.items():
        message = refused([command, str(run), *more, "--output", folder], capsys)
        assert message == f"output: {folder} is a directory, expected a file to write"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_labels_of_the_last_weights_lie_beside_those_of_the_chosen(run):
    written = (run / "labels.csv").read_bytes()
    assert main(["correct", str(run), "--weights", "last"]) == 0
    assert main(["correct", str(run), str(run.parent / "test.csv"), "--weights", "last"]) == 0
    assert (run / "labels.csv").read_bytes() == written
    last = Run.load(run, which="last")
    expected = last.correct_labels(last.split().noisy)["corrected_label"].tolist()
    for ending, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        assert read(run / f"labels-last.{ending}")["corrected_label"].tolist() == expected
        assert len(read(run / f"labels-test-last.{ending}")) == 30


def test_labels_with_all_probabilities(run, tmp_path):
    other = [str(run.parent / "trusted.csv"), "--output", str(tmp_path / "c.parquet"), "--all-probabilities"]
    assert main(["correct", str(run), *other]) == 0
    csv, parquet = pd.read_csv(tmp_path / "c.csv"), pd.read_parquet(tmp_path / "c.parquet")
    columns = [f"probability_{name}" for name in tiny.CLASSES]
    for table in (csv, parquet):
        assert table.columns.tolist()[-3:] == columns
        np.testing.assert_allclose(table[columns].sum(axis=1), 1, rtol=1e-5)


def test_labels_are_measured_where_the_truth_is_known(run, tmp_path, capsys):
    data = pd.read_csv(run.parent / "test.csv")
    truth = data["label"].to_numpy()
    given = np.where(np.arange(len(data)) % 3 == 0, "cow", truth)
    data.assign(label=given, checked=truth).to_csv(tmp_path / "new.csv", index=False)
    argv = ["correct", str(run), str(tmp_path / "new.csv"), "--output", str(tmp_path / "out.csv")]
    assert main(argv) == 0
    assert not (tmp_path / "out-quality.json").exists()
    assert main([*argv, "--true_label_column", "checked"]) == 0
    output = capsys.readouterr().out
    assert "against the true labels" in output
    figures = json.loads((tmp_path / "out-quality.json").read_text())
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["true_label"].tolist() == truth.tolist()
    assert figures["emlc"]["wrong_labels"] == (given != truth).sum()
    assert figures["emlc"]["recovery"] == (table["corrected_label"] == table["true_label"]).mean()
    assert figures["cleanlab"]["labels"] == len(data)


def test_an_old_run_without_a_decision(run, tmp_path):
    old = shutil.copytree(run, tmp_path / "old")
    (old / "decision.json").unlink()
    assert main(["correct", str(old), "--output", str(tmp_path / "labels.csv")]) == 0
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "labels.csv"), pd.read_csv(run / "labels.csv"), rtol=1e-5
    )
    (old / "decision.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    assert main(["correct", str(old), "--output", str(tmp_path / "other.csv")]) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_labels_of_a_run_whose_data_changed_are_not_corrected_again(here, capsys):
    argv = ["data.csv", "--trusted", "trusted.csv", "--output", "run", *SMALL]
    assert main(["train", *argv]) == 0
    spoil("data.csv", lambda t: t.assign(label=t["label"].where(t.index != 5, "cow")[::-1].to_numpy()))
    message = refused(["correct", "run"], capsys)
    assert "run/split.csv: the data, settings or seed have changed since this run began" in message


# Settings


def test_dashes_and_underscores_are_the_same(here, capsys):
    dashes = ["train", "digits", "--trusted-per-class=3", "--noise-draw", "exact", "--print-config"]
    underscores = ["train", "digits", "--trusted_per_class", "3", "--noise_draw=exact", "--print_config"]
    dashes = printed(dashes, capsys)
    assert dashes == printed(underscores, capsys)
    assert "noise_draw: exact" in dashes


@pytest.mark.parametrize("switch", [["--nesterov"], ["--nesterov=true"], ["--nesterov", "true"]])
def test_a_switch_needs_no_value(here, switch, capsys):
    text = printed(["train", *switch, "digits", "--trusted_per_class", "3", "--print_config"], capsys)
    settings = yaml.safe_load(text)
    assert (settings["nesterov"], settings["data"]) == (True, "digits")


def test_a_printed_configuration_gives_the_same_settings(here, capsys):
    argv = [
        "data.csv",
        "--trusted",
        "trusted.csv",
        "--output",
        "run",
        "--classes",
        '["dog", "cow", "cat"]',
        *SMALL,
    ]
    Path("c.yaml").write_text(printed(["train", *argv, "--print_config"], capsys))
    assert not Path("run").exists()
    assert main(["train", *argv]) == 0
    settings = Path("run/settings.yaml").read_text()
    assert main(["train", "--config", "c.yaml", "--output", "again"]) == 0
    assert Path("again/settings.yaml").read_text() == settings.replace("output: run", "output: again")
    assert Settings(**yaml.safe_load(settings)).classes == ["dog", "cow", "cat"]


def test_options_after_a_configuration_win_and_a_runs_settings_are_one(here):
    argv = ["data.csv", "--trusted", "trusted.csv", "--output", "run", *SMALL]
    assert main(["train", *argv]) == 0
    again = ["--config", "run/settings.yaml", "--seed", "5", "--output", "other"]
    assert main(["train", *again]) == 0
    first, other = (yaml.safe_load(Path(f, "settings.yaml").read_text()) for f in ("run", "other"))
    assert other == first | {"seed": 5, "output": "other"}


def test_the_home_folder_may_be_named_anywhere(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    words = ["draw", "digits", "--output=~/drawn", "--seed", "3"]
    assert main(words) == 0
    assert Path("drawn").is_dir()
    assert not Path("~").exists()
    assert normalized(["correct", "~/run", "~/d.csv", "--separator", "~"]) == [
        *("correct", f"{here}/run", f"{here}/d.csv", "--separator", "~")
    ]


def test_every_problem_with_the_settings_is_reported_at_once(here, capsys):
    Path("c.yaml").write_text(
        "epochs: many\nmomentum: 1.5\nlearning_rat: 0.1\nnoisy_augmentation: [flip, mixup]\n"
    )
    argv = ["data.csv", "--config", "c.yaml", "--noise-rate", "2", "--workers=two", "--corruption", "none"]
    message = refused_training([*argv, "--no_such_option", "3", "--look_ahead", "0", "--seed=-1"], capsys)
    first, *lines = message.splitlines()
    assert first == f"the settings, {len(lines)} problems:"
    expected = [
        "c.yaml: epochs: ",
        "c.yaml: learning_rat: no such setting",
        "c.yaml: noisy_augmentation: ",
        "momentum: expected",
        "noise_rate: expected",
        "workers: ",
        "corruption: ",
        "no_such_option: no such setting",
        "look_ahead: expected at least 1, got 0",
        "seed: expected",
        "trusted, trusted_column, trusted_per_class: give exactly one",
    ]
    for text in expected:
        assert sum(line.startswith(f"  - {text}") for line in lines) == 1, text


def test_appending_to_a_list_is_no_problem(here, capsys):
    argv = ["digits", "--trusted_per_class", "3", "--classes+", "one", "--classes+=two", "--workers", "x"]
    message = refused_training(argv, capsys)
    assert message.startswith("workers: ")
    assert "classes" not in message


def test_problems_of_range_alone(here, capsys):
    argv = [
        "digits",
        "--trusted_per_class",
        "0",
        "--momentum",
        "1",
        "--noise",
        "symmetric",
        "--device",
        "gpu",
    ]
    lines = refused_training(argv, capsys).splitlines()
    assert lines[0] == "the settings, 4 problems:"
    for name in ("trusted_per_class", "momentum", "noise_rate", "device"):
        assert any(line.startswith(f"  - {name}: ") for line in lines)


def test_a_setting_of_the_wrong_type_is_not_also_reported_as_missing(here, capsys):
    message = refused_training(["digits", "--trusted_per_class", "ten"], capsys)
    assert message.startswith("trusted_per_class: ")
    assert "ten" in message
    assert "exactly one" not in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing.yaml"),
        ("[1, 2", "missing.yaml"),
        ("- a\n- b\n", "missing.yaml: expected a mapping of settings"),
        ("nonsense: 1\n", "missing.yaml: nonsense: no such setting"),
        ("output: 2024-01-01\nnonsense: 1\n", "missing.yaml: nonsense: no such setting"),
    ],
    ids=["absent", "broken", "a list", "unknown", "a date"],
)
def test_a_bad_configuration_file(here, capsys, content, message):
    if content is not None:
        Path("missing.yaml").write_text(content)
    assert message in refused_training(
        ["data.csv", "--trusted", "trusted.csv", "--config", "missing.yaml"], capsys
    )


# Bad data: one message, exit status 2, and no run directory


def spoil(name, change):
    frame = pd.read_csv(name)
    change(frame).to_csv(name, index=False)


def write_pixels(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


DATA = ["data.csv", "--trusted", "trusted.csv", *SMALL]


@pytest.mark.parametrize(
    ("name", "change", "options", "parts"),
    [
        ("trusted.csv", lambda t: t[t["label"] != "cow"], [], ["1 of 3 classes have no trusted sample: cow"]),
        (
            "data.csv",
            lambda t: t.assign(b=t["b"].mask(t.index == 4, float("inf"))),
            [],
            ["data.csv", "row 4", "'b'", "inf"],
        ),
        (
            "data.csv",
            lambda t: t.assign(id=t["id"].where(t.index != 7, "s3")),
            [],
            ["data.csv: 1 ids occur more than once", "'s3' in rows 3, 7"],
        ),
        (
            "trusted.csv",
            lambda t: t.assign(id=t["id"].where(t.index != 2, "s9")),
            ["--overlap", "error"],
            ["1 samples are both noisy and trusted", "s9", "--overlap drop"],
        ),
        (
            "data.csv",
            lambda t: t,
            ["--classes", '["cat", "cow"]'],
            ["data.csv", "'dog'", "2 classes: cat, cow"],
        ),
        (
            "data.csv",
            lambda t: t.assign(label=t["label"].mask(t.index == 1)),
            [],
            ["data.csv", "row 1", "no label"],
        ),
        ("data.csv", lambda t: t[:0], [], ["data.csv: no samples"]),
        ("data.csv", lambda t: t.drop(columns="label"), [], ["data.csv: no column 'label' (--label_column)"]),
        ("trusted.csv", lambda t: t.drop(columns="c"), [], ["trusted.csv", "'c'"]),
        (
            "data.csv",
            lambda t: t,
            ["--feature_columns", '["a", "z"]'],
            ["data.csv", "'z'", "feature_columns"],
        ),
        ("data.csv", lambda t: t, ["--test", "absent.csv"], ["absent.csv: no such file or folder"]),
        ("data.csv", lambda t: t, ["--backbone", "cnn"], ["backbone: cnn needs images"]),
        (
            "data.csv",
            lambda t: t,
            ["--noisy_augmentation", "[flip]"],
            ["noisy_augmentation: flip is for images"],
        ),
        ("data.csv", lambda t: t, ["--noisy_limit", "1"], ["there is 1 noisy sample"]),
        (
            "data.csv",
            lambda t: t,
            ["--noise", "matrix", "--noise_matrix", "absent.csv"],
            ["absent.csv"],
        ),
    ],
    ids=[
        "class without trusted samples",
        "infinite number",
        "duplicate id",
        "overlap",
        "label outside the classes",
        "no label",
        "empty table",
        "no label column",
        "feature missing in the trusted set",
        "unknown feature",
        "no such test file",
        "backbone",
        "augmentation",
        "one sample",
        "no such matrix",
    ],
)
def test_bad_tables(here, capsys, name, change, options, parts):
    spoil(name, change)
    message = refused_training([*DATA, *options], capsys)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", ["absent.csv", "absent", "absent.parquet", "data.txt"])
def test_data_that_are_no_source(here, capsys, name):
    Path("data.txt").write_text("x")
    message = refused_training([name, "--trusted", "trusted.csv"], capsys)
    assert message.startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["data.csv", "data.parquet", "data.npz"])
@pytest.mark.parametrize("content", [b"", b"\x00\xffgarbage"], ids=["empty", "garbage"])
def test_files_that_hold_nothing(here, capsys, name, content):
    Path(name).write_bytes(content)
    assert refused_training([name, "--trusted", "trusted.csv"], capsys).startswith(f"{name}: ")


def test_data_is_missing(here, capsys):
    assert "DATA is missing" in refused_training(["--trusted_per_class", "3"], capsys)


def test_an_output_that_is_a_file(here, capsys):
    Path("run").write_text("mine")
    assert "output: run is a file" in refused_training([*DATA, "--output", "run"], capsys)
    assert Path("run").read_text() == "mine"


@pytest.fixture
def folders(here):
    for k in range(24):
        write_pixels(here / "images" / tiny.CLASSES[k % 3] / f"{k}.png", k)
    for k in range(6):
        write_pixels(here / "trusted" / tiny.CLASSES[k % 3] / f"{k}.png", 100 + k)
    (here / "images/cow/broken.png").write_bytes(b"no image")
    (here / "images/dog/empty.png").write_bytes(b"")
    return ["images", "--trusted", "trusted", "--output", "run", *SMALL, "--epochs", "1"]


def test_unreadable_images_are_all_listed(folders, capsys):
    message = refused_training(folders, capsys)
    assert "2 images cannot be read; --skip_unreadable" in message
    assert "cow/broken.png" in message
    assert "dog/empty.png" in message


def test_unreadable_images_can_be_skipped(folders, capsys):
    assert main(["train", *folders, "--skip-unreadable"]) == 0
    assert "images: left out 2 unreadable images" in capsys.readouterr().err
    assert json.loads(Path("run/summary.json").read_text())["noisy_samples"] == 24


# Bad input to the other commands


def test_a_folder_that_is_no_run(here, capsys):
    for argv in (["evaluate", "nothing"], ["predict", "nothing", "test.csv"], ["correct", "nothing"]):
        assert "nothing: not a run directory" in refused(argv, capsys)


def test_data_that_do_not_fit_the_run(run, here, capsys):
    pd.read_csv("test.csv").drop(columns="b").to_csv("less.csv", index=False)
    assert "less.csv" in refused(["predict", str(run), "less.csv"], capsys)
    pd.read_csv("test.csv").replace({"label": {"cow": "emu"}}).to_csv("emu.csv", index=False)
    message = refused(["evaluate", str(run), "emu.csv"], capsys)
    assert "emu.csv" in message
    assert "'emu'" in message
    assert "3 classes: cat, cow, dog" in message


def test_evaluate_without_a_test_set_and_correct_without_a_teacher(here, capsys):
    assert main(["train", *DATA, "--output", "run", "--method", "cross-entropy", "--epochs", "1"]) == 0
    assert "the run has no test set; name DATA" in refused(["evaluate", "run"], capsys)
    assert "method cross-entropy corrects no labels" in refused(["correct", "run"], capsys)


@pytest.mark.parametrize(
    "argv", [[], ["fly"], ["predict"], ["predict", "run"], ["evaluate"], ["correct", "run", "--x"]]
)
def test_commands_that_are_incomplete_or_unknown(here, argv, capsys):
    message = refused(argv, capsys)
    assert len(message.splitlines()) == 1
    if argv in ([], ["fly"]):
        assert all(command in message for command in COMMANDS)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("predict RUN", "missing: data; expected emlc predict RUN DATA [options]"),
        ("export RUN", "missing: to; expected emlc export RUN --to TARGET [options]"),
        ("methods all", "all: no such option or argument"),
        ("evaluate RUN --devices 2", "devices: no such option or argument"),
        ("evaluate RUN --weights", "weights: expected one of chosen, last, got nothing"),
        ("correct RUN --all_probabilities=2", "all_probabilities: takes no value, got '2'"),
        ("report RUN --samples many", "samples: expected an integer, got 'many'"),
        (
            "bench step --classes 5",
            "classes: expected a list in brackets, each item an integer, got '5'",
        ),
        (
            "reproduce table1 --methods [mlc",
            "methods: expected a list in brackets, each item a text, got '[mlc'",
        ),
    ],
)
def test_a_wrong_option_is_named_with_what_was_expected_and_found(here, command, message, capsys):
    assert refused(command.split(), capsys) == message


def test_a_wrong_setting_is_named_with_what_was_expected_and_found(here, capsys):
    wrong = {
        "epochs": ("many", "expected an integer, got 'many'"),
        "momentum": ("half", "expected a number, got 'half'"),
        "nesterov=maybe": (None, "expected true or false, got 'maybe'"),
        "schedule": ("linear", "expected one of constant, cosine, step, got 'linear'"),
        "classes": ("cat", "expected a list in brackets, each item a text, got 'cat'"),
        "hyper": ("3", "expected a mapping, got '3'"),
        "workers": (None, "expected an integer, got nothing"),
    }
    argv = [word for name, (text, _) in wrong.items() for word in (f"--{name}", text) if word is not None]
    lines = refused_training(["digits", "--trusted_per_class", "3", *argv], capsys).splitlines()[1:]
    expected = {f"  - {name.partition('=')[0]}: {message}" for name, (_, message) in wrong.items()}
    assert set(lines) == expected


# Help


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help(argv, capsys):
    assert "usage: emlc" in printed(argv, capsys)


def test_help_of_train_names_every_setting(capsys):
    out = printed(["train", "--help", "all"], capsys)
    assert out == printed(["train", "--help-all"], capsys)
    for name in Settings(trusted_per_class=1).as_dict():
        assert f"--{name} " in out or name == "data"


def test_help_of_train_shows_what_most_people_need(capsys):
    out = printed(["train", "--help"], capsys)
    shown = set(re.findall(r"^  --(\w+)", out, flags=re.MULTILINE)) & names_of(Settings)
    assert shown == names_of(Settings, lambda facts: facts.common)
    assert {"trusted", "output", "label_column", "text_column", "epochs", "method", "seed"} <= shown
    assert len(shown) < 17
    assert "--help all" in out
    assert "--resume" in out
    assert "--config" in out


def test_help_says_which_settings_are_for_experts(capsys):
    options = re.split(r"^  (?=--)", printed(["train", "--help", "all"], capsys), flags=re.MULTILINE)
    marked = {option.split()[0].removeprefix("--") for option in options if "[expert]" in option}
    assert marked == names_of(Settings, lambda facts: facts.expert)
    assert "epochs" not in marked


def test_version(capsys):
    assert version("emlc") in printed(["--version"], capsys)


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["train", "digits", "--epochs", "0"], 2),
        (["train", "digits", "--trusted_per_class", "5", "--method", "mcl"], 2),
        (["methods"], 0),
        (["presets"], 0),
    ],
    ids=str,
)
def test_the_command_line_starts_without_torch(argv, status):
    code = (
        "import sys, emlc.cli\n"
        f"assert emlc.cli.main({argv}) == {status}\n"
        "assert not {'torch', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_an_interrupted_training_says_how_to_go_on(here, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("emlc.methods.emlc.EMLC.step", interrupted)
    assert main(["train", *DATA]) == 130
    assert "--resume" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_is_one_message(here, monkeypatch, capsys):
    def diverged(*_):
        return {"student_loss": torch.tensor(float("nan"))}

    monkeypatch.setattr("emlc.methods.emlc.EMLC.step", diverged)
    assert main(["train", *DATA]) == 2
    err = capsys.readouterr().err
    assert "student_loss is not finite in epoch 1" in err
    assert "Traceback" not in err


def test_export(run, tmp_path, capsys):
    assert (
        main(["export", str(run), "--to", "csv", "--weights", "last", "--output", str(tmp_path / "t.csv")])
        == 0
    )
    assert f"written: {tmp_path / 't.csv'}" in capsys.readouterr().out
    exported = pd.read_csv(tmp_path / "t.csv")
    last = Run.load(run, which="last")
    assert (
        exported["label"].tolist()[:75] == last.correct_labels(last.split().noisy)["corrected_label"].tolist()
    )
    assert main(["export", str(run), "--to", "labelstudio"]) == 0
    assert "75 tasks, the worst label first" in capsys.readouterr().out
    assert {path.name for path in (run / "labelstudio").iterdir()} == {"tasks.json", "config.xml"}


def test_export_refuses(run, capsys, tmp_path):
    message = refused(["export", str(run), "--to", "excel"], capsys)
    assert message.startswith("to: expected one of csv, imagefolder, ")
    assert message.endswith(", got 'excel'")
    message = refused(["export", "nowhere", "--to", "csv", "--link"], capsys)
    assert message == "link: goes with --to imagefolder, not with csv"
    message = refused(["export", str(run), "--to", "fiftyone"], capsys)
    assert message == "fiftyone: shows images, and the samples are not images"
    (tmp_path / "f").mkdir()
    (tmp_path / "f/x").write_text("")
    message = refused(["export", str(run), "--to", "labelstudio", "--output", str(tmp_path / "f")], capsys)
    assert message == f"output: the folder {tmp_path / 'f'} is not empty; name another, or remove it first"


def test_apply_refuses(run, capsys, tmp_path):
    (tmp_path / "d.csv").write_text("id;decision;label;given_label;suggested_label\n")
    assert "found semicolons" in refused(["apply", str(run), str(tmp_path / "d.csv")], capsys)
    missing = refused(["apply", str(run), "nowhere.csv"], capsys)
    assert missing == "nowhere.csv: cannot be read: No such file or directory"
    message = refused(["apply", str(run), "d.csv", "--unreviewed", "forget"], capsys)
    assert message == "unreviewed: expected one of keep, correct, drop, got 'forget'"
    assert not (run / "reviewed").exists()


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_sleep_soon_while_they_wait_unless_the_user_says_how_they_wait(monkeypatch, given, spins):
    monkeypatch.setattr(os, "environ", {**given, "PATH": os.environ["PATH"]})
    assert main(["methods"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_the_end_of_a_training_says_how_many_labels_of_its_table_are_right(tmp_path, capsys):
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 2
    frame = pd.DataFrame({"a": rng.normal(size=400) + 4 * truth, "b": rng.normal(size=400)})
    given = np.where(rng.random(400) < 0.3, 1 - truth, truth)
    frame.assign(label=given, truth=truth).to_csv(tmp_path / "data.csv", index=False)
    options = ["--label_column", "label", "--true_label_column", "truth", "--trusted_per_class", "20"]
    train = ["train", str(tmp_path / "data.csv"), *options, "--epochs", "5", "--rivals", "false"]
    assert main([*train, "--output", str(tmp_path / "run")]) == 0
    table = pd.read_csv(tmp_path / "run/labels.csv")
    right = (table["corrected_label"] == table["true_label"]).mean()
    assert (
        f"the true labels are known: {right:.1%} of the corrected labels are right" in capsys.readouterr().out
    )
    assert right > 0.9
