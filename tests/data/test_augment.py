import pytest
import torch

from emlc.data.augment import Augment, default_augmentations

EVERYTHING = ["crop", "flip", "autoaugment"]
KEYS = [(0, 1, 0, i) for i in range(12)]


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("names", [["crop"], ["flip"], ["autoaugment"], EVERYTHING], ids="+".join)
def test_a_key_gives_the_same_image_whatever_was_drawn_before(images, names):
    augment = Augment(names, (16, 16))
    torch.manual_seed(1)
    first = augment(images, KEYS)
    torch.manual_seed(2)
    torch.rand(7)
    assert torch.equal(augment(images, KEYS), first)
    for i in (0, 5, 11):  # nor does it depend on the other images of the batch
        assert torch.equal(augment(images[i : i + 1], KEYS[i : i + 1])[0], first[i])
    assert first.shape == images.shape
    assert first.dtype == images.dtype


def test_other_keys_give_other_images(images):
    augment = Augment(EVERYTHING, (16, 16))
    same = images[:1].expand(12, -1, -1, -1)
    assert len({image.numpy().tobytes() for image in augment(same, KEYS)}) >= 11
    other_seed = [(1, *key[1:]) for key in KEYS]
    changed = (augment(same, KEYS) != augment(same, other_seed)).flatten(1).any(dim=1)
    assert changed.sum() >= 11


def test_the_global_random_state_is_left_alone(images):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Augment(EVERYTHING, (16, 16))(images, KEYS)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_flip_mirrors_about_half_of_the_images(images):
    keys = [(0, 1, 0, i) for i in range(200)]
    flipped = Augment(["flip"], (16, 16))(images[:1].expand(200, -1, -1, -1), keys)
    mirrored = (flipped == images[0].flip(-1)).flatten(1).all(dim=1)
    unchanged = (flipped == images[0]).flatten(1).all(dim=1)
    assert (mirrored | unchanged).all()
    assert 65 <= mirrored.sum() <= 135  # 5 standard deviations


def test_a_crop_shifts_by_an_eighth_at_most_and_fills_with_black(images):
    padded = torch.nn.functional.pad(images[0], (2, 2, 2, 2))
    windows = {
        padded[:, r : r + 16, c : c + 16].numpy().tobytes(): (r, c) for r in range(5) for c in range(5)
    }
    keys = [(0, 1, 0, i) for i in range(300)]
    crops = Augment(["crop"], (16, 16))(images[:1].expand(300, -1, -1, -1), keys)
    seen = {windows[crop.numpy().tobytes()] for crop in crops}
    assert len(seen) == 25


def test_without_names_images_stay_as_they_are(images):
    assert Augment([], (16, 16))(images, KEYS) is images


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
