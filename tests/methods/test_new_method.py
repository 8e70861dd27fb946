"""A method that somebody adds: one file, and one line in the registry."""

import sys

import pytest
import torch
from rich.console import Console

import tiny
from emlc import Run, train
from emlc.cli import main
from emlc.config.methods import METHODS
from emlc.errors import InputError

SOURCE = '''\
from dataclasses import dataclass

from torch.nn.functional import cross_entropy

from emlc.config.hyper import Hyper, within
from emlc.methods.base import Losses, Method


@dataclass(frozen=True, kw_only=True)
class ToyHyper(Hyper):
    """Hyper-parameters of the toy.

    Attributes:
        pull: Factor of the loss.
    """

    pull: float = within(0.5, 0, 2)


class Toy(Method):
    """Cross-entropy times a number."""

    name = "toy"
    reference = "Toys for Tests, Nobody et al., 2000"
    hyper_class = ToyHyper
    uses_trusted = False

    def step(self, noisy, trusted) -> Losses:
        (batch,) = noisy
        loss = self.hyper.pull * cross_entropy(self.student(batch.inputs), batch.labels)
        self.descend(loss, self.student_sgd)
        return {"student_loss": loss.detach()}
'''


@pytest.fixture(autouse=True)
def _toy(tmp_path, monkeypatch):
    (tmp_path / "toys_of_tests.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS, "toy", "toys_of_tests:Toy")
    monkeypatch.delitem(sys.modules, "toys_of_tests", raising=False)


def train_toy(folder, **hyper):
    settings = tiny.settings(method="toy", output=str(folder), hyper=hyper)
    return train(settings, tiny.samples(), console=Console(quiet=True))


def test_it_is_trained_from_python_and_loaded_again(tmp_path):
    run = train_toy(tmp_path / "run")
    inputs = tiny.samples().inputs
    again = Run.load(tmp_path / "run", device="cpu")
    assert again.settings.method == "toy"
    assert torch.equal(again.predict_proba(inputs), run.predict_proba(inputs))


def test_its_hyper_parameter_is_what_it_is_said_to_be(tmp_path):
    inputs = tiny.samples().inputs
    default, given, other = (
        train_toy(tmp_path / str(n), **hyper).predict_proba(inputs)
        for n, hyper in enumerate(({}, {"pull": 0.5}, {"pull": 1.5}))
    )
    assert torch.equal(default, given)
    assert not torch.equal(default, other)
    with pytest.raises(InputError, match=r"hyper\.pull: expected at least 0 and at most 2, got 3"):
        tiny.settings(method="toy", hyper={"pull": 3})


def test_it_is_trained_and_refused_by_the_command_line(tmp_path, capsys):
    argv = ["train", "digits", "--trusted_per_class", "3", "--noisy_limit", "60", "--epochs", "1"]
    argv += ["--width", "2", "--device", "cpu", "--method", "toy", "--output", str(tmp_path / "run")]
    assert main([*argv, "--hyper.push", "1"]) == 2
    assert "hyper.push: no hyper-parameter of toy; expected any of pull" in capsys.readouterr().err
    assert main([*argv, "--hyper.pull", "1.5"]) == 0
    assert Run.load(tmp_path / "run", device="cpu").settings.hyper == {"pull": 1.5}


def test_it_is_listed(capsys):
    assert main(["methods"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split(maxsplit=1) == [
        "toy",
        "Toys for Tests, Nobody et al., 2000",
    ]
    assert "toys_of_tests" not in sys.modules  # it is read, not executed
