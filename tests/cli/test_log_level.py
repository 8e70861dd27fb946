"""``--log_level``: messages on standard error, beside results on standard output."""

import re
from pathlib import Path

import pytest
import yaml

from emlc.cli.main import COMMANDS, build_parsers, main

TRAIN = ["train", "data.csv", "--trusted_column", "t", "--test_fraction", "0.2", "--output", "run"]
TRAIN += ["--epochs", "2", "--noisy_batch", "16", "--device", "cpu"]

LABEL_TABLE = "data.csv: columns about labels are not used as features: corrected_label, label_quality"
LEFT_OUT = "data.csv: not used as features: note (constant)"
DOUBTFUL = (
    "note: --test_fraction draws test samples whose labels are as noisy as the others, "
    "so test accuracy is measured against noisy labels"
)
MESSAGES = [
    LABEL_TABLE,
    DOUBTFUL,
    LEFT_OUT,
    "features: a, b",
    "3 classes; samples: 36 noisy, 15 trusted, 9 test",
    "emlc epoch 1/2",
    "emlc epoch 2/2",
]
"""All messages of a training run on these data."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{k % 3}.{k:02},{k % 7},x,{'uvw'[k % 3]},{k < 15},u,0.5" for k in range(60)]
    lines = ["a,b,note,label,t,corrected_label,label_quality", *rows]
    (tmp_path / "data.csv").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ([], MESSAGES),
        (["--log_level", "info"], MESSAGES),
        (["--log-level", "warning"], [DOUBTFUL, LEFT_OUT]),
        (["--log_level=error"], []),
    ],
    ids=["by default", "info", "warning", "error"],
)
def test_the_level_selects_the_messages(here, options, messages, capfd):
    assert main([*TRAIN, *options]) == 0
    out, err = capfd.readouterr()
    assert [re.sub(r"  .*", "", line) for line in err.splitlines()] == messages
    assert out.startswith("run: run\n")  # results are no messages


def test_errors_are_shown_at_every_level(here, capfd):
    assert main([*TRAIN, "--log_level", "error", "--epochs", "0"]) == 2
    assert capfd.readouterr().err == "emlc: error: epochs: expected at least 1, got 0\n"


def test_every_command_has_the_option(capsys):
    parsers = build_parsers()[1]
    assert list(parsers) == list(COMMANDS)
    for name in COMMANDS:
        assert "--log_level" in parsers[name].format_help(), name


def test_an_unknown_level_is_refused(capsys):
    assert main(["presets", "--log_level", "loud"]) == 2
    assert "log_level: expected one of debug, info, warning, error, got 'loud'" in capsys.readouterr().err


def test_a_printed_configuration_may_hold_the_level(here, capsys):
    with pytest.raises(SystemExit):
        main([*TRAIN, "--log_level", "error", "--print_config"])
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["log_level"] == "error"
    Path("c.yaml").write_text(text)
    assert main(["train", "--config", "c.yaml"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["train", "--config", "c.yaml", "--epochs", "none"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("emlc: error: epochs: ")
    assert len(message.splitlines()) == 1  # log_level in the file is no setting, and no problem
