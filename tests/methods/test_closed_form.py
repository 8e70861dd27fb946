"""The step in closed form against the same step with autograd, in float64, and where it is taken."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import tiny
from emlc.architectures.dropout import HalfDropout
from emlc.data.loaders import Batch
from emlc.methods.closed_form import closed_form_step

SIZES = (8, 8, 5)
M = 6


def deep(shape):
    first = [nn.Linear(*shape, 9), nn.ReLU(), nn.Linear(9, 8, bias=False)]
    return nn.Sequential(*first, nn.ReLU(), HalfDropout(), nn.Linear(8, 7), nn.Identity())


def noisy_inputs(shape):
    return nn.Sequential(nn.Dropout(0.1), nn.Linear(*shape, 5), nn.ReLU())


def images(shape):
    return nn.Sequential(nn.Linear(shape[-1], 5), nn.ReLU(), nn.Flatten())


DEEP, IMAGES, NOISY = (f"{__name__}:{name}" for name in ("deep", "images", "noisy_inputs"))


def make_method(**changes):
    torch.manual_seed(0)
    defaults = {"teacher": "noise-aware", "backbone": "shallow", "momentum": 0.9, "weight_decay": 0.01}
    settings = tiny.settings(**(defaults | changes))
    return tiny.emlc_in_float64(settings, image=settings.backbone in ("cnn", IMAGES))


def make_batches(k):
    data, sizes = tiny.samples(), [*SIZES[:k], M]
    rows = torch.arange(sum(sizes)).split(sizes)
    return [Batch(data.inputs[r], torch.from_numpy(data.labels)[r], r, len(r)) for r in rows]


@pytest.fixture
def masks_of_values(monkeypatch):
    """Dropout's masks are functions of what they are multiplied with: the two draw them in another order."""
    mask = lambda x: 2 * ((1e3 * x).frac().abs() > 0.5).to(torch.uint8)  # noqa: E731
    monkeypatch.setattr("emlc.architectures.dropout._zeros_and_twos", mask)


WEIGHTS = {"meta_weight": 30.0, "ce_weight": 0.7, "likelihood_weight": 0.3, "anchor_weight": 2.0}


@pytest.mark.usefixtures("masks_of_values")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"look_ahead": 3},
        {"look_ahead": 3, "backbone": DEEP, **WEIGHTS},
        {"look_ahead": 2, "student_trusted": True, "nesterov": True},
        {"meta_weight": 0.0, "teacher_weight_decay": 0.3},
        {"width": 40, **WEIGHTS},
        {"standardize": "components"},
    ],
    ids=str,
)
def test_the_step_is_that_of_autograd(changes):
    closed = make_method(**changes)
    other = deepcopy(closed)
    other._closed_form = None
    *noisy, trusted = make_batches(closed.look_ahead)
    before = deepcopy(closed.teacher.state_dict())
    for _ in range(3):
        losses, expected = closed.step(noisy, trusted), other.step(noisy, trusted)
        assert list(losses) == list(expected)
        torch.testing.assert_close(losses, expected, rtol=1e-13, atol=1e-14)
    for name, network in closed.networks().items():
        torch.testing.assert_close(
            network.state_dict(), other.networks()[name].state_dict(), rtol=1e-13, atol=1e-14
        )
    moved = {
        name for name, value in closed.teacher.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {name for name, _ in closed.teacher.named_parameters()} | {"noisy_shares"}


@pytest.mark.parametrize("backbone", ["shallow", DEEP])
@pytest.mark.parametrize("jvp", ["auto", "forward"])
def test_it_is_taken_where_layers_follow_one_another(backbone, jvp):
    assert make_method(backbone=backbone, jvp=jvp)._closed_form is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "mlp"},
        {"backbone": "cnn"},
        {"backbone": IMAGES},
        {"backbone": NOISY},
        {"teacher_backbone": "mlp"},
        {"teacher": "gate"},
        {"jvp": "double-backward"},
        {"jvp": "finite-difference"},
        {"meta_gradient": "exact"},
        {"save_memory": True},
    ],
    ids=str,
)
def test_all_else_takes_the_step_with_autograd(changes):
    assert make_method(**changes)._closed_form is None


def test_networks_that_standardize_in_another_way_take_the_step_with_autograd():
    method = make_method()
    method.teacher.backbone[0].std.mul_(2)
    assert closed_form_step(method) is None


def test_numbers_that_are_not_finite_end_the_step():
    method = make_method()
    noisy, trusted = make_batches(1)
    noisy.inputs[0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match="look-ahead step 1 of 1: the Jacobian-vector product"):
        method.step([noisy], trusted)
