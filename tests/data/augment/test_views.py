"""Against torchvision's operations and plain loops, one image at a time."""

import math

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from emlc.data.augment.views import Views, default_views
from emlc.runtime.keyed import uniforms

KEY = (0, 5)
ALL = ["crop", "flip", "colour", "grey", "blur"]
SIZE = (9, 12)


def pictures(n=12, channels=3, size=SIZE):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, *size), dtype=torch.uint8, generator=generator)


def views(names, size=SIZE, key=KEY, smallest_crop=0.1, colour_strength=1.0):
    return Views(names, size, key, smallest_crop=smallest_crop, colour_strength=colour_strength)


def draws(n):
    """Of all 2n views: crop (area, ratio, x, y), flip, colour (whether, 4), grey, blur (whether, sigma)."""
    return torch.cat([uniforms((*KEY, view), torch.arange(n), 13) for view in (0, 1)]).tolist()


@pytest.mark.parametrize("names", [["crop"], ["flip"], ["colour"], ["grey"], ["blur"], ALL], ids="+".join)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_item_gives_the_same_views_whatever_it_comes_with(names, channels):
    images, items = pictures(channels=channels), torch.arange(12)
    together = views(names)(images, items)
    assert together.shape == (24, channels, *SIZE)
    assert together.dtype == torch.float32
    assert together.min() >= 0
    assert together.max() <= 1
    order = torch.tensor([7, 0, 11])
    alone = views(names)(images[order], order)
    torch.testing.assert_close(alone, together[torch.cat([order, order + 12])], rtol=0, atol=1e-6)
    assert torch.equal(views(names)(images / 255, items), together)


def test_views_items_and_keys_differ():
    same = pictures(1).expand(12, -1, -1, -1)
    made = views(ALL)(same, torch.arange(12))
    assert len({view.numpy().tobytes() for view in made}) == 24
    others = views(ALL, key=(1, 5))(same, torch.arange(12))
    assert not (made == others).flatten(1).all(dim=1).any()


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    views(ALL)(pictures(), torch.arange(12))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("names", [["crop"], ["flip"], ["crop", "flip"]], ids="+".join)
def test_crops_are_read_between_pixels(names):
    """Each pixel's centre is found in the source and read between its four neighbours."""
    height, width = SIZE
    images = pictures(4, channels=1)
    found = views(names)(images, torch.arange(4))
    for k, draw in enumerate(draws(4)):
        image = images[k % 4, 0] / 255
        across = down = 1.0
        if "crop" in names:
            area, ratio = 0.1 + 0.9 * draw[0], (4 / 3) ** (2 * draw[1] - 1)
            across, down = min(1, math.sqrt(area * ratio)), min(1, math.sqrt(area / ratio))
        left, top = (1 - across) * draw[2] * width, (1 - down) * draw[3] * height
        expected = torch.empty(height, width)
        for i in range(height):
            for j in range(width):
                x = min(max(left + (j + 0.5) * across - 0.5, 0), width - 1)
                y = min(max(top + (i + 0.5) * down - 0.5, 0), height - 1)
                x0, y0 = min(int(x), width - 2), min(int(y), height - 2)
                a, b = x - x0, y - y0
                upper = image[y0, x0] * (1 - a) + image[y0, x0 + 1] * a
                lower = image[y0 + 1, x0] * (1 - a) + image[y0 + 1, x0 + 1] * a
                expected[i, j] = upper * (1 - b) + lower * b
        if "flip" in names and draw[4] < 0.5:
            expected = expected.flip(-1)
        torch.testing.assert_close(found[k, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_as_torchvision_changes_them(channels):
    images = pictures(20, channels)
    found = views(["colour", "grey"], colour_strength=0.5)(images, torch.arange(20))
    changed = grey = 0
    for k, draw in enumerate(draws(20)):
        image = images[k % 20] / 255
        if draw[5] < 0.8:
            changed += 1
            brightness, contrast, saturation = (1 + 0.4 * (2 * u - 1) for u in draw[6:9])
            image = F.adjust_contrast(F.adjust_brightness(image, brightness), contrast)
            image = F.adjust_hue(F.adjust_saturation(image, saturation), 0.1 * (2 * draw[9] - 1))
        if draw[10] < 0.2 and channels == 3:
            grey += 1
            image = F.rgb_to_grayscale(image, 3)
        # kornia and torchvision weigh red, green and blue alike up to 2e-4.
        torch.testing.assert_close(found[k], image, rtol=0, atol=2e-3)
    assert 25 <= changed <= 38
    assert grey > 0 or channels == 1


def test_half_of_the_views_are_blurred():
    images = pictures(20, size=(64, 70))
    found = views(["blur"], size=(64, 70))(images, torch.arange(20))
    blurred = 0
    for k, draw in enumerate(draws(20)):
        image = images[k % 20] / 255
        if draw[11] < 0.5:
            blurred += 1
            image = F.gaussian_blur(image, [7, 7], [0.1 + 1.9 * draw[12]] * 2)
        torch.testing.assert_close(found[k], image, rtol=0, atol=1e-5)
    assert 10 <= blurred <= 30


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 32, 32), {"crop", "colour", "flip", "grey"}),
        ((3, 64, 80), {"crop", "colour", "flip", "grey", "blur"}),
        ((1, 28, 28), {"crop", "colour"}),
    ],
)
def test_defaults_follow_the_kind_of_image(shape, expected):
    assert set(default_views(shape)) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_same_views():
    images, items = pictures(50, size=(64, 64)), torch.arange(50)
    made = views(ALL, size=(64, 64))
    torch.testing.assert_close(
        made(images.cuda(), items.cuda()).cpu(), made(images, items), rtol=0, atol=1e-4
    )
