"""Against torchvision's AutoAugment, one image and one operation at a time."""

import itertools

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from emlc.data.augment.autoaugment import AutoAugment

POLICIES = ["cifar10", "imagenet"]
SIZES = [(32, 32), (17, 24), (2, 5)]
BLENDS = {"Color", "Contrast", "Sharpness"}


def pictures(n, channels, size):
    """Noise, noise of low contrast, and plain colours, in turn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, channels, *size), dtype=torch.uint8, generator=generator)
    images[1::3] = images[1::3] // 3 + 60
    images[2::3] = images[2::3, :, :1, :1]
    return images


class Replay:
    """Torchvision's policy, with given draws in place of its random ones."""

    def __init__(self, policy):
        self.reference = v2.AutoAugment(v2.AutoAugmentPolicy(policy))

    def operations(self, draws, size):
        """(name, magnitude) of those of a sub-policy's two operations that happen."""
        sub_policy = self.reference._policies[int(draws[0] * 25)]
        for (name, probability, magnitude_bin), happens, sign in zip(
            sub_policy, draws[1:3], draws[3:5], strict=True
        ):
            if happens < probability:
                magnitudes, signed = self.reference._AUGMENTATION_SPACE[name]
                magnitude = 0.0 if magnitude_bin is None else float(magnitudes(10, *size)[magnitude_bin])
                yield name, -magnitude if signed and sign < 0.5 else magnitude

    def apply(self, image, name, magnitude):
        settings = {"interpolation": self.reference.interpolation, "fill": self.reference._fill}
        return self.reference._apply_image_or_video_transform(image, name, magnitude, **settings)


def difference(a, b):
    return (a.int() - b.int()).abs()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_operation_is_torchvisions(policy, size, channels):
    """Exact; blends are off by a level at most, and rarely (see _blend)."""
    replay, augment = Replay(policy), AutoAugment(policy, size)
    images = pictures(9, channels, size)
    seen, blended, off = set(), 0, 0
    for sub_policy, first, sign in itertools.product(range(25), (True, False), (0.0, 0.9)):
        happen = (0.0, 0.99999) if first else (0.99999, 0.0)
        draws = torch.tensor([(sub_policy + 0.5) / 25, *happen, sign, sign])
        operations = list(replay.operations(draws, size))
        if len(operations) != 1:
            continue  # a probability of 0 or 1: the other test
        found = augment(images, draws.expand(9, -1))
        errors = difference(found, torch.stack([replay.apply(image, *operations[0]) for image in images]))
        name = operations[0][0]
        seen.add(name)
        if name in BLENDS:
            assert errors.max() <= 1
            blended, off = blended + errors.numel(), off + int(errors.sum())
        else:
            assert errors.max() == 0
    assert off <= 0.02 * blended
    assert len(seen) == {"cifar10": 13, "imagenet": 9}[policy]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_with_a_sub_policy_a_sample_is_torchvisions_image_by_image(policy, channels):
    replay, augment = Replay(policy), AutoAugment(policy, (32, 32))
    images = pictures(900, channels, (32, 32))
    draws = torch.rand(900, 5, generator=torch.Generator().manual_seed(1))
    exact = off = blended = 0
    for image, result, draw in zip(images, augment(images, draws), draws, strict=True):
        operations = list(replay.operations(draw, (32, 32)))
        for operation in operations:
            image = replay.apply(image, *operation)
        if BLENDS.isdisjoint(name for name, _ in operations):
            assert torch.equal(result, image)
            exact += 1
        else:
            # What follows a blend, such as equalize, may carry a difference of one level further.
            blended, off = blended + image.numel(), off + int((result != image).sum())
    assert exact > 400
    assert off < 0.02 * blended


def test_draws_choose_as_often_as_the_policy_says():
    draws = torch.rand(50_000, 5, generator=torch.Generator().manual_seed(2))
    augment, replay = AutoAugment("cifar10", (32, 32)), Replay("cifar10")
    happened = (augment.operations(draws) > 0).float().mean(dim=0)
    policies = torch.tensor([[p for _, p, _ in sub_policy] for sub_policy in replay.reference._policies])
    assert happened.tolist() == pytest.approx(policies.mean(dim=0).tolist(), abs=0.01)
    chosen = torch.bincount((draws[:, 0] * 25).long(), minlength=25)
    assert stats.chisquare(chosen.numpy()).pvalue > 1e-4


def test_the_extremes_of_the_draws_are_valid():
    largest = 1 - 2**-24
    for value in (0.0, largest):
        images = pictures(3, 3, (16, 16))
        assert AutoAugment("imagenet", (16, 16))(images, torch.full((3, 5), value)).shape == images.shape
