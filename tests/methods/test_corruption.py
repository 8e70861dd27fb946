import numpy as np
import pytest
import torch

from emlc.methods.corruption import corrupt_half

C = 5
KEY = (3, 1)


def batch(m, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (m,), generator=generator)
    return labels, torch.randn(m, C, generator=generator)


def within_binomial_bounds(count, n, p):
    return abs(count - n * p) <= 5 * np.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("m", [2, 3, 8, 33])
def test_exactly_half_gets_a_wrong_label(m):
    labels, logits = batch(m)
    corrupted, is_right = corrupt_half(labels, logits, "adversarial", KEY)
    assert (corrupted != labels).sum() == m // 2
    assert is_right.tolist() == [float(a == b) for a, b in zip(corrupted, labels, strict=True)]


def test_every_position_is_chosen_half_of_the_time():
    labels, logits = batch(10)
    counts = torch.zeros(10)
    for step in range(2000):
        counts += 1 - corrupt_half(labels, logits, "adversarial", (0, step))[1]
    assert all(within_binomial_bounds(count.item(), 2000, 0.5) for count in counts)


def test_adversarial_is_the_teachers_strongest_wrong_class():
    labels, logits = batch(40)
    logits[:10, :] = (
        torch.nn.functional.one_hot(labels[:10], C) * 9.0 + logits[:10]
    )  # the true class is first
    corrupted, is_right = corrupt_half(labels, logits, "adversarial", KEY)
    for i in range(40):
        others = [c for c in range(C) if c != labels[i]]
        strongest = max(others, key=lambda c: logits[i, c].item())
        assert corrupted[i] == (labels[i] if is_right[i] else strongest)


def test_random_labels_are_uniform_over_all_classes_and_a_hit_is_right():
    n = 20_000
    labels, logits = torch.full((n,), 2), torch.zeros(n, C)
    corrupted, is_right = corrupt_half(labels, logits, "random", KEY)
    assert torch.equal(is_right, (corrupted == 2).float())
    drawn = n // 2
    for c in (0, 1, 3, 4):
        assert within_binomial_bounds((corrupted == c).sum().item(), drawn, 1 / C)
    hits = is_right.sum().item() - (n - drawn)
    assert within_binomial_bounds(hits, drawn, 1 / C)


def test_random_does_not_depend_on_the_scores():
    labels, logits = batch(50)
    one, other = (corrupt_half(labels, scores, "random", KEY)[0] for scores in (logits, -logits))
    assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_the_arguments_are_left_alone_and_nothing_carries_a_gradient(kind):
    labels, logits = batch(8)
    logits = logits.double().requires_grad_()
    before = labels.clone(), logits.detach().clone()
    corrupted, is_right = corrupt_half(labels, logits, kind, KEY)
    assert not corrupted.requires_grad
    assert not is_right.requires_grad
    assert corrupted.dtype == torch.int64
    assert is_right.dtype == torch.float64
    assert torch.equal(labels, before[0])
    assert torch.equal(logits, before[1])


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_shares_of_a_batch_make_up_the_joint_batch(kind):
    labels, logits = batch(11)
    joint = corrupt_half(labels, logits, kind, KEY)
    for rank in range(3):
        share = slice(rank, 11, 3)
        part = corrupt_half(labels[share], logits[share], kind, KEY, total=11, share=share)
        for of_rank, of_all in zip(part, joint, strict=True):
            assert torch.equal(of_rank, of_all[share])


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_the_step_takes_part_in_the_draws(kind):
    labels, logits = batch(40)

    def corrupted(step, key=KEY):
        return corrupt_half(labels, logits, kind, key, step=step)[0].tolist()

    steps = [0, 1, 2, 10**6]
    results = [corrupted(step) for step in steps]
    assert len({tuple(result) for result in results}) == len(steps)
    assert [corrupted(step) for step in steps] == results
    assert [corrupted(torch.tensor(step)) for step in steps] == results
    assert results[0] == corrupt_half(labels, logits, kind, KEY)[0].tolist()
    assert corrupted(1, key=(3, 2)) != results[1]


def test_every_position_is_chosen_half_of_the_time_over_the_steps():
    labels, logits = batch(10)
    counts, step = torch.zeros(10), torch.zeros((), dtype=torch.int64)
    for _ in range(2000):
        counts += 1 - corrupt_half(labels, logits, "adversarial", KEY, step=step)[1]
        step += 1
    assert all(within_binomial_bounds(count.item(), 2000, 0.5) for count in counts)
