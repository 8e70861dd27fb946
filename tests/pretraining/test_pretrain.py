"""`emlc pretrain`: what a run leaves, that it goes on exactly, and what it says of bad input."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file

import tiny
from emlc.cli import main
from emlc.config import PretrainSettings
from emlc.data import Samples
from emlc.errors import InputError
from emlc.networks.backbones import build_backbone
from emlc.networks.inference import represent
from emlc.pretraining import pretrain
from emlc.pretraining.probe import knn_accuracy
from emlc.runs.reporters import RunReporter

SMALL = {"width": 4, "epochs": 2, "batch": 16, "projection_dim": 8, "device": "cpu"}
QUIET = Console(quiet=True)
OPTIONS = [f"--{name}={value}" for name, value in SMALL.items()]


def settings(folder, **values):
    return PretrainSettings(**(SMALL | {"output": str(folder)} | values))


def images(n=40):
    return tiny.samples(n, image=True)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A finished run on digits, by the command line."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    options = ["--width", "8", "--epochs", "8", "--device", "cpu", "--output", str(folder)]
    assert main(["pretrain", "digits", "--trusted_per_class", "10", *options]) == 0
    return folder


# What a run leaves


def test_the_loss_falls_and_the_features_get_better(digits):
    metrics = pd.read_csv(digits / "metrics.csv")
    assert list(metrics["epoch"]) == [*range(1, 9)]
    assert metrics["contrastive_loss"].iloc[-1] < metrics["contrastive_loss"].iloc[0] - 0.3
    summary = json.loads((digits / "summary.json").read_text())
    assert summary["images"] == 1797 - 450  # without the test quarter
    assert summary["linear_accuracy"] > summary["linear_accuracy_before"] + 3
    assert summary["knn_accuracy"] > summary["knn_accuracy_before"] + 3
    assert summary["knn_accuracy"] == metrics["knn_accuracy"].iloc[-1]


def test_the_exported_backbone_is_the_one_that_was_probed(digits):
    samples = Samples.from_arrays(np.zeros((2, 1, 8, 8), np.uint8))
    backbone, _ = build_backbone("cnn", samples.inputs, 8)
    backbone.load_state_dict(load_file(digits / "backbone.safetensors"))  # every tensor, no other
    from emlc.pretraining.images import read_images

    values = yaml.safe_load((digits / "settings.yaml").read_text())
    inputs, trusted = read_images(PretrainSettings(**values))
    summary = json.loads((digits / "summary.json").read_text())
    features = represent(backbone, trusted.inputs)
    assert knn_accuracy(features, trusted.labels) == pytest.approx(summary["knn_accuracy"], abs=1e-3)
    standardize = backbone[0]
    assert standardize.mean.item() == pytest.approx((inputs / 255).mean().item(), abs=0.01)
    with safe_open(digits / "backbone.safetensors", "pt") as file:
        assert file.metadata() == {
            "backbone": "auto",
            "stem": "auto",
            "width": "8",
            "input_shape": "1x8x8",
            "pretrained": "SimCLR, 8 epochs",
        }


def test_the_directory_is_complete(digits):
    names = {"backbone.safetensors", "settings.yaml", "metrics.csv", "summary.json", "checkpoint.pt"}
    assert names | {"pretraining.png", "tensorboard"} == {path.name for path in digits.iterdir()}


def test_what_is_told(tmp_path, capsys):
    pretrain(settings(tmp_path / "run"), images(), trusted=images(10))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "50 images of 1 x 8 x 8; 10 trusted ones to probe the features on"
    assert lines[1].startswith("features before pretraining: nearest neighbours ")
    assert [line.split("  ")[0] for line in lines[2:4]] == ["simclr epoch 1/2", "simclr epoch 2/2"]
    assert all("loss " in line and "nearest neighbours " in line for line in lines[2:4])
    assert lines[4].startswith("features after pretraining: nearest neighbours ")
    pretrain(settings(tmp_path / "other"), images())
    assert "features before pretraining: not probed" in capsys.readouterr().err


def test_a_trusted_mask_says_what_to_probe_on(tmp_path):
    samples = images()
    marked = Samples(**(vars(samples) | {"trusted": np.arange(40) < 12}))
    run = pretrain(settings(tmp_path / "run"), marked, console=QUIET)
    other = pretrain(
        settings(tmp_path / "other"),
        samples.take(np.arange(12, 40)),
        trusted=samples.take(np.arange(12)),
        console=QUIET,
    )
    assert run.summary["images"] == other.summary["images"] == 40
    for name in ("knn_accuracy_before", "linear_accuracy_before"):
        assert run.summary[name] == other.summary[name]


def test_the_default_directory_names_data_and_backbone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("photos.npz", X=images(20).inputs.numpy())
    assert main(["pretrain", "photos.npz", *OPTIONS]) == 0
    assert (tmp_path / "runs" / "pretrain-photos-cnn" / "backbone.safetensors").exists()


@pytest.mark.parametrize("values", [{"precision": "bf16-mixed"}, {"optimizer": "lars"}, {"backbone": "mlp"}])
def test_other_ways_to_pretrain(tmp_path, values):
    run = pretrain(settings(tmp_path / "run", **values), images(), console=QUIET)
    assert np.isfinite(run.summary["contrastive_loss"])
    assert {tensor.dtype for tensor in load_file(run.backbone).values()} <= {torch.float32, torch.int64}


# The same again


def timeless(folder):
    metrics = pd.read_csv(folder / "metrics.csv").drop(columns="seconds")
    return load_file(folder / "backbone.safetensors"), metrics


def assert_equal(one, other):
    (weights, metrics), (others, other_metrics) = timeless(one), timeless(other)
    assert tiny.same_tensors(weights, others)
    pd.testing.assert_frame_equal(metrics, other_metrics)


class Stopped(Exception):
    pass


# 50 images in batches of 16: 3 steps an epoch; the checkpoints are at 2, 3, 4, 6, 8 and 9.
@pytest.mark.parametrize("step", [1, 2, 3, 5, 9])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(step, tmp_path, monkeypatch):
    values = {"epochs": 3, "checkpoint_every": 2, "backbone": "cnn"}
    torch.manual_seed(1)
    pretrain(settings(tmp_path / "whole", **values), images(), trusted=images(10), console=QUIET)

    def stop(self, progress):
        if progress.steps == step:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(RunReporter, "on_step", stop)
        with pytest.raises(Stopped):
            pretrain(settings(tmp_path / "run", **values), images(), trusted=images(10), console=QUIET)
    assert not (tmp_path / "run" / "backbone.safetensors").exists()
    torch.manual_seed(2)
    go_on = settings(tmp_path / "run", **values)
    pretrain(go_on, images(), trusted=images(10), resume=True, console=QUIET)
    assert_equal(tmp_path / "run", tmp_path / "whole")


def test_a_finished_run_stays_as_it_is(tmp_path):
    pretrain(settings(tmp_path / "run"), images(), console=QUIET)
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    pretrain(settings(tmp_path / "run"), images(), resume=True, console=QUIET)
    assert_equal(tmp_path / "run", tmp_path / "before")


def test_the_seed_decides(tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        pretrain(settings(tmp_path / name, seed=seed), images(), console=QUIET)
    assert_equal(tmp_path / "one", tmp_path / "same")
    assert not tiny.same_tensors(timeless(tmp_path / "one")[0], timeless(tmp_path / "other")[0])


# Bad input


def refused(argv, capsys):
    """The message of a command that must end with exit status 2."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "1"], "batch: expected at least 2, got 1"),
        (["--temperature", "0"], "temperature: expected more than 0"),
        (["--smallest_crop", "0"], "smallest_crop: expected more than 0 and at most 1, got 0"),
        (["--smallest_crop", "1.5"], "smallest_crop: expected more than 0 and at most 1, got 1.5"),
        (["--colour_strength", "2"], "colour_strength: expected between 0 and 1, got 2"),
        (["--projection_dim", "0"], "projection_dim: expected between 1 and"),
        (["--views", "[zoom]"], "views: "),
        (["--views", "[]"], "views: expected at least one"),
        (
            ["--optimizer", "lars", "--weight_decay", "0"],
            "weight_decay: optimizer lars needs a value above 0",
        ),
        (["--optimizer", "adam"], "optimizer: "),
        (["--epochs", "3", "--warm_up_epochs", "3"], "warm_up_epochs: expected fewer than epochs (3), got 3"),
        (["--trusted", "t.csv", "--trusted_column", "t"], "give at most one, got trusted and trusted_column"),
        (["--validation_fraction", "0.5"], "validation_fraction: needs trusted samples"),
        (["--test", "t.csv", "--test_fraction", "0.5"], "test and test_fraction: give one of the two"),
        (["--device", "gpu"], "device: expected auto, cpu, cuda or cuda:N"),
        (["--look_ahead", "5"], "look_ahead: no such setting"),
    ],
)
def test_settings_that_are_refused(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").touch()
    assert message in refused(["pretrain", "digits", *options], capsys)


def test_all_problems_are_told_together(capsys):
    message = refused(["pretrain", "digits", "--batch", "1", "--temperature", "-1", "--width", "0"], capsys)
    assert "3 problems" in message


def test_settings_come_from_a_file(tmp_path, capsys):
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({"data": "digits", "batch": 1}))
    assert "batch: expected at least 2" in refused(["pretrain", "--config", config], capsys)
    written = PretrainSettings(data="digits", batch=64, views=["crop"])
    config.write_text(yaml.safe_dump(written.as_dict()))
    assert PretrainSettings(**yaml.safe_load(config.read_text())) == written


def test_data_that_are_refused(tmp_path, capsys):
    options = ["--output", tmp_path / "run"]
    assert "DATA is missing" in refused(["pretrain", *options], capsys)
    assert "no such file or folder" in refused(["pretrain", tmp_path / "none.csv", *options], capsys)
    pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}).to_csv(tmp_path / "rows.csv", index=False)
    assert "the samples are rows of numbers" in refused(["pretrain", tmp_path / "rows.csv", *options], capsys)
    assert "has no weights to pretrain" in refused(
        ["pretrain", "digits", "--backbone", "linear", *options], capsys
    )
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_overwritten_nor_mixed(tmp_path, capsys):
    run = ["pretrain", "digits", *OPTIONS, "--noisy_limit", "20", "--output", tmp_path / "run"]
    assert main([str(word) for word in run]) == 0
    assert "holds a run already" in refused(run, capsys)
    assert "temperature was 0.5, now 0.1" in refused([*run, "--resume", "--temperature", "0.1"], capsys)
    (tmp_path / "run" / "backbone.safetensors").unlink()  # else it is finished
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"broken")
    assert "not a checkpoint of this run" in refused([*run, "--resume"], capsys)


def test_without_lightly_there_is_a_hint(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lightly", None)
    assert "pip install 'emlc[pretrain]'" in refused(["pretrain", "digits"], capsys)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, capsys):
    argv = ["pretrain", "digits", *OPTIONS, "--learning_rate", "1e30", "--output", tmp_path / "run"]
    assert "contrastive_loss is not finite in epoch 1: lower learning_rate" in refused(argv, capsys)


def test_sources_and_samples_in_memory_do_not_mix(tmp_path):
    with pytest.raises(InputError, match="give samples in memory or name their source, not both"):
        pretrain(settings(tmp_path / "run", data="digits"), images(), console=QUIET)
    with pytest.raises(InputError, match="trusted samples in memory go with data in memory"):
        pretrain(settings(tmp_path / "run", data="digits"), trusted=images(), console=QUIET)
