"""Two processes against one, on gloo."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import joint_pretraining
import several
import tiny
from emlc.cli import main


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    several.in_two_processes(joint_pretraining.run_all, folder)
    return folder


@pytest.mark.parametrize("case", joint_pretraining.CASES)
def test_two_processes_pretrain_like_one_with_the_joint_batch(case, of_two_processes, tmp_path):
    joint_pretraining.run(case, tmp_path / "alone", tiny.ALONE)
    assert_same(tmp_path / "alone", of_two_processes / case)


def assert_same(alone, joint):
    for name in ("backbone", "head"):
        expected = load_file(alone / f"{name}.safetensors")
        for key, tensor in load_file(joint / f"{name}.safetensors").items():
            torch.testing.assert_close(tensor, expected[key], rtol=1e-9, atol=1e-9)
    one, two = (torch.load(folder / "told.pt", weights_only=True) for folder in (alone, joint))
    assert two[0]["contrastive_loss"] == pytest.approx(one[0]["contrastive_loss"], rel=1e-6)
    assert two[1] == one[1]


def test_another_number_of_processes_goes_on(of_two_processes, tmp_path):
    begun = shutil.copytree(of_two_processes / "interrupted", tmp_path / "begun")
    assert not (begun / "backbone.safetensors").exists()
    joint_pretraining.run("batch norm", begun, tiny.ALONE)
    assert_same(begun, of_two_processes / "batch norm")


def test_the_command_line_starts_several_processes(tmp_path):
    argv = ["pretrain", "digits", "--device", "cpu", "--width", "4", "--precision", "float32"]
    argv += ["--noisy_limit", "60", "--batch", "30", "--epochs", "2"]
    assert main([*argv, "--output", str(tmp_path / "1")]) == 0
    with several.forked_ranks(tmp_path / "logs"):
        assert main([*argv, "--devices", "2", "--output", str(tmp_path / "2")]) == 0
    one, two = (json.loads((tmp_path / n / "summary.json").read_text()) for n in "12")
    assert two["processes"] == 2
    assert two["contrastive_loss"] == pytest.approx(one["contrastive_loss"], abs=1e-3)
