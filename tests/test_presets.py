"""Every preset says what the paper's tables say, and trains on data of the shape it is for."""

import re

import pytest
import yaml

from emlc.cli import main
from emlc.config import Settings
from emlc.errors import InputError
from emlc.presets import COMMANDS, preset_names, preset_path, preset_summary

# Table 1 (mean and standard deviation), in the order of its columns.
COLUMNS = (
    *("cifar10-sym20", "cifar10-sym50", "cifar10-sym80", "cifar10-sym90", "cifar10-asym40"),
    *("cifar100-sym20", "cifar100-sym50", "cifar100-sym80", "cifar100-sym90"),
)
TABLE_1 = {
    1: "91.80 0.51  91.16 0.25  90.95 0.24  90.71 0.07  91.81 0.05"
    "  72.48 0.44  67.08 0.35  60.37 0.31  54.04 0.57",
    5: "93.53 0.21  92.63 0.05  89.89 0.07  89.57 0.30  91.82 0.19"
    "  73.05 0.20  68.61 0.34  60.51 0.19  52.49 0.18",
}
HUMAN = ("aggregate", "random1", "worst")

# Table 5, by its rows; and Sec. 4.1: 1,000 balanced trusted images.
CIFAR = {
    "noisy_batch": 128,
    "trusted_batch": 32,
    "epochs": 15,
    "noisy_augmentation": ["flip", "crop"],
    "trusted_augmentation": ["flip", "crop", "autoaugment"],
    "schedule": "constant",
    "momentum": 0.9,
    "weight_decay": 0,
    "learning_rate": 0.02,
}
TABLE_5 = {
    "cifar10": CIFAR | {"backbone": "resnet34", "trusted_per_class": 100},
    "cifar100": CIFAR | {"backbone": "resnet50", "trusted_per_class": 10},
    "clothing1m": {
        "backbone": "resnet50",
        "init": "imagenet",
        "noisy_batch": 1024,
        "trusted_batch": 1024,
        "epochs": 3,
        "noisy_augmentation": [],
        "trusted_augmentation": ["flip", "autoaugment"],
        "schedule": "step",
        "momentum": 0.9,
        "weight_decay": 0,
        "learning_rate": 0.1,
    },
}
METHOD = {
    "gate_hidden_dim": 128,
    "method": "emlc",
    "meta_gradient": "approximate",
    "meta_weight": 1,
    "corruption": "adversarial",
    "warm_up_epochs": 0,
}


def content(name, command="train"):
    return yaml.safe_load(preset_path(name, command).read_text(encoding="utf-8"))


def test_there_is_a_preset_for_every_row():
    rows = [*COLUMNS, *(f"cifar10n-{labels}" for labels in HUMAN), "clothing1m"]
    assert preset_names("train") == sorted(f"{row}-k{k}" for row in rows for k in (1, 5))


@pytest.mark.parametrize("name", preset_names("train"))
def test_every_preset_has_the_values_of_the_paper(name):
    settings = Settings(**content(name)).as_dict()
    row, k = name.rsplit("-k", 1)
    expected = TABLE_5[settings["data"]] | METHOD | {"look_ahead": int(k), "output": f"runs/{name}"}
    if match := re.fullmatch(r"cifar\d+-(a?)sym(\d+)", row):
        kind = "asymmetric" if match[1] else "symmetric"
        expected |= {"noise": kind, "noise_rate": int(match[2]) / 100, "human_labels": None}
    else:
        expected |= {"noise": "none"}
    if row.startswith("cifar10n"):
        expected |= {"data": "cifar10", "human_labels_key": row.partition("-")[2]}
    else:
        expected |= {"data": row.partition("-")[0]}
    assert {key: settings[key] for key in expected} == expected
    assert settings["student_trusted"] == (row == "clothing1m")


@pytest.mark.parametrize("k", TABLE_1)
def test_the_figures_to_expect_are_those_of_table_1(k):
    figures = TABLE_1[k].split("  ")
    for column, figure in zip(COLUMNS, figures, strict=True):
        mean, deviation = figure.split()
        assert preset_summary(f"{column}-k{k}", "train").endswith(
            f", k = {k}: Table 1, expect {mean} ± {deviation} % test accuracy."
        )


def test_what_is_pretrained_is_what_training_starts_from():
    pretrained = {
        (s["data"], s["backbone"]): f"{s['output']}/backbone.safetensors"
        for s in (content(name, "pretrain") for name in preset_names("pretrain"))
    }
    for name in preset_names("train"):
        settings = content(name)
        if settings["data"] != "clothing1m":
            assert settings["init"] == pretrained[settings["data"], settings["backbone"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_preset_is_answered_with_near_ones(command):
    with pytest.raises(InputError, match=rf"`emlc {command}` has no preset 'simclr-cifar10'; did you mean"):
        preset_path("simclr-cifar10", command)


def test_a_preset_is_a_configuration_that_options_win_over(capsys):
    for option in (["--preset", "cifar10-asym40-k5"], ["--preset=cifar10-asym40-k5"]):
        with pytest.raises(SystemExit):
            main(["train", *option, "--epochs", "4", "--print_config"])
        printed = yaml.safe_load(capsys.readouterr().out)
        expected = content("cifar10-asym40-k5") | {"epochs": 4}
        del expected["data"]  # given beside the options
        assert {key: printed[key] for key in expected} == expected


def test_all_problems_beside_a_preset_are_reported(capsys):
    options = ["--preset", "cifar10-sym20-k1", "--epochs", "0", "--noise_rates", "1", "--workers", "two"]
    assert main(["train", *options]) == 2
    message = capsys.readouterr().err
    for problem in (
        "epochs: expected at least 1",
        "noise_rates: no such setting",
        "workers: expected an integer",
    ):
        assert problem in message
    assert main(["train", "--preset", "cifar10-sym20-k3"]) == 2
    assert "no preset 'cifar10-sym20-k3'; did you mean cifar10-sym20-k" in capsys.readouterr().err


def test_presets_are_listed(capsys):
    assert main(["presets"]) == 0
    listed = capsys.readouterr().out
    for command in COMMANDS:
        for name in preset_names(command):
            assert re.search(rf"^  {name} +{re.escape(preset_summary(name, command))}$", listed, re.M)
