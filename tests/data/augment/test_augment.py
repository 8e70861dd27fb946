import warnings

import pytest
import torch
from scipy import stats

from emlc.data.augment.augment import Augment
from emlc.data.augment.autoaugment import AutoAugment
from emlc.data.augment.defaults import default_augmentations
from emlc.errors import InputError
from emlc.runtime.keyed import uniforms

EVERYTHING = ["crop", "flip", "autoaugment"]
KEY = (0, 1)
ITEMS = torch.arange(12)


def pictures(n=12, channels=3, size=(16, 16)):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, *size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("names", [["crop"], ["flip"], ["autoaugment"], EVERYTHING], ids="+".join)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_item_gives_the_same_image_whatever_it_comes_with(names, dtype, channels):
    images = pictures(channels=channels)
    images = images if dtype == torch.uint8 else images / 255
    augment = Augment(names, (16, 16), KEY)
    together = augment(images, ITEMS)
    assert together.shape == images.shape
    assert together.dtype == dtype
    assert not torch.equal(together, images)
    order = torch.tensor([7, 0, 11, 3])
    assert torch.equal(augment(images[order], ITEMS[order]), together[order])
    for i in (0, 5, 11):
        assert torch.equal(augment(images[i : i + 1], ITEMS[i : i + 1])[0], together[i])


@pytest.mark.parametrize("names", [["crop"], ["flip"], ["autoaugment"], EVERYTHING], ids="+".join)
def test_neither_the_images_nor_the_global_random_state_change(names):
    images = pictures()
    before = torch.get_rng_state()
    Augment(names, (16, 16), KEY)(images, ITEMS)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images, pictures())


def test_other_items_and_other_keys_give_other_images():
    same = pictures(1).expand(12, -1, -1, -1)
    images = Augment(EVERYTHING, (16, 16), KEY)(same, ITEMS)
    assert len({image.numpy().tobytes() for image in images}) >= 11
    for key in ((1, 1), (0, 2)):
        others = Augment(EVERYTHING, (16, 16), key)(same, ITEMS)
        assert (images != others).flatten(1).any(dim=1).sum() >= 11


@pytest.mark.parametrize("names", [["crop"], ["flip"], ["crop", "flip"]], ids="+".join)
@pytest.mark.parametrize("size", [(16, 16), (33, 20), (5, 9)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_and_flip_agree_with_slicing_one_image_at_a_time(names, size, dtype):
    images = pictures(60, channels=2, size=size).to(dtype)
    augmented = Augment(names, size, KEY)(images, torch.arange(60))
    padding = max(1, min(size) // 8)
    for image, result, (row, column, mirror) in zip(
        images, augmented, uniforms(KEY, torch.arange(60), 3).tolist(), strict=True
    ):
        if "crop" in names:
            top, left = int(row * (2 * padding + 1)), int(column * (2 * padding + 1))
            padded = torch.zeros(2, size[0] + 2 * padding, size[1] + 2 * padding, dtype=dtype)
            padded[:, padding:-padding, padding:-padding] = image
            image = padded[:, top : top + size[0], left : left + size[1]]
        if "flip" in names and mirror < 0.5:
            image = image.flip(-1)
        assert torch.equal(result, image)


def test_every_window_is_as_frequent_as_any_other():
    # Pixels that are all different tell which of the 25 windows, mirrored or not, an image shows.
    image = torch.arange(1, 257).to(torch.uint8).view(1, 1, 16, 16)
    crops = Augment(["crop", "flip"], (16, 16), KEY)(image.expand(5000, -1, -1, -1), torch.arange(5000))
    seen, counts = torch.unique(crops.flatten(1), dim=0, return_counts=True)
    assert len(seen) == 50
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_autoaugment_rounds_float_images_to_256_levels():
    images = pictures(40)
    augment = Augment(EVERYTHING, (16, 16), KEY)
    levels = augment(images, torch.arange(40))
    nearly = (images / 255 + 0.001).clamp(0, 1)
    assert torch.equal(augment(nearly, torch.arange(40)), levels / 255)


@pytest.mark.parametrize(("size", "policy"), [((63, 80), "cifar10"), ((64, 80), "imagenet")])
def test_crop_and_flip_come_before_the_policy_for_the_size(size, policy):
    images, items = pictures(20, size=size), torch.arange(20)
    windows = Augment(["crop", "flip"], size, KEY)(images, items)
    expected = AutoAugment(policy, size)(windows, uniforms(KEY, items, 8)[:, 3:])
    assert torch.equal(Augment(["autoaugment", "flip", "crop"], size, KEY)(images, items), expected)


def test_autoaugment_of_images_of_another_kind_is_refused():
    with pytest.raises(InputError, match="expected images with 1 or 3 channels, found 2"):
        Augment(["autoaugment"], (16, 16), KEY)(pictures(channels=2), ITEMS)


def test_without_names_images_stay_as_they_are():
    images = pictures()
    assert Augment([], (16, 16), KEY)(images, ITEMS) is images


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("size", [(32, 32), (64, 80)])
def test_cuda_gives_the_same_images_and_never_waits(size):
    images, items = pictures(200, size=size), torch.arange(200)
    augment = Augment(EVERYTHING, size, KEY)
    expected = augment(images, items)
    there = images.cuda(), items.cuda()
    augment(*there)  # the tables move to the device once
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        found = augment(*there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize(
    ("shape", "noisy", "trusted"),
    [
        ((4, 7), [], []),
        ((4, 1, 8, 8), ["crop"], ["crop"]),
        ((4, 3, 8, 8), ["flip", "crop"], ["flip", "crop", "autoaugment"]),
    ],
)
def test_defaults_follow_the_kind_of_input(shape, noisy, trusted):
    assert default_augmentations(torch.zeros(shape)) == (noisy, trusted)
