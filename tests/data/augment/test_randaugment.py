"""RandAugment against torchvision's operations, one image at a time."""

import pytest
import torch
from scipy import stats
from test_autoaugment import BLENDS, Replay, difference, pictures

from emlc.data.augment.augment import Augment
from emlc.data.augment.randaugment import MAGNITUDES, OPERATIONS, WITHOUT_MAGNITUDE, RandAugment
from emlc.runtime.keyed import uniforms

SIZE = (32, 32)


def drawn(draws, space):
    """(name, magnitude) of those of the two operations that happen."""
    for kind, level, happens, sign in draws.view(2, 4).tolist():
        name = OPERATIONS[int(kind * len(OPERATIONS))]
        if happens >= 0.5 or name == "identity":
            continue
        magnitude = 0.0
        if name not in WITHOUT_MAGNITUDE:
            magnitudes, signed = space[name]
            magnitude = float(magnitudes(10, *SIZE)[MAGNITUDES[int(level * len(MAGNITUDES))]])
            magnitude = -magnitude if signed and sign < 0.5 else magnitude
        yield name, magnitude


@pytest.mark.parametrize("channels", [1, 3])
def test_two_operations_of_torchvision_change_each_image(channels):
    replay, augment = Replay("cifar10"), RandAugment(SIZE)
    images = pictures(600, channels, SIZE)
    draws = torch.rand(600, 8, generator=torch.Generator().manual_seed(1))
    exact, off, seen = 0, 0, set()
    for image, result, draw in zip(images, augment(images, draws), draws, strict=True):
        operations = list(drawn(draw, replay.reference._AUGMENTATION_SPACE))
        seen |= {name for name, _ in operations}
        for operation in operations:
            image = replay.apply(image, *operation)
        if BLENDS.isdisjoint(name for name, _ in operations):
            assert torch.equal(result, image), operations
            exact += 1
        else:  # see test_autoaugment
            off += int((difference(result, image) > 0).sum())
    assert exact > 300
    assert off < 0.02 * images.numel()
    assert seen == set(OPERATIONS) - {"identity"}


def test_each_kind_is_drawn_as_often_and_half_of_them_happen():
    draws = torch.rand(40_000, 8, generator=torch.Generator().manual_seed(2))
    augment = RandAugment(SIZE)
    happened = augment.operations(draws) > 0
    # Of identity the operation is that of what does not happen.
    assert happened.float().mean().item() == pytest.approx(0.5 * 13 / 14, abs=0.01)
    kinds = torch.bincount((draws[:, 4] * len(OPERATIONS)).long(), minlength=len(OPERATIONS))
    assert stats.chisquare(kinds.numpy()).pvalue > 1e-4


def test_it_follows_the_crop_with_draws_of_its_own():
    images, items = pictures(30, 3, SIZE), torch.arange(30)
    crop, both = (Augment(names, SIZE, (5,)) for names in (["crop"], ["crop", "randaugment"]))
    expected = RandAugment(SIZE)(crop(images, items), uniforms((5,), items, 16)[:, 8:])
    assert torch.equal(both(images, items), expected)
