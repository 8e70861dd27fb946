import sys
from math import prod

import numpy as np
import pytest
import torch
import torchvision
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from torch import nn
from torchvision.models import VisionTransformer, list_models
from torchvision.models.regnet import BlockParams

from emlc.errors import InputError
from emlc.meta.jvp import jvp_finite_difference, jvp_forward, record_step
from emlc.meta.metagradient import trusted_gradient
from emlc.networks.backbones import BUILT_IN, Classifier, build_backbone
from emlc.networks.standardize import Standardize, Statistics
from references import relative_error

FEATURES, GREY, COLOUR, LARGE = (6, 5), (6, 1, 8, 8), (6, 3, 32, 32), (2, 3, 64, 64)


def random_inputs(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if len(shape) == 2:
        return torch.randn(shape, generator=generator) * 3 + 1
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def standardize(inputs, channels=None):
    return Standardize(Statistics(inputs), channels)


@pytest.mark.parametrize("shape", [FEATURES, GREY, COLOUR], ids=["features", "grey", "colour"])
@pytest.mark.parametrize("name", [*BUILT_IN, "resnet18"])
def test_every_backbone_on_every_kind_of_input(name, shape):
    inputs = random_inputs(shape)
    if len(shape) == 2 and name not in ("auto", "linear", "shallow", "mlp"):
        with pytest.raises(InputError, match=rf"backbone: {name} needs images.*use shallow, mlp or linear"):
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


@pytest.mark.parametrize(("num_classes", "dim"), [(0, 256), (51, 256), (100, 500)])
def test_many_classes_make_the_hidden_layer_wider(num_classes, dim):
    assert build_backbone("shallow", random_inputs(FEATURES), num_classes=num_classes)[1] == dim


def test_auto_is_shallow_for_features_and_a_cnn_for_images():
    for shape, name in ((FEATURES, "shallow"), (GREY, "cnn")):
        inputs = random_inputs(shape)
        auto, named = (build_backbone(n, inputs, 4)[0] for n in ("auto", name))
        assert str(auto) == str(named)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 40])
def test_the_cnn_takes_images_of_any_size(size):
    inputs = random_inputs((4, 1, size, size + 1))
    assert build_backbone("cnn", inputs, 2)[0](inputs).shape == (4, 8)


# torchvision's networks


@pytest.mark.parametrize("name", list_models(module=torchvision.models))
def test_every_network_of_torchvision_can_be_built(name, monkeypatch):
    computed = BlockParams.from_init_params.__func__

    def on_the_cpu(*args, **options):
        with torch.device("cpu"):  # RegNets compute their widths with tensors
            return computed(*args, **options)

    monkeypatch.setattr(BlockParams, "from_init_params", classmethod(on_the_cpu))
    for draw in ("normal_", "uniform_", "erfinv_"):  # slow on the meta device, and to no purpose
        monkeypatch.setattr(torch.Tensor, draw, lambda self, *_, **__: self)
    inputs = torch.zeros(2, 3, 224, 224, device="meta")
    with torch.device("meta"):
        network, dim = build_backbone(name, inputs, statistics=Statistics(torch.zeros(2, 3, 1, 1)))
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert not any(module.out_features == 1000 for module in linear)
    assert 0 < dim < 8192


@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [
        ("convnext_tiny", 32, 768),
        ("densenet121", 32, 1024),
        ("efficientnet_b0", 32, 1280),
        ("googlenet", 32, 1024),
        ("inception_v3", 75, 2048),
        ("mnasnet0_5", 32, 1280),
        ("mobilenet_v3_small", 32, 1024),
        ("regnet_y_400mf", 32, 440),
        ("resnext50_32x4d", 32, 2048),
        ("shufflenet_v2_x0_5", 32, 1024),
        ("squeezenet1_1", 32, 512),
        ("swin_t", 32, 768),
        ("vit_b_32", 32, 768),
    ],
)
def test_networks_of_torchvision_learn(name, size, dim):
    inputs = random_inputs((3, 1, size, size))
    backbone, feature_dim = build_backbone(name, inputs)
    network = Classifier(backbone, feature_dim, 4)
    assert feature_dim == dim
    network(inputs).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_torchvisions_networks_take_grey_images_as_colour_images_of_three_equal_channels():
    grey = random_inputs((4, 1, 16, 16))
    torch.manual_seed(0)
    on_grey, _ = build_backbone("resnet18", grey)
    torch.manual_seed(0)
    on_colour, _ = build_backbone("resnet18", grey.expand(-1, 3, -1, -1))
    assert on_grey.state_dict().keys() == on_colour.state_dict().keys()
    torch.testing.assert_close(on_grey(grey), on_colour(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("alexnet", COLOUR, "Output size is too small"),
        ("maxvit_t", COLOUR, "not divisible by partition size 7"),
        ("vit_b_16", (2, 3, 40, 40), "indivisible by patch size"),
        ("vit_b_32", (2, 3, 32, 64), "Wrong image width"),
    ],
)
def test_a_network_that_does_not_take_such_images(name, shape, reason):
    inputs, message = random_inputs(shape), rf"backbone: {name} does not take inputs of shape.*{reason}"
    with torch.device("meta"), pytest.raises(InputError, match=message):
        build_backbone(name, inputs)


def test_an_unknown_network_is_answered_with_near_ones():
    with pytest.raises(InputError, match=r"no network 'resnet43'; did you mean .*resnet34.*module:factory"):
        build_backbone("resnet43", random_inputs(COLOUR))
    with pytest.raises(
        InputError, match=r"no network 'zzz'\. Expected auto, linear, shallow, mlp, cnn, a class"
    ):
        build_backbone("zzz", random_inputs(COLOUR))


def small_vit(inputs):
    """As build_backbone makes of vit_b_16, but of 2 layers instead of 12."""
    vit = VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    )
    vit.heads.head = nn.Identity()
    return nn.Sequential(standardize(inputs), vit), 32


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "vit"])
def test_jacobian_vector_products_of_torchvisions_networks(name):
    torch.manual_seed(0)
    inputs, trusted = random_inputs((4, 3, 32, 32)), random_inputs((4, 3, 32, 32), seed=1)
    network = Classifier(*(small_vit(inputs) if name == "vit" else build_backbone(name, inputs)), 3)
    step, log_probs = record_step(network, inputs)
    _, g_w = trusted_gradient(network, trusted, torch.tensor([0, 1, 2, 0]))
    product = jvp_forward(step, g_w)
    # <v, J u> = <J^T v, u>: the same by plain backpropagation.
    v = torch.randn_like(log_probs)
    gradients = torch.autograd.grad(log_probs, list(network.parameters()), v)
    backward = sum((g * u).sum() for g, u in zip(gradients, g_w.values(), strict=True))
    torch.testing.assert_close((v * product).sum(), backward, rtol=1e-3, atol=1e-3)
    assert relative_error(jvp_finite_difference(step, g_w), product) < 0.05


# Stems


@pytest.mark.parametrize(
    ("shape", "stem", "is_cifars"),
    [
        (COLOUR, "auto", True),
        (LARGE, "auto", False),
        (COLOUR, "imagenet", False),
        (LARGE, "cifar", True),
        (GREY, "auto", True),
        ((2, 1, 64, 64), "auto", False),
    ],
)
def test_stems(shape, stem, is_cifars):
    inputs = random_inputs(shape)
    backbone, dim = build_backbone("resnet18", inputs, stem=stem)
    kernel, stride, pool = (3, 1, nn.Identity) if is_cifars else (7, 2, nn.MaxPool2d)
    network = backbone[1]
    assert (network.conv1.kernel_size, network.conv1.stride) == ((kernel, kernel), (stride, stride))
    assert isinstance(network.maxpool, pool)
    size = shape[2] if is_cifars else shape[2] // 2
    assert network.conv1(backbone[0](inputs)).shape == (len(inputs), 64, size, size)
    with torch.no_grad():
        assert backbone(inputs).shape == (len(inputs), dim) == (len(inputs), 512)


@pytest.mark.parametrize("name", ["auto", "mlp", "cnn", "squeezenet1_1", "nets:net"])
def test_only_residual_networks_have_a_cifar_stem(name):
    with pytest.raises(InputError, match=r"stem: only the residual networks of torchvision"):
        build_backbone(name, random_inputs(COLOUR), stem="cifar")


# The user's own networks


@pytest.fixture
def current_directory(tmp_path, monkeypatch):
    """An empty current directory whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


OWN_NETS = """
from torch import nn

def small(input_shape):
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(11), nn.Tanh())

class Nets:
    Small = small
    number = 3

def nothing(input_shape): pass
def no_shape(): pass
def images(input_shape): return nn.Identity()
def too_wide(input_shape): return nn.Sequential(nn.Flatten(), nn.Linear(3, 3))
"""


@pytest.mark.parametrize("name", ["nets:small", "nets:Nets.Small"])
def test_a_network_of_ones_own(name, current_directory):
    (current_directory / "nets.py").write_text(OWN_NETS)
    inputs, path = random_inputs(GREY), list(sys.path)
    backbone, dim = build_backbone(name, inputs)
    assert sys.path == path
    assert dim == 11
    linear = backbone[1][1]
    expected = torch.tanh(standardize(inputs)(inputs).flatten(1) @ linear.weight.T + linear.bias)
    torch.testing.assert_close(backbone(inputs), expected)
    assert all(module.training for module in backbone.modules())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nots:small", r"no module nots, neither in .* nor on Python's path"),
        ("nets.sub:small", r"no module nets.sub"),
        ("nets:tiny", "nets has no tiny"),
        ("nets:Nets.tiny", r"nets has no Nets\.tiny"),
        ("nets:Nets.number", "is int, expected a function or class"),
        ("nets:no_shape", r"cannot be called as factory\(input_shape\): too many"),
        ("nets:nothing", "gave NoneType, expected a torch.nn.Module"),
        ("nets:images", r"expected features \(n, d\), got \(2, 1, 8, 8\) for inputs \(2, 1, 8, 8\)"),
        ("nets:too_wide", r"does not take inputs of shape \(1, 8, 8\): mat1 and mat2"),
    ],
)
def test_a_network_of_ones_own_that_is_none(name, message, current_directory):
    (current_directory / "nets.py").write_text(OWN_NETS)
    with pytest.raises(InputError, match=rf"backbone: {name}.*{message}"):
        build_backbone(name, random_inputs(GREY))


def test_errors_in_ones_own_code_keep_their_traceback(current_directory):
    (current_directory / "nets.py").write_text("import not_installed")
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        build_backbone("nets:small", random_inputs(GREY))


# Standardisation


def test_features_are_standardised_by_column(monkeypatch):
    monkeypatch.setattr("emlc.networks.standardize._VALUES_AT_ONCE", 1000)  # more than one chunk
    inputs = random_inputs((3001, 3))
    inputs[:, 1] = 1e4 + inputs[:, 1]
    x = inputs.double().numpy()
    expected = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(standardize(inputs)(inputs), expected, atol=1e-3)
    np.testing.assert_allclose(Statistics(inputs).std.numpy(), x.std(axis=0, keepdims=True), rtol=1e-12)


def uneven_features(n=400, d=12):
    """Features that vary much in some directions, none of them an axis, and little in the others."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return torch.from_numpy(5 + rng.normal(size=(n, d)) * 2.0 ** -np.arange(d) @ axes.T).float()


def test_features_are_standardised_as_a_whole():
    inputs = uneven_features()
    x = inputs.double().numpy()
    centred = x - x.mean(axis=0)
    layer = Standardize(Statistics(inputs, "whole"))
    np.testing.assert_allclose(layer(inputs), centred / centred.std(), atol=1e-5)


def test_features_are_reduced_to_their_principal_components(monkeypatch):
    monkeypatch.setattr("emlc.networks.standardize.COMPONENTS", 4)
    monkeypatch.setattr("emlc.networks.standardize._VALUES_AT_ONCE", 1000)
    inputs = uneven_features()
    standardized = Standardize(Statistics(inputs, "components"))(inputs).double().numpy()
    expected = PCA(4).fit_transform(inputs.double().numpy())
    # Distances tell components from others, but not their signs, nor how they are rotated.
    np.testing.assert_allclose(pdist(standardized), pdist(expected) / expected.std(), rtol=1e-4)
    np.testing.assert_allclose(standardized.std(), 1, rtol=1e-5)


def test_of_rotated_components_none_weighs_more_than_others():
    inputs = torch.randn(3000, 300, generator=torch.manual_seed(0)) * torch.linspace(3, 0, 300) ** 2
    standardized = Standardize(Statistics(inputs, "components"))(inputs)
    assert standardized.shape == (3000, 256)
    deviations = standardized.std(dim=0)
    assert deviations.max() / deviations.min() < 2 < inputs.std(dim=0).max() / inputs.std(dim=0)[:256].min()


def test_a_network_on_components_is_loaded_without_its_inputs():
    inputs = uneven_features()
    trained, dim = build_backbone("shallow", inputs, scaling="components")
    loaded, _ = build_backbone("shallow", torch.zeros(2, 12), scaling="components")
    loaded.load_state_dict(trained.state_dict())
    assert dim == 256
    assert torch.equal(loaded.eval()(inputs), trained.eval()(inputs))


def test_images_are_standardised_by_channel(monkeypatch):
    monkeypatch.setattr("emlc.networks.standardize._VALUES_AT_ONCE", 1000)
    inputs = random_inputs((1500, 3, 4, 5))
    inputs[:, 1] //= 4
    x = inputs.double().numpy()
    expected = (x - x.mean(axis=(0, 2, 3), keepdims=True)) / x.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(standardize(inputs)(inputs), expected, atol=1e-5)


def test_the_statistics_are_those_of_the_training_inputs():
    inputs, others = random_inputs((50, 2)), random_inputs((7, 2), seed=1) + 5
    x = inputs.double().numpy()
    expected = (others.numpy() - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(standardize(inputs)(others), expected, rtol=1e-5)


class ReadsImages:
    """Images that are read when they are asked for; keeps which were."""

    def __init__(self, images):
        self._images = images
        self.shape, self.ndim, self.dtype = tuple(images.shape), images.ndim, images.dtype
        self.rows_read = []

    def __len__(self):
        return len(self._images)

    def __getitem__(self, rows):
        self.rows_read.append(rows)
        return self._images[rows]


def test_of_many_images_a_sample_is_read_in_parts_and_only_once(monkeypatch):
    monkeypatch.setattr("emlc.networks.standardize.STATISTICS_SAMPLE", 100)
    monkeypatch.setattr("emlc.networks.standardize._VALUES_AT_ONCE", 30 * prod((3, 2, 2)))
    images = random_inputs((250, 3, 2, 2))
    stored = ReadsImages(images)
    statistics = Statistics(stored)
    assert max(len(rows) for rows in stored.rows_read) == 30
    rows = torch.cat(stored.rows_read)
    assert rows.tolist() == [int(2.5 * i) for i in range(100)]
    x = images[rows].double() / 255
    torch.testing.assert_close(statistics.mean, x.mean(dim=(0, 2, 3), keepdim=True))
    torch.testing.assert_close(statistics.std, x.std(dim=(0, 2, 3), keepdim=True, correction=0))
    in_memory = Statistics(images)
    assert torch.equal(in_memory.mean, statistics.mean)
    assert torch.equal(in_memory.std, statistics.std)


def test_a_backbone_is_built_on_images_that_are_not_in_memory():
    images = random_inputs((8, 3, 16, 16))
    networks = []
    for inputs in (images, ReadsImages(images)):
        torch.manual_seed(0)
        networks.append(build_backbone("cnn", inputs, 4)[0])
    assert torch.equal(networks[0](images), networks[1](images))


def test_known_statistics_are_not_read_again():
    images = random_inputs((8, 3, 16, 16))
    stored = ReadsImages(images)
    backbone, _ = build_backbone("cnn", stored, 4, statistics=Statistics(images // 2))
    assert stored.rows_read == []
    torch.testing.assert_close(backbone[0](images), standardize(images // 2)(images))


def test_a_constant_column_becomes_zero():
    inputs = torch.tensor([[2.0, 1], [2, 2], [2, 3]])
    standardized = standardize(inputs)(inputs)
    assert standardized[:, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(standardized[:, 1], [-np.sqrt(1.5), 0, np.sqrt(1.5)], rtol=1e-6)


def test_images_mean_the_same_as_bytes_and_as_fractions() -> None:
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    standardization = standardize(images)
    assert torch.allclose(standardization(images), standardization(images.float() / 255), atol=1e-6)
