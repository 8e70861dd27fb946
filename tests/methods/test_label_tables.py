"""Methods that keep a table of labels or weights: an interrupted run goes on with the very bits."""

from dataclasses import asdict, fields, replace

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tiny
from emlc.config import Settings
from emlc.config.presets import preset_names, preset_path
from emlc.methods import METHODS
from emlc.methods.stages import Stages
from emlc.runs.fit import fit
from emlc.runs.reporters import QuietReporter

# Three epochs of four steps: warm-up, correction, and the last stage of those that have one.
NAMES = {
    "pencil": {"final_share": 0.34},
    "joint-optim": {"retraining_share": 0.34, "averaged_epochs": 2},
    "mslg": {"label_learning_rate": 60.0},
    "famus": {"meta_learning_rate": 0.01},
    "smp": {"prototypes": 3},
}
PREFIXES = tuple(f"{name}-" for name in NAMES)


def train(folder, name, epochs=3):
    settings = tiny.settings(
        method=name, epochs=epochs, warm_up_epochs=epochs // 3, hyper=NAMES[name], checkpoint_every=1
    )
    split = tiny.split(tiny.settings())
    torch.manual_seed(settings.seed)
    method = METHODS[name](settings, split.noisy.inputs, 3)
    if not (folder / "checkpoint.pt").exists():  # as at the beginning of a run from initial weights
        with torch.no_grad():
            method.student[-1].bias.add_(0.5)
    history = fit(method, split, settings, QuietReporter(), folder, tiny.ALONE).history
    return history, {path.name: load_file(path) for path in (folder / "last").glob("*.safetensors")}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [5, 9])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, monkeypatch, name, steps):
    kind, taken = METHODS[name], 0
    original = kind.step

    def step(*arguments):
        nonlocal taken
        taken += 1
        if taken > steps:
            raise tiny.InterruptedRun
        return original(*arguments)

    history, whole = train(tmp_path / "whole", name)
    monkeypatch.setattr(kind, "step", step)
    with pytest.raises(tiny.InterruptedRun):
        train(tmp_path / "run", name)
    monkeypatch.undo()
    resumed, last = train(tmp_path / "run", name)
    assert [row["student_loss"] for row in resumed] == [row["student_loss"] for row in history]
    assert whole.keys() == last.keys()
    assert "samples.safetensors" in last
    for file, tensors in whole.items():
        assert tiny.same_tensors(tensors, last[file]), file


@pytest.mark.parametrize("name", NAMES)
def test_a_run_learns_and_holds_labels_or_weights(tmp_path, name):
    history, last = train(tmp_path, name, epochs=12)
    held = last["samples.safetensors"]
    assert history[-1]["trusted_accuracy"] > 60
    if "soft_labels" in held:
        assert held["soft_labels"].shape == (63, 3)
        assert held["soft_labels"].min() >= 0
        torch.testing.assert_close(held["soft_labels"].sum(dim=1), torch.ones(63))
    else:
        assert held["weights"].shape == (63,)
        assert 0 <= held["weights"].min() <= held["weights"].max() <= 1


@pytest.mark.parametrize(("name", "rate"), [("pencil", 0.2 / 0.06), ("joint-optim", 0.2 / 0.08)])
def test_the_last_stage_has_a_learning_rate_of_its_own(tmp_path, name, rate):
    history, _ = train(tmp_path, name)
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.1 * rate])
    assert [row["warm_up"] for row in history] == [1, 0, 0]


def test_a_short_run_has_an_epoch_of_correction():
    for epochs, warm_up, share, expected in (
        (320, 70, 120 / 320, (70, 200)),
        (2, 1, 0.375, (1, 2)),
        (1, 0, 0.9, (0, 1)),
        (10, 8, 0.5, (8, 9)),
        (10, 2, 0.0, (2, 10)),
    ):
        settings = tiny.settings(method="pencil", epochs=epochs, warm_up_epochs=warm_up)
        assert Stages.of(settings, share) == expected


@pytest.mark.parametrize("preset", [name for name in preset_names("train") if name.startswith(PREFIXES)])
def test_presets_name_every_published_value(preset):
    values = yaml.safe_load(preset_path(preset, "train").read_text(encoding="utf-8"))
    settings = Settings(**values)
    assert preset.startswith(settings.method)
    assert set(values["hyper"]) == {f.name for f in fields(settings.hyper_parameters)}
    assert settings.output == f"runs/{preset}"
    assert "noise" not in values
    assert values["warm_up_epochs"] > 0


def test_presets_of_cifar_have_the_defaults():
    for name in ("pencil", "joint-optim", "mslg", "famus"):
        values = yaml.safe_load(preset_path(f"{name}-cifar10", "train").read_text(encoding="utf-8"))
        settings = Settings(**values)
        own = asdict(replace(settings, hyper=None).hyper_parameters)
        assert asdict(settings.hyper_parameters) == pytest.approx(own)
        assert replace(settings, warm_up_epochs=None).warm_up == settings.warm_up
        if name in ("pencil", "joint-optim"):
            share = values["hyper"].get("final_share") or values["hyper"]["retraining_share"]
            assert Stages.of(settings, share) == (70, 200)
