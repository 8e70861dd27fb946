import pytest
import torch

from emlc.methods.mixup import draw_mixture


def test_each_sample_is_the_greater_part_of_its_mixture():
    torch.manual_seed(0)
    x = torch.randn(6, 2)
    shares = []
    for _ in range(200):
        mix = draw_mixture(6, 4.0, torch.device("cpu"))
        assert sorted(mix.partners.tolist()) == list(range(6))
        shares.append(float(mix.share))
        mixed = mix(x)
        for i, j in enumerate(mix.partners.tolist()):
            torch.testing.assert_close(mixed[i], shares[-1] * x[i] + (1 - shares[-1]) * x[j])
    assert 0.5 <= min(shares) < max(shares) <= 1
    # Of max(b, 1 - b), b from Beta(4, 4): 1/2 + the mean distance of b from it, 35 / 256.
    assert sum(shares) / 200 == pytest.approx(0.5 + 35 / 256, abs=0.02)


def test_stored_images_are_mixed_as_fractions():
    mix = draw_mixture(4, 1.0, torch.device("cpu"))
    images = torch.randint(0, 256, (4, 1, 3, 3), dtype=torch.uint8)
    torch.testing.assert_close(mix(images), mix(images / 255))
    assert mix(images).dtype == torch.float32
