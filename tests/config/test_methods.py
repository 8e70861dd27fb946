"""The registry of methods, and what settings say of a method and its hyper-parameters."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from emlc.config import Settings
from emlc.config.hyper import Hyper, hyper_problems, within
from emlc.errors import InputErrors

VALID = {"data": "digits", "trusted_per_class": 10}


def problems(**changes):
    with pytest.raises(InputErrors) as caught:
        Settings(**(VALID | changes))
    return caught.value.problems


@pytest.mark.parametrize(("name", "near"), [("mcl", "mlc"), ("mwnet", "mw-net"), ("elrplus", "elr-plus")])
def test_an_unknown_method_is_answered_with_all_and_with_near_ones(name, near):
    (problem,) = problems(method=name, hyper={"skip": True})
    listed, meant = problem.split(f", got {name!r}; did you mean ")
    assert listed.startswith("method: expected one of emlc, cross-entropy, trusted-only, ")
    assert near in meant.removesuffix("?").split(" or ")


def test_a_name_like_no_other_is_answered_with_all():
    (problem,) = problems(method="?")
    assert problem.endswith("mslg, metacleaner, smp, got '?'")


def test_problems_of_the_method_stand_beside_the_others_where_hyper_parameters_are_given():
    assert problems(method="c2d", epochs=0, hyper={"threshold": 2, "treshold": 0.5}) == [
        "epochs: expected at least 1, got 0",
        "hyper.threshold: expected at least 0 and at most 1, got 2",
        "hyper.treshold: no hyper-parameter of c2d; expected any of temperature, mixup_alpha, threshold, "
        "unlabelled_weight, ramp_epochs, averaged_epochs, confidence_penalty",
        "init: c2d starts from weights learned without labels, as `emlc pretrain` writes; got none",
    ]


def test_problems_of_the_method_wait_for_the_others_otherwise():
    assert problems(method="c2d", epochs=0) == ["epochs: expected at least 1, got 0"]


def test_a_method_without_hyper_parameters_says_so():
    (problem,) = problems(method="trusted-only", hyper={"beta": 1})
    assert problem == "hyper.beta: no hyper-parameter of trusted-only; it has none of its own"


@dataclass(frozen=True, kw_only=True)
class Example(Hyper):
    number: float = within(0.5, 0, 1)
    count: int = within(3, 1)
    switch: bool = within(False)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("number", 1.5, "expected at least 0 and at most 1, got 1.5"),
        ("number", float("nan"), "expected at least 0 and at most 1, got nan"),
        ("number", "1", "expected a number, got '1'"),
        ("number", True, "expected float, got True"),
        ("count", 0, "expected at least 1, got 0"),
        ("count", float("inf"), "expected an integer, got inf"),
        ("count", 1.0, "expected an integer, got 1.0"),
        ("switch", 1, "expected bool, got 1"),
    ],
)
def test_a_value_of_another_type_or_range_is_named(name, value, expected):
    assert list(hyper_problems("example", Example, {name: value})) == [f"hyper.{name}: {expected}"]


def test_values_at_the_ends_of_their_ranges_are_allowed():
    for values in ({"number": 0, "count": 1, "switch": True}, {"number": 1, "count": 10**9}):
        assert list(hyper_problems("example", Example, values)) == []


def test_the_package_of_the_methods_imports_none_of_them():
    code = "import sys, emlc.methods; assert not [n for n in sys.modules if n.startswith('emlc.methods.')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
