"""Where a run may be: never in the place of what is not emlc's, and one process at a time."""

import errno
import os
import re
import shutil

import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from rich.console import Console

import tiny
from emlc.cli import main
from emlc.errors import InputError
from emlc.runs.outputs import OF_TRAINING
from emlc.runs.run import Run
from emlc.runs.train import train
from emlc.runtime.locks import LOCK, in_use

QUIET = Console(quiet=True)
TRAIN = ["--trusted_per_class", "4", "--true_label_column", "true", "--epochs", "1", "--rivals", "false"]
TRAIN += ["--device", "cpu", "--backbone", "mlp", "--width", "4"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with data and a run of them."""
    folder = tmp_path_factory.mktemp("here")
    data = tiny.samples(prefix="")
    table = pd.DataFrame(data.inputs.numpy()).assign(label=data.labels, true=data.true_labels)
    table.to_csv(folder / "data.csv", index=False)
    assert main(["train", str(folder / "data.csv"), *TRAIN, "--output", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def place(here, tmp_path, monkeypatch):
    shutil.copytree(here, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(place, capsys, *argv):
    """The message of a command that is refused and leaves everything as it was."""
    before = contents(place)
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    assert contents(place) == before
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()[-1].removeprefix("emlc: error: ")


@pytest.mark.parametrize("name", ["labels.csv", "split.csv", "metrics.csv", "notes"])
def test_a_folder_with_something_else_in_it_is_no_place_for_a_run(place, capsys, name):
    (place / "mine").mkdir()
    shutil.copy("data.csv", place / "mine" / name)
    for data, more in ((f"mine/{name}", []), ("data.csv", []), ("data.csv", ["--resume"])):
        message = refused(place, capsys, "train", data, *TRAIN, "--output", "mine", *more)
        if data == "data.csv":
            assert f"output: mine holds {name} and no run of emlc" in message


def test_the_output_in_a_configuration_is_refused_as_well(place, capsys):
    (place / "foreign.yaml").write_text(yaml.safe_dump({"output": str(place)}))
    message = refused(place, capsys, "train", "data.csv", *TRAIN, "--config", "foreign.yaml")
    assert "holds data.csv, … and no run of emlc" in message


@pytest.mark.parametrize("output", [(), ("--output", "images/run"), ("--output", "images")])
def test_a_run_does_not_lie_in_the_folder_of_its_data(place, capsys, monkeypatch, output):
    for name in "ab":
        (place / "images" / name).mkdir(parents=True)
    if not output:
        monkeypatch.chdir("images")
    data = "images" if output else "."
    message = refused(place, capsys, "train", data, "--trusted_per_class", "1", *output)
    assert re.search("output: .* (lies in the folder of data|and no run of emlc)", message)


def test_the_data_do_not_lie_in_the_folder_of_the_run(place, capsys):
    message = refused(place, capsys, "pretrain", "run/labels.csv", "--output", "run", "--resume")
    assert "output: run is the folder of data, run/labels.csv" in message


def test_two_processes_do_not_make_the_same_run(tmp_path):
    with in_use(tmp_path / "run"), pytest.raises(InputError) as caught:
        train(tiny.settings(output=str(tmp_path / "run")), tiny.samples(), console=QUIET)
    assert re.search(
        rf"output: .*run is in use by process {os.getpid()} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d",
        str(caught.value),
    )
    assert list(tmp_path.iterdir()) == []  # neither has left anything


def test_a_lock_that_a_crash_has_left_is_no_obstacle(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).write_text('{"process": 1, "host": "elsewhere", "since": "ever"}')
    settings = tiny.settings(output=str(tmp_path / "run"), epochs=1)
    run = train(settings, tiny.samples(), lean=True, console=QUIET)
    assert not (run.folder / LOCK).exists()


def test_an_output_in_the_home_folder_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    run = train(tiny.settings(output="~/run", epochs=1), tiny.samples(), lean=True, console=QUIET)
    assert run.folder == tmp_path / "home/run"
    assert Run.load("~/run", device="cpu").folder == run.folder
    assert not (tmp_path / "~").exists()


def test_other_settings_have_another_default_output(place, capsys):
    for width, resume in (("4", []), ("5", []), ("4", ["--resume"]), ("5", ["--resume"])):
        assert main(["train", "data.csv", *TRAIN, "--width", width, *resume]) == 0, (width, resume)
    runs = {
        path: yaml.safe_load((path / "settings.yaml").read_text())["width"]
        for path in (place / "runs").iterdir()
    }
    assert sorted(runs.values()) == [4, 5]
    assert runs[place / "runs/data-emlc-seed0"] == 4
    message = refused(place, capsys, "train", "data.csv", *TRAIN, "--width", "6", "--resume")
    assert "made with other settings: width was 4, now 6" in message


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "run", "data.csv", "--output"],
        ["correct", "run", "--output"],
        ["report", "run", "--map_samples", "0", "--output"],
        ["export", "run", "--to", "csv", "--output"],
        ["export", "run", "--to", "onnx", "--output"],
    ],
    ids=lambda command: "-".join(command[:1] + command[-2:-1]),
)
def test_what_a_command_did_not_write_it_does_not_replace(place, capsys, command):
    (place / "mine.csv").write_text("a,b\n1,2\n")
    (place / "run/notes.csv").write_text("mine")
    for output in ("mine.csv", "run/notes.csv", "data.csv"):
        message = refused(place, capsys, *command, output)
        assert "there already" in message or "would replace" in message
    for output in ("run/split.csv", "run/steps.csv", "run/noise.csv", "run/chosen/new.csv"):
        message = refused(place, capsys, *command, output)
        assert re.search(f"output: {output} (is the name of a file of the run|is there already)", message)


def test_embeddings_replace_embeddings_only(place, capsys):
    (place / "texts").mkdir()
    for name in ("texts.parquet", "texts/part.parquet"):
        pd.DataFrame({"text": ["a", "b"]}).to_parquet(place / name)
    for data, output in (
        ("texts.parquet", "texts.parquet"),
        ("texts.parquet", "texts/part.parquet"),
        ("texts", "texts/part.parquet"),
        ("texts", "texts/new.parquet"),
    ):
        argv = ["embed", data, "--text_column", "text", "--unlabelled", "--output", output]
        message = refused(place, capsys, *argv)
        assert re.search(
            f"output: {output} (would replace DATA|lies in the folder|is there already)", message
        )


def test_a_command_replaces_what_it_wrote(place):
    for command in (["predict", "run", "data.csv"], ["correct", "run"], ["export", "run", "--to", "csv"]):
        for _ in range(2):
            assert main([*command, "--output", f"{command[0]}.csv"]) == 0
            assert main(command) == 0


def test_an_evaluation_has_a_folder_of_its_own(place, capsys):
    (place / "mine").mkdir()
    (place / "mine/confusion.csv").write_text("mine")
    message = refused(place, capsys, "evaluate", "run", "data.csv", "--output", "mine")
    assert "output: mine holds confusion.csv, and no evaluation.json" in message


LOOKALIKES = {
    "decisions.csv": ("id,decision,label,given_label,suggested_label\n", ["export", "run", "--to", "csv"]),
    "mine.csv": ("text,label\ncorrected_probability,a\n", ["export", "run", "--to", "csv"]),
    "notes.csv": ("x\npredicted_probability\n", ["predict", "run", "data.csv"]),
    "mine.json": ('{"hardware": "mine"}', ["bench", "step"]),
    "mine/evaluation.json": ('{"accuracy": 1}', ["evaluate", "run", "data.csv"]),
}
"""What people have that looks a little like what a command writes, and that command."""


@pytest.mark.parametrize("name", LOOKALIKES)
def test_what_only_looks_like_the_output_of_a_command_is_kept(place, capsys, name):
    content, command = LOOKALIKES[name]
    (place / "mine").mkdir()
    (place / name).write_text(content)
    output = name.removesuffix("/evaluation.json")
    message = refused(place, capsys, *command, "--output", output)
    assert f"output: {name} is there already, and this command did not write it" in message


def test_embeddings_of_others_and_plots_of_others_are_kept(place, capsys):
    pd.DataFrame({"text": ["a", "b"]}).to_parquet("texts.parquet")
    pd.DataFrame({"id": ["a"], "embedding": [[1.0]]}).to_parquet("embedded.parquet")
    Figure().savefig("plot.png")
    embed = ["embed", "texts.parquet", "--text_column", "text", "--unlabelled", "--output"]
    message = refused(place, capsys, *embed, "embedded.parquet")
    assert "output: embedded.parquet is there already" in message
    message = refused(place, capsys, "bench", "step", "--plot", "plot.png")
    assert "output: plot.png is there already" in message


WRITING = {
    "predict": ["predict", "run", "data.csv"],
    "correct": ["correct", "run"],
    "report": ["report", "run", "--map_samples", "0", "--samples", "2"],
    "evaluate": ["evaluate", "run", "data.csv"],
    "export": ["export", "run", "--to", "safetensors"],
    "apply": ["apply", "run", "decisions.csv"],
}
"""Commands that write into a run."""


@pytest.mark.parametrize("command", WRITING)
def test_one_command_at_a_time_writes_into_a_run(place, capsys, command):
    with in_use(place / "run"):
        for more in ([], ["--output", "run/other.csv"]):
            message = refused(place, capsys, *WRITING[command], *more)
            assert f"output: run is in use by process {os.getpid()} since " in message
    message = refused(place, capsys, *WRITING["apply"])
    assert "decisions.csv: cannot be read" in message  # and the lock is free again


def test_a_run_that_is_being_made_is_read_with_a_warning(place, capsys):
    command = [*WRITING["predict"], "--output", "predictions.csv"]
    with in_use(place / "run"):
        assert main(command) == 0
        assert "in use" not in capsys.readouterr().err  # it is finished
        (place / "run/summary.json").unlink()
        assert main(command) == 0
        warning = capsys.readouterr().err
    assert f"run is in use by process {os.getpid()} since " in warning
    assert "may be of different epochs" in warning
    assert main(command) == 0
    assert "in use" not in capsys.readouterr().err


def test_two_outputs_of_one_name_at_the_same_moment_are_not_one(place, capsys):
    (place / "b").mkdir()
    shutil.copy("data.csv", "b/data.csv")
    with in_use(place / "run"):
        refused(place, capsys, "predict", "run", "b/data.csv")
    assert main(["predict", "run", "data.csv"]) == main(["predict", "run", "b/data.csv"]) == 0
    assert {path.name for path in (place / "run").glob("predictions*")} == {
        "predictions-data.csv",
        "predictions-data-2.csv",
    }


@pytest.mark.parametrize("name", [".lock", "tensorboard/new", "last/new"])
def test_the_names_of_a_training_are_no_output_of_others(place, capsys, name):
    shutil.rmtree(place / "run/last")
    for command in ("predict", "report", "evaluate", "export"):
        message = refused(place, capsys, *WRITING[command], "--output", f"run/{name}")
        assert f"output: run/{name} is the name of a file of the run" in message


def test_every_file_of_a_training_is_one_of_those_names(here):
    assert {path.name for path in (here / "run").iterdir()} <= OF_TRAINING


@pytest.mark.parametrize("target", ["nowhere.csv", "link.csv"])
def test_a_link_that_leads_nowhere_is_not_replaced(place, capsys, target):
    (place / "link.csv").symlink_to(target)
    for command in ("predict", "correct", "report"):
        message = refused(place, capsys, *WRITING[command], "--output", "link.csv")
        assert message == f"output: link.csv is a link to {target}, which does not exist; remove it"


@pytest.mark.parametrize("words", [
    "train loop.csv --trusted_per_class 4",
    "train data.csv --trusted loop.csv",
    "train data.csv --trusted_per_class 4 --true_label_column true --output loop",
    "train data.csv --trusted_per_class 4 --true_label_column true --output loop/run",
    "train data.csv --config loop.yaml",
    "predict loop data.csv",
    "predict run loop.csv",
    "correct run --output loop/labels.csv",
    "evaluate run data.csv --output loop",
    "draw data.csv --output loop",
])  # fmt: skip
def test_a_link_that_leads_to_itself_ends_in_one_message(place, capsys, words):
    for name in ("loop", "loop.csv", "loop.yaml"):
        (place / name).symlink_to(name)
    message = refused(place, capsys, *words.split())
    assert "loop" in message


@pytest.mark.parametrize("command", [*WRITING, "train"])
def test_the_message_of_a_full_disk_names_the_output_and_the_way_out(place, capsys, monkeypatch, command):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    labels = pd.read_csv("run/labels.csv", dtype=str).head(1)
    decisions = labels.assign(decision="skip", label="", suggested_label=labels["corrected_label"])
    decisions.to_csv("decisions.csv", index=False)
    monkeypatch.setattr("os.fsync", full)
    argv = WRITING.get(command, ["train", "data.csv", *TRAIN])
    output = "new.html" if command == "report" else "new.csv" if command in ("predict", "correct") else "new"
    assert main([*argv, "--output", output]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    way_out = "free some space and --resume, or name" if command == "train" else "free some space, or name"
    assert re.search(rf"{output}\b.*: cannot be written: No space left on device; {way_out} another", message)
    assert not [path for path in place.rglob("*") if ".writing-" in path.name]
