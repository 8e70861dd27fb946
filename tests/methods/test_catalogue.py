"""Every method has an entry, is listed, and trains on whatever it is given."""

from typing import get_args

import pytest
import torch

import tiny
from emlc.cli import main
from emlc.config.methods import CATALOGUE, MethodName, hyper_parameters
from emlc.errors import InputError
from emlc.methods import METHODS
from emlc.runs.fit import fit
from emlc.runs.reporters import QuietReporter
from emlc.runtime.distributed import start_ranks


def test_the_lists_of_methods_agree():
    assert list(CATALOGUE) == list(METHODS) == list(get_args(MethodName))


def test_methods_are_listed_with_what_they_are_from(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CATALOGUE)
    for line, facts in zip(lines, CATALOGUE.values(), strict=True):
        assert line.endswith(facts.reference)


def test_what_a_method_does_not_have_is_named():
    with pytest.raises(InputError) as error:
        tiny.settings(method="fine-tuning", hyper={"fine_tuned": 0.5, "fine_tuned_share": 2.0})
    assert "hyper.fine_tuned: no hyper-parameter of fine-tuning; expected any of fine_tuned_share" in str(
        error.value
    )
    assert "hyper.fine_tuned_share: expected at least 0 and at most 1, got 2.0" in str(error.value)
    with pytest.raises(InputError, match="no hyper-parameter of trusted-only; it has none of its own"):
        hyper_parameters("trusted-only", {"beta": 1})


@pytest.mark.parametrize("name", list(METHODS))
def test_hyper_parameters_are_documented_and_in_range(name):
    hyper = CATALOGUE[name].hyper
    defaults = vars(hyper())
    assert hyper_parameters(name, defaults) == hyper()
    for field in defaults:
        assert any(f"        {field}: " in (base.__doc__ or "") for base in hyper.__mro__)


@pytest.mark.parametrize("kind", ["features", "images", "bf16"])
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_trains_on_features_and_on_images(name, kind, tmp_path):
    settings = tiny.settings(method=name, output=str(tmp_path), epochs=4, width=3)
    split = tiny.split(settings, image=kind == "images")
    ranks = start_ranks("cpu", "bf16-mixed") if kind == "bf16" else tiny.ALONE
    torch.manual_seed(0)
    method = METHODS[name](settings, split.noisy.inputs, 3)
    before = [p.detach().clone() for p in method.student.parameters()]
    history = fit(method, split, settings, QuietReporter(), tmp_path, ranks).history
    assert len(history) == 4
    assert any(not torch.equal(p, q) for p, q in zip(method.student.parameters(), before, strict=True))
    found = method.estimate()
    if found.soft_labels is not None:
        torch.testing.assert_close(found.soft_labels.sum(dim=1), torch.ones(len(split.noisy)))
    if found.weights is not None:
        assert found.weights.shape == (len(split.noisy),)
        assert ((found.weights >= 0) & (found.weights <= 1)).all()
