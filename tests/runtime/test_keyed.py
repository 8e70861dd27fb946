import numpy as np
import pytest
import torch
from scipy import stats

from emlc.runtime.keyed import uniforms

N = 20_000
ITEMS = torch.arange(N)


def test_splitmix64_gives_its_published_numbers():
    """Reference outputs of the generator for the seed 1234567 (Vigna's splitmix64.c)."""
    from emlc.runtime.keyed import _GAMMA, _mix, _signed

    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = torch.tensor([_signed(1234567 + k * _GAMMA) for k in range(1, 6)])
    assert [z % 2**64 for z in _mix(states).tolist()] == published


def one_by_one(key, item, draws):
    """The definition, with Python's unbounded integers."""

    def mix(z):
        z %= 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    gamma, state = 0x9E3779B97F4A7C15, 0
    for word in (len(key), *key, item):
        state = mix((state ^ (word % 2**64)) + gamma)
    return [(mix(state + (d + 1) * gamma) >> 40) / 2**24 for d in range(draws)]


@pytest.mark.parametrize("key", [(), (0,), (7, 1), (2**63 - 1, 0, 5), (-1, -(2**63))])
def test_tensors_agree_with_unbounded_integers(key):
    items = [0, 1, -1, 12345, 2**63 - 1, -(2**63)]
    expected = torch.tensor([one_by_one(key, item, 3) for item in items], dtype=torch.float64)
    assert torch.equal(uniforms(key, torch.tensor(items), 3).double(), expected)


def test_an_item_gets_its_numbers_in_any_batch_and_order():
    all_at_once = uniforms((3, 1), ITEMS[:500], 8)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(500))
    assert torch.equal(uniforms((3, 1), shuffled, 8), all_at_once[shuffled])
    assert torch.equal(uniforms((3, 1), ITEMS[17:18], 8)[0], all_at_once[17])
    assert torch.equal(uniforms((3, 1), ITEMS[:500], 3), all_at_once[:, :3])


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    uniforms((0,), ITEMS, 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_form():
    numbers = uniforms((0,), ITEMS, 4)
    assert numbers.shape == (N, 4)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert uniforms((0,), ITEMS[:0], 4).shape == (0, 4)


@pytest.mark.parametrize("items", [ITEMS, ITEMS * 2**32, -ITEMS], ids=["close", "far", "negative"])
def test_numbers_are_uniform(items):
    """The limits are p-values of 1e-4; the numbers are fixed, so this does not fail by chance."""
    for numbers in uniforms((0, 1), items, 3).T.double().numpy():
        assert stats.kstest(numbers, "uniform").pvalue > 1e-4
        assert stats.chisquare(np.bincount((numbers * 256).astype(int), minlength=256)).pvalue > 1e-4
        low_bits = (numbers * 2**24).astype(int) % 256
        assert stats.chisquare(np.bincount(low_bits, minlength=256)).pvalue > 1e-4


def test_keys_items_and_draws_are_independent():
    columns = [
        *uniforms((0, 1), ITEMS, 4).T,
        *uniforms((1, 1), ITEMS, 2).T,
        *uniforms((0, 2), ITEMS, 2).T,
        *uniforms((1, 0), ITEMS, 2).T,
        *uniforms((0, 1, 0), ITEMS, 2).T,
        *uniforms((0, 1), ITEMS + 1, 4).T,
    ]
    table = torch.stack(columns).double().numpy()
    same = np.array([[np.array_equal(a, b) for b in table] for a in table])
    assert np.array_equal(same, np.eye(len(table), dtype=bool))
    # The last ones are the first ones of the next item: lagged by one, so not independent of them elsewhere.
    correlations = np.corrcoef(table)[~same] * np.sqrt(N)
    assert np.abs(correlations).max() < 4.5  # 16 x 15 / 2 standard normal values
    pairs = (table[:-1] * 16).astype(int) * 16 + (table[1:] * 16).astype(int)
    for pair in pairs:
        assert stats.chisquare(np.bincount(pair, minlength=256)).pvalue > 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_same_numbers():
    assert torch.equal(uniforms((5, 1), ITEMS.cuda(), 8).cpu(), uniforms((5, 1), ITEMS, 8))
