"""What every method owes the training loop, the run's directory, and who asks it for what it has not."""

import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from short_runs import SMALL, needs_images, settings, trained, two_classes, untrained

import tiny
from emlc import Run, train
from emlc.cli import main
from emlc.config import Settings
from emlc.config.methods import METHODS, method_class
from emlc.errors import InputError
from emlc.exports import export
from emlc.methods.base import OF_SOME_METHODS
from emlc.runtime.distributed import start_ranks

DOCUMENTATION = (Path(__file__).parents[2] / "docs/methods.md").read_text(encoding="utf-8")

PROMISED = {
    name: holds
    for names, holds in re.findall(r"^\| (`.+?`) \|.*\| (.*?) ?\|$", DOCUMENTATION, re.M)
    for name in re.findall(r"`(.+?)`", names)
}
"""What each method holds of every noisy sample, by the table of its documentation."""

QUIET = Console(quiet=True)


@pytest.fixture(params=list(METHODS))
def name(request):
    return request.param


def test_the_small_settings_and_the_documentation_are_of_the_methods_there_are():
    assert set(SMALL) <= set(METHODS) <= set(PROMISED)


def test_it_is_listed_by_its_name_with_its_reference(name, capsys):
    kind = method_class(name)
    assert kind.name == name
    assert kind.reference
    assert main(["methods"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert listed[name] == kind.reference


def test_its_hyper_parameters_are_documented_and_their_defaults_in_range(name):
    hyper = method_class(name).hyper_class
    defaults = vars(hyper())
    assert settings(name, hyper=defaults).hyper_parameters == hyper()
    for field in defaults:
        assert any(f"        {field}: " in (base.__doc__ or "") for base in hyper.__mro__)


class NotedSettings(Settings):
    """Settings that note which of them methods and networks read."""

    read: ClassVar[set[str]] = set()

    def __getattribute__(self, name):
        if sys._getframe(1).f_globals["__name__"].startswith(("emlc.methods.", "emlc.networks.")):
            names = {"warm_up": "warm_up_epochs", "teacher_rate": "teacher_learning_rate"}
            self.read.add(names.get(name, name))
        return super().__getattribute__(name)


def test_it_tells_which_settings_of_others_it_does_not_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr(NotedSettings, "read", set())
    monkeypatch.setattr(tiny, "Settings", NotedSettings)
    method, _ = trained(tmp_path, name)
    read = NotedSettings.read & set(OF_SOME_METHODS)
    idle = set(method.idle_settings(settings(name, warm_up_epochs=1)))
    assert idle <= set(OF_SOME_METHODS)
    if name == "emlc":  # which reads weights of losses that the other teacher has
        idle -= read
    assert read == set(OF_SOME_METHODS) - idle


# It trains


@pytest.mark.parametrize("kind", ["features", "images", "bf16"])
def test_it_trains(name, kind, tmp_path):
    """The images are of two classes, of which a trusted batch may lack one."""
    changes = {"width": 3, "noisy_batch": 14}  # of 63 and of 30: the last batch is smaller
    if kind == "images":
        changes |= {"samples": two_classes(), "trusted_per_class": 2, "trusted_batch": 4}
    precision = "bf16-mixed" if kind == "bf16" else "float32"
    method, history = trained(tmp_path, name, precision=precision, **changes)
    assert len(history) == 3
    assert all(np.isfinite(value) for row in history for value in row.values())
    before, split = untrained(name, **changes)
    assert not tiny.same_tensors(before.student.state_dict(), method.student.state_dict())
    assert len(split.noisy) % 14 not in (0, 1)

    soft_labels, weights = method.estimate()
    if soft_labels is not None:
        assert soft_labels.shape == (len(split.noisy), len(split.classes))
        assert soft_labels.min() >= 0
        torch.testing.assert_close(soft_labels.sum(dim=1), torch.ones(len(split.noisy)))
    if weights is not None:
        assert weights.shape == (len(split.noisy),)
        assert 0 <= weights.min() <= weights.max() <= 1


def test_an_interrupted_run_ends_with_the_same_bits(name, tmp_path):
    """Stopped within its second epoch, at the end of it, and within the third.

    It goes on from other random weights than it began with: those that matter are in the checkpoint.
    """
    changes = {"samples": two_classes(), "trusted_per_class": 2, "trusted_batch": 4, "width": 2}
    changes |= {"noisy_batch": 8, "checkpoint_every": 1}
    whole, history = trained(tmp_path / "whole", name, **changes)
    an_epoch = int(history[0]["steps"])
    assert an_epoch >= 2
    for life, steps in enumerate((an_epoch + 1, an_epoch - 1, 1)):
        trained(tmp_path / "parts", name, interrupted_after=steps, initial_seed=life, **changes)
    resumed, its_history = trained(tmp_path / "parts", name, initial_seed=9, **changes)

    for row, other in zip(history, its_history, strict=True):
        assert row | {"seconds": 0} == other | {"seconds": 0}
    for network, its_network in zip(whole.networks().values(), resumed.networks().values(), strict=True):
        assert tiny.same_tensors(its_network.state_dict(), network.state_dict())
    for table, other in zip(whole.sample_state().values(), resumed.sample_state().values(), strict=True):
        torch.testing.assert_close(other, table, rtol=0, atol=0, equal_nan=True)
    files = sorted(path.relative_to(tmp_path / "whole") for path in tmp_path.glob("whole/*/*.safetensors"))
    assert Path("last/student.safetensors") in files
    for file in files:
        assert tiny.same_tensors(*(load_file(tmp_path / run / file) for run in ("parts", "whole"))), file


# It leaves a run


@pytest.fixture
def run(name, tmp_path, monkeypatch):
    """A finished run, on features if the method learns from them, in ``tmp_path / "run"``."""
    monkeypatch.setattr("emlc.runs.results.plots.save_run_plots", lambda *_: None)
    changes = {"output": str(tmp_path / "run")}
    if name == "c2d":
        changes["init"] = str(tmp_path / "backbone.safetensors")
        save_file(untrained("cross-entropy")[0].student.backbone.state_dict(), changes["init"])
    image = needs_images(name)
    samples, test = tiny.samples(image=image), tiny.unlike(30, 3, image=image)
    return train(settings(name, **changes), samples, test=test, console=QUIET)


def test_its_run_is_read_and_exported_with_what_its_documentation_promises(name, run, tmp_path):
    holds, samples = PROMISED[name], tiny.split(run.settings, image=needs_images(name)).noisy
    assert (run.folder / "labels.csv").exists() == ("corrected label" in holds)
    assert (run.folder / "weights.csv").exists() == (holds == "weight")
    if holds:
        table = pd.read_csv(run.folder / ("weights.csv" if holds == "weight" else "labels.csv"))
        assert table["id"].tolist() == samples.ids.tolist()
        assert bool({"weight", "retain_weight"} & set(table)) == ("weight" in holds)

    loaded = Run.load(tmp_path / "run", device="cpu")
    export(loaded, "safetensors", tmp_path / "model")
    probabilities = run.predict_proba(samples.inputs)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(samples)))
    for other in (loaded, Run.load(tmp_path / "model", device="cpu")):
        assert torch.equal(other.predict_proba(samples.inputs), probabilities)


def test_its_run_corrects_further_labels_with_a_teacher_only(name, run):
    assert (run.teacher is not None) == (name == "emlc")
    samples = tiny.unlike(9, 5)
    if run.teacher is not None:
        assert run.correct_labels(samples)["id"].tolist() == samples.ids.tolist()
        return
    with pytest.raises(InputError, match=rf"{name} (corrects no|has corrected the) labels.*train with emlc"):
        run.correct_labels(samples)


# It refuses


@pytest.mark.parametrize("name", [name for name in METHODS if needs_images(name)])
def test_features_are_refused_where_it_needs_images(name, tmp_path):
    pixels = method_class(name).needs_images
    message = f"method: {name} {pixels}, but the samples are rows of features; give it images, with --image"
    with pytest.raises(InputError, match=message):
        train(settings(name, output=str(tmp_path / "run"), backbone="auto"), tiny.samples(), console=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_hyper_parameter_that_it_does_not_have_is_named(name):
    with pytest.raises(InputError, match=rf"hyper\.not_one: no hyper-parameter of {name}; (expected|it has)"):
        settings(name, hyper={"not_one": 1})


def test_several_processes_are_refused_but_where_it_can_train_in_them(name, tmp_path, monkeypatch):
    (documented,) = re.findall(r"Only\s+([^.]*?)\s+train in several processes", DOCUMENTATION)
    joint = re.findall(r"`(.+?)`", documented)
    assert method_class(name).joint == (name in joint)
    if name in joint:
        return
    ranks = start_ranks("cpu")
    monkeypatch.setattr(ranks, "size", 2)
    monkeypatch.setattr(ranks, "errors_everywhere", nullcontext)
    monkeypatch.setattr("emlc.runs.train.start_ranks", lambda _: ranks)
    monkeypatch.setattr("emlc.runs.train.check_initial_weights", lambda _: None)
    with pytest.raises(
        InputError, match=f"{name} trains in one process only; several processes can train {', '.join(joint)}"
    ):
        train(settings(name, output=str(tmp_path / "run")), tiny.samples(), console=QUIET)
    assert not (tmp_path / "run").exists()
