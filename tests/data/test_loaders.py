import itertools
from collections import Counter

import numpy as np
import pytest
import torch

import tiny
from emlc.data import Samples
from emlc.data.augment.augment import Augment
from emlc.data.loaders import Stream

KEY = (7, 1)


def make_stream(n=10, batch_size=4, key=KEY, ranks=tiny.ALONE, workers=1, augment=True):
    """Images that tell their position: pixel values grow with it."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator)
    samples = Samples.from_arrays(images.numpy(), [f"c{k % 3}" for k in range(n)])
    return Stream(
        samples, [Augment(["crop"], (8, 8), key) if augment else None], batch_size, key, ranks, workers
    )


def positions(batches):
    return [batch.positions.tolist() for batch in batches]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for tensor, expected in zip(batch[:3], other[:3], strict=True):
            assert torch.equal(tensor, expected)


def take(iterator, count):
    return list(itertools.islice(iterator, count))


# An epoch


@pytest.mark.parametrize("batch_size", [2, 3, 4, 7, 50])
@pytest.mark.parametrize("n", range(2, 14))
def test_an_epoch_has_every_sample_once_and_no_batch_of_one(n, batch_size):
    stream = make_stream(n, batch_size, augment=False)
    batches = positions(stream.epoch(0))
    assert sorted(itertools.chain(*batches)) == list(range(n))
    assert len(batches) == stream.num_batches()
    sizes = [len(batch) for batch in batches]
    assert set(sizes[:-1]) <= {batch_size}
    assert 2 <= sizes[-1] <= batch_size + 1


@pytest.mark.parametrize(("n", "group"), [(40, 3), (41, 5), (7, 5), (10, 1)])
def test_an_epoch_in_groups_has_one_label_per_group_and_every_sample_once(n, group):
    labels = np.random.default_rng(0).integers(0, 4, n)
    samples = Samples.from_arrays(np.zeros((n, 2), np.float32), [f"c{c}" for c in labels])
    stream = Stream(samples, [None], 4, KEY, tiny.ALONE, 1, group=group)
    order = list(itertools.chain(*positions(stream.epoch(0))))
    assert sorted(order) == list(range(n))
    full = sum(int(count) // group for count in Counter(labels.tolist()).values())
    for k in range(full):
        assert len({labels[i] for i in order[k * group : (k + 1) * group]}) == 1
    # What is left of a label comes last, together.
    rest = [int(c) for c, _ in itertools.groupby(labels[order[full * group :]])]
    assert len(rest) == len(set(rest))
    assert order == list(itertools.chain(*positions(stream.epoch(0))))
    assert order != list(itertools.chain(*positions(stream.epoch(1))))


def test_a_trailing_single_sample_joins_the_batch_before():
    assert [len(batch) for batch in positions(make_stream(9, 4).epoch(0))] == [4, 5]
    assert [len(batch) for batch in positions(make_stream(10, 4).epoch(0))] == [4, 4, 2]


def test_inputs_and_labels_belong_to_the_positions():
    stream = make_stream(augment=False)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8, generator=generator)
    for inputs, labels, where, _ in stream.epoch(2):
        assert torch.equal(inputs, images[where])
        assert torch.equal(labels, where % 3)


@pytest.mark.parametrize("start", range(5))
def test_an_epoch_from_a_position_is_the_tail_of_the_whole(start):
    stream = make_stream(17)  # 4, 4, 4, 5
    whole = list(stream.epoch(3))
    assert len(whole) == 4
    assert_same(list(stream.epoch(3, start=start)), whole[start:])


def test_every_epoch_has_an_order_and_an_augmentation_of_its_own():
    stream = make_stream(30, 30)
    (first,), (second,), (again,) = (list(stream.epoch(e)) for e in (0, 1, 0))
    assert first.positions.tolist() != second.positions.tolist()
    assert_same([first], [again])
    by_position = [batch.inputs[batch.positions.argsort()] for batch in (first, second)]
    assert (by_position[0] != by_position[1]).flatten(1).any(dim=1).sum() > 20


@pytest.mark.parametrize("key", [(7, 2), (8, 1)], ids=["other stream", "other seed"])
def test_streams_and_seeds_have_orders_of_their_own(key):
    here, there = (next(make_stream(30, 30, k).epoch(0)) for k in (KEY, key))
    assert here.positions.tolist() != there.positions.tolist()
    by_position = [batch.inputs[batch.positions.argsort()] for batch in (here, there)]
    assert (by_position[0] != by_position[1]).flatten(1).any(dim=1).sum() > 20


# The endless cycle


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (12, 4), (5, 4), (3, 8)])
def test_the_cycle_visits_all_samples_equally_often(n, batch_size):
    size = min(n, batch_size)
    batches = positions(take(make_stream(n, batch_size).cycle(), 3 * n))
    assert {len(batch) for batch in batches} == {size}
    visits = list(itertools.chain(*batches))
    for round_ in range(3 * size):
        assert sorted(visits[round_ * n : (round_ + 1) * n]) == list(range(n))
    assert set(Counter(visits).values()) == {3 * size}


@pytest.mark.parametrize("start", [0, 1, 2, 3, 5, 13])
@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (12, 4), (3, 8)])
def test_the_cycle_from_a_position_is_the_tail_of_the_whole(n, batch_size, start):
    stream = make_stream(n, batch_size)
    assert_same(take(stream.cycle(start=start), 6), take(stream.cycle(), start + 6)[start:])


def test_a_second_visit_is_augmented_anew():
    batches = take(make_stream(12, 12).cycle(), 2)
    by_position = [batch.inputs[batch.positions.argsort()] for batch in batches]
    assert (by_position[0] != by_position[1]).flatten(1).any(dim=1).sum() > 6


# Random states


def test_the_global_random_state_neither_matters_nor_changes():
    stream = make_stream()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(stream.epoch(0)) + take(stream.cycle(), 2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_same(list(stream.epoch(0)) + take(stream.cycle(), 2), first)


# Views


def test_views_of_a_batch_differ_and_the_first_is_that_of_a_single_one():
    images = torch.randint(
        0, 256, (10, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    samples = Samples.from_arrays(images.numpy(), [f"c{k % 3}" for k in range(10)])
    crop, flip = Augment(["crop"], (8, 8), KEY), Augment(["crop", "flip"], (8, 8), KEY)
    one = Stream(samples, [crop], 4, KEY, tiny.ALONE, 1)
    several = Stream(samples, [crop, crop, flip, None], 4, KEY, tiny.ALONE, 1)
    for single, batch in zip(one.epoch(1), several.epoch(1), strict=True):
        first, second, third, plain = batch.views
        assert torch.equal(first, single.inputs)
        assert torch.equal(batch.labels, single.labels)
        assert torch.equal(plain, images[batch.positions])
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)
