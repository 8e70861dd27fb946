"""Dropout of half of the units, against what dropout is."""

import pytest
import torch
from torch import nn

from emlc.architectures.dropout import HalfDropout

LAYER = HalfDropout()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_half_of_the_units_are_zero_and_the_others_doubled(dtype):
    torch.manual_seed(0)
    y = LAYER(torch.full((1001, 333), 3.0, dtype=dtype))
    assert y.dtype == dtype
    assert y.unique().tolist() == [0, 6]
    kept = (y != 0).double()
    for means in (kept.mean(dim=0), kept.mean(dim=1), kept.flatten()[: 333 * 1000].view(-1, 8).mean(dim=0)):
        deviations = (means - 0.5).abs() / (0.25 * len(means) / kept.numel()) ** 0.5
        assert deviations.max() < 5  # of a normal distribution, less than one in a million


def test_neighbours_and_calls_are_independent():
    torch.manual_seed(0)
    x = torch.ones(2**20)
    first, second = LAYER(x) - 1, LAYER(x) - 1
    for lag in (1, 2, 4, 8, 64):
        assert abs((first[lag:] * first[:-lag]).mean()) < 5 / 2**10
    assert abs((first * second).mean()) < 5 / 2**10


def test_the_generator_decides_and_evaluation_draws_nothing():
    x, results = torch.randn(5, 7), []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(LAYER(x))
    assert torch.equal(*results)
    state = torch.get_rng_state()
    assert torch.equal(HalfDropout().eval()(x), x)
    assert torch.equal(torch.get_rng_state(), state)


def test_its_gradient_is_that_of_the_mask():
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    y = LAYER(x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 2.0))


def test_a_saved_network_with_torchs_dropout_fits():
    networks = [nn.Sequential(nn.Linear(3, 4), layer) for layer in (nn.Dropout(0.5), HalfDropout())]
    networks[1].load_state_dict(networks[0].state_dict())
    x = torch.randn(2, 3)
    assert torch.equal(networks[0].eval()(x), networks[1].eval()(x))
