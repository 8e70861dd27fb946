"""Presets of single methods beside what their hyper-parameters default to."""

from dataclasses import asdict, fields, replace

import pytest
import yaml

import tiny
from emlc.config import Settings
from emlc.config.presets import preset_names, preset_path
from emlc.methods.stages import Stages

PREFIXES = ("pencil-", "joint-optim-", "mslg-", "famus-", "smp-")


def content(preset):
    return yaml.safe_load(preset_path(preset, "train").read_text(encoding="utf-8"))


@pytest.mark.parametrize("preset", [name for name in preset_names("train") if name.startswith(PREFIXES)])
def test_presets_name_every_published_value(preset):
    values = content(preset)
    settings = Settings(**values)
    assert preset.startswith(settings.method)
    assert set(values["hyper"]) == {f.name for f in fields(settings.hyper_parameters)}
    assert settings.output == f"runs/{preset}"
    assert "noise" not in values
    assert values["warm_up_epochs"] > 0


@pytest.mark.parametrize("preset", preset_names("train"))
def test_presets_have_no_settings_of_other_methods(preset):
    given = {"data": "rows.csv", "trusted": "trusted.csv"} if preset == "text" else {}  # the user names them
    assert tiny.without_effect(Settings(**given, **content(preset))) == []


@pytest.mark.parametrize("name", ["pencil", "joint-optim", "mslg", "famus"])
def test_presets_of_cifar_have_the_defaults(name):
    values = content(f"{name}-cifar10")
    settings = Settings(**values)
    defaults = asdict(replace(settings, hyper=None).hyper_parameters)
    assert asdict(settings.hyper_parameters) == pytest.approx(defaults)
    assert replace(settings, warm_up_epochs=None).warm_up == settings.warm_up
    if name in ("pencil", "joint-optim"):
        share = values["hyper"].get("final_share") or values["hyper"]["retraining_share"]
        assert Stages.of(settings, share) == (70, 200)
