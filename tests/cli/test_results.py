"""What commands print: escape sequences in names of files and classes never reach the terminal."""

import warnings
from pathlib import Path

import pandas as pd
import pytest

import tiny
from emlc.cli import main
from emlc.errors import EMLCWarning
from emlc.runtime.progress import tracked

EVIL = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
SHOWN = r"a\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
TRAIN = ["--trusted_per_class", "4", "--epochs", "1", "--device", "cpu", "--backbone", "mlp", "--width", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose data, run and classes have escape sequences in their names."""
    place = tmp_path_factory.mktemp("evil")
    data = tiny.samples(prefix="")
    names = pd.Series(data.labels).map({0: EVIL, 1: "[red]b[/x]", 2: "c"})
    table = pd.DataFrame(data.inputs.numpy()).assign(label=names, true=names)
    table.to_csv(place / f"{EVIL}.csv", index=False)
    argv = ["train", f"{place}/{EVIL}.csv", *TRAIN, "--true_label_column", "true"]
    assert main([*argv, "--output", f"{place}/{EVIL}"]) == 0
    return place


COMMANDS = {
    "predict": [EVIL, f"{EVIL}.csv"],
    "correct": [EVIL],
    "evaluate": [EVIL, f"{EVIL}.csv"],
    "report": [EVIL, "--samples", "2", "--map_samples", "0"],
    "export": [EVIL, "--to", "csv"],
    "draw": [f"{EVIL}.csv", "--number", "5", "--output", f"{EVIL}-drawn"],
    "train": [f"{EVIL}.csv", *TRAIN, "--true_label_column", "true", "--output", f"{EVIL}-2"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_escape_sequences_in_names_are_shown_and_not_sent(folder, monkeypatch, capsys, command):
    monkeypatch.chdir(folder)
    assert main([command, *COMMANDS[command]]) == 0
    printed = "".join(capsys.readouterr())
    assert not set(EVIL) - set("a[2J]0;owned31m") & set(printed)
    assert SHOWN in printed.replace("\n", "")


def test_names_in_warnings_are_shown_as_well(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "emlc.cli.methods.run",
        lambda _: shown.append(warnings.formatwarning(EVIL, EMLCWarning, "file.py", 1, "")),
    )
    before = warnings.formatwarning
    assert main(["methods"]) == 0
    assert shown == [f"file.py:1: EMLCWarning: {SHOWN}\n"]
    assert warnings.formatwarning is before


def test_names_in_progress_bars_are_no_markup(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert sum(tracked(iter(range(2000)), f"Writing [/x]{EVIL}", 2000)) == 1999000
    assert "\x1b]0;" not in capsys.readouterr().err


def test_every_result_goes_through_one_function():
    folder = Path(main.__code__.co_filename).parent
    static = {"results.py", "main.py", "methods.py", "presets.py"}
    printing = [f.name for f in folder.glob("*.py") if "print(" in f.read_text().replace(".print(", "")]
    assert set(printing) <= static
