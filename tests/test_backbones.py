import numpy as np
import pytest
import torch

from emlc.backbones import Classifier, Standardize, build_backbone
from emlc.config import BACKBONES
from emlc.errors import InputError

FEATURES, GREY, COLOUR, LARGE = (6, 5), (6, 1, 8, 8), (6, 3, 32, 32), (2, 3, 64, 64)


def random_inputs(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if len(shape) == 2:
        return torch.randn(shape, generator=generator) * 3 + 1
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("shape", [FEATURES, GREY, COLOUR], ids=["features", "grey", "colour"])
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_on_every_kind_of_input(name, shape):
    inputs = random_inputs(shape)
    if len(shape) == 2 and name not in ("auto", "linear", "mlp"):
        with pytest.raises(InputError, match=rf"backbone: {name} needs images.*use mlp or linear"):
            build_backbone(name, inputs)
        return
    with torch.no_grad():
        backbone, dim = build_backbone(name, inputs)
        assert backbone(inputs).shape == (len(inputs), dim)
        assert Classifier(*build_backbone(name, inputs), 7).eval()(inputs).shape == (len(inputs), 7)


@pytest.mark.parametrize(
    ("name", "shape", "dim"),
    [
        ("linear", FEATURES, 5),
        ("linear", GREY, 64),
        ("mlp", FEATURES, 9),
        ("cnn", GREY, 36),
        ("resnet18", GREY, 512),
    ],
)
def test_the_width_of_the_representation(name, shape, dim):
    assert build_backbone(name, random_inputs(shape), width=9)[1] == dim


def test_auto_is_an_mlp_for_features_and_a_cnn_for_images():
    for shape, name in ((FEATURES, "mlp"), (GREY, "cnn")):
        inputs = random_inputs(shape)
        auto, named = (build_backbone(n, inputs, 4)[0] for n in ("auto", name))
        assert str(auto) == str(named)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 40])
def test_the_cnn_takes_images_of_any_size(size):
    inputs = random_inputs((4, 1, size, size + 1))
    assert build_backbone("cnn", inputs, 2)[0](inputs).shape == (4, 8)


# Stems


def test_small_images_get_the_cifar_stem():
    backbone, _ = build_backbone("resnet18", random_inputs(COLOUR))
    stem = backbone[1].conv1
    assert (stem.kernel_size, stem.stride, stem.in_channels) == ((3, 3), (1, 1), 3)
    assert stem(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 32, 32)
    assert isinstance(backbone[1].maxpool, torch.nn.Identity)


@pytest.mark.parametrize("channels", [1, 3])
def test_large_images_get_torchvisions_stem(channels):
    inputs = random_inputs((2, channels, 64, 64))
    backbone, dim = build_backbone("resnet18", inputs)
    stem = backbone[1].conv1
    assert (stem.kernel_size, stem.stride, stem.in_channels) == ((7, 7), (2, 2), channels)
    assert isinstance(backbone[1].maxpool, torch.nn.MaxPool2d)
    with torch.no_grad():
        assert backbone(inputs).shape == (2, dim) == (2, 512)


# Standardisation


def test_features_are_standardised_by_column():
    inputs = random_inputs((3000, 3))  # more than one chunk of the statistics
    inputs[:, 1] = 1e4 + inputs[:, 1]
    x = inputs.double().numpy()
    expected = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(Standardize(inputs)(inputs), expected, atol=1e-3)


def test_images_are_standardised_by_channel():
    inputs = random_inputs((1500, 3, 4, 5))
    inputs[:, 1] //= 4
    x = inputs.double().numpy()
    expected = (x - x.mean(axis=(0, 2, 3), keepdims=True)) / x.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(Standardize(inputs)(inputs), expected, atol=1e-5)


def test_the_statistics_are_those_of_the_training_inputs():
    inputs, others = random_inputs((50, 2)), random_inputs((7, 2), seed=1) + 5
    x = inputs.double().numpy()
    expected = (others.numpy() - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(Standardize(inputs)(others), expected, rtol=1e-5)


def test_a_constant_column_becomes_zero():
    inputs = torch.tensor([[2.0, 1], [2, 2], [2, 3]])
    standardized = Standardize(inputs)(inputs)
    assert standardized[:, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(standardized[:, 1], [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6)


def test_images_mean_the_same_as_bytes_and_as_fractions() -> None:
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    standardize = Standardize(images)
    assert torch.allclose(standardize(images), standardize(images.float() / 255), atol=1e-6)
