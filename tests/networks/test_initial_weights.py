"""Files of every supported origin give the network they were written from, and nothing else is taken."""

import pickle
import re
from argparse import Namespace
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, get_model_weights

from emlc.architectures.weight_files import check_initial_weights
from emlc.errors import InputError
from emlc.networks.backbones import Classifier, build_backbone
from emlc.networks.initial_weights import load_initial_weights

IMAGES = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def backbone(seed, name="resnet18", inputs=IMAGES, **options):
    """With random weights and running statistics."""
    torch.manual_seed(seed)
    network, _ = build_backbone(name, inputs, 4, **options)
    for key, buffer in network.named_buffers():
        if "running_var" in key:
            buffer.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def trained():
    return backbone(1)


def state(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def inner_state(network):
    return state(network[1])


def features(network, inputs=IMAGES):
    with torch.no_grad():
        return network.eval()(inputs)


def loads(path, trained, name="resnet18", inputs=IMAGES, **options):
    """Load a file into a network with other random weights; its message, once the features are right."""
    network = backbone(2, name, inputs, **options)
    assert not torch.allclose(features(network, inputs), features(trained, inputs))
    message = load_initial_weights(network, str(path), name)
    torch.testing.assert_close(features(network, inputs), features(trained, inputs), rtol=0, atol=0)
    return message


def refusal(path, name="resnet18", **options):
    """Why a file is refused; the network stays as it was."""
    network = backbone(2, name, **options)
    before = state(network)
    with pytest.raises(InputError) as caught:
        load_initial_weights(network, str(path), name)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return str(caught.value)


def saved(path, content):
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


# Our own files


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "resnet18"])
def test_our_own_pretraining(name, tmp_path):
    network = backbone(1, name, IMAGES // 2)  # also its standardisation is taken
    path = saved(tmp_path / "backbone.safetensors", state(network))
    assert loads(path, network, name) == f"{name}: {len(state(network))} tensors from {path}"


def test_the_networks_of_a_run(trained, tmp_path):
    path = saved(tmp_path / "student.safetensors", state(Classifier(trained, 512, 3)))
    assert loads(path, trained).endswith(f"tensors from {path}; ignored: classifier")


def test_random_weights_stay():
    network = backbone(1)
    before = features(network)
    assert load_initial_weights(network, "none", "resnet18") == "resnet18: random initial weights"
    assert load_initial_weights(network, "none", "resnet18", "student") == "student: random initial weights"
    assert torch.equal(features(network), before)


# Foreign files


def supcontrast(network):
    """As SupContrast's main_supcon.py saves a resnet trained with DataParallel."""
    encoder = {k.replace("downsample", "shortcut"): v for k, v in inner_state(network).items()}
    head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128)).state_dict()
    return {
        "opt": Namespace(model="resnet18", batch_size=512, lr_decay_epochs=[700, 800], cosine=True),
        "model": {f"encoder.module.{k}": v for k, v in encoder.items()}
        | {f"head.{k}": v for k, v in head.items()},
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 1000,
    }


def numbered(network):
    """As lightly's examples build a backbone: the children of a torchvision network but the last."""
    children = [child for child, _ in network[1].named_children()]
    return {
        re.sub(r"^[^.]+", lambda m: f"backbone.{children.index(m[0])}", key): value
        for key, value in inner_state(network).items()
    } | {"projection_head.layers.0.weight": torch.zeros(2, 2)}


FOREIGN = {
    "supcontrast": (supcontrast, "model.head, optimizer"),
    "lightly": (lambda n: {"state_dict": numbered(n), "epoch": 3}, "state_dict.projection_head"),
    "torchvision": (
        lambda n: inner_state(n) | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)},
        "fc",
    ),
    "moco": (
        lambda n: (
            {f"module.encoder_q.{k}": v for k, v in inner_state(n).items()}
            | {"module.encoder_q.fc.2.weight": torch.zeros(128, 512), "module.queue": torch.zeros(128, 64)}
        ),
        "module.encoder_q.fc.2, module.queue",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("counts", [True, False], ids=["with batch counts", "without"])
def test_foreign_checkpoints(kind, counts, trained, tmp_path):
    write, ignored = FOREIGN[kind]
    content = without_counts(write(trained)) if not counts else write(trained)
    message = loads(saved(tmp_path / "last.pth", content), trained)
    assert (
        message
        == f"resnet18: {120 if counts else 100} tensors from {tmp_path / 'last.pth'}; ignored: {ignored}"
    )


def without_counts(content):
    return {
        key: without_counts(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if not str(key).endswith("num_batches_tracked")
    }


def test_foreign_weights_leave_the_standardisation_of_the_data(trained, tmp_path):
    path = saved(tmp_path / "w.pth", inner_state(trained))
    network = backbone(2, inputs=IMAGES // 2)
    standardized = network[0](IMAGES)
    load_initial_weights(network, str(path), "resnet18")
    assert torch.equal(network[0](IMAGES), standardized)


def test_weights_learned_on_colour_images_serve_grey_ones(trained, tmp_path):
    path = saved(tmp_path / "w.pth", inner_state(trained))
    grey = IMAGES[:, :1]
    network = backbone(2, inputs=grey)
    load_initial_weights(network, str(path), "resnet18")
    with torch.no_grad():
        expected = trained[1](network[0](grey))
    assert network[0](grey).shape == (4, 3, 32, 32)
    assert torch.equal(features(network, grey), expected)


def test_reduced_precision_is_taken_as_it_is(trained, tmp_path):
    network = backbone(2)
    half = {key: value.half() for key, value in state(trained).items()}
    load_initial_weights(network, str(saved(tmp_path / "w.safetensors", half)), "resnet18")
    for key, value in network.state_dict().items():
        assert value.dtype == trained.state_dict()[key].dtype
        assert torch.equal(value.half(), half[key])


OWN_NETS = """
from torch import nn

def two(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 3))

def three(shape):
    return nn.Sequential(*two(shape), nn.Tanh(), nn.Linear(3, 3))
"""


def test_a_network_of_ones_own_takes_its_own_names_and_no_deeper_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own_nets.py").write_text(OWN_NETS)
    inputs = IMAGES[:, :, :2, :2]
    two, three = (backbone(1, f"own_nets:{name}", inputs) for name in ("two", "three"))
    loads(saved(tmp_path / "two.pt", inner_state(two)), two, "own_nets:two", inputs)
    message = refusal(saved(tmp_path / "three.pt", inner_state(three)), "own_nets:two", inputs=inputs)
    assert message.splitlines()[1:] == ["  - unexpected: 5.weight, 5.bias"]


class Shortcut(nn.Module):
    """A block and its shortcut, which may be nothing."""

    def __init__(self, *, linear):
        super().__init__()
        self.shortcut = nn.Linear(12, 12) if linear else nn.Identity()
        self.block = nn.Linear(12, 12)

    def forward(self, x):
        return self.block(x.flatten(1)) + self.shortcut(x.flatten(1))


def test_weights_that_a_network_of_ones_own_has_no_layer_for_are_not_taken_for_a_head(tmp_path, monkeypatch):
    monkeypatch.setattr("emlc.architectures.layers._imported", lambda _: lambda shape: Shortcut(linear=False))
    path = saved(tmp_path / "w.pt", Shortcut(linear=True).state_dict())
    message = refusal(path, "nets:shortcut", inputs=IMAGES[:, :, :2, :2])
    assert message.splitlines()[1:] == ["  - unexpected: shortcut.weight, shortcut.bias"]


# Files that do not fit


def test_what_is_missing_or_misshapen_is_listed(trained, tmp_path):
    content = state(trained)
    del content["1.layer1.0.conv1.weight"]
    content["1.layer2.0.bn1.weight"] = torch.zeros(7)
    content["1.layer9.weight"] = torch.zeros(1)
    path = tmp_path / "w.safetensors"
    save_file(content, path, metadata={"backbone": "resnet18", "stem": "cifar"})
    assert refusal(path).splitlines() == [
        f"init: {path} (backbone resnet18, stem cifar) does not fit resnet18:",
        "  - missing: 1.layer1.0.conv1.weight",
        "  - of another shape: 1.layer2.0.bn1.weight (7,) instead of (128,)",
        "  - unexpected: 1.layer9.weight",
    ]


def test_a_deeper_network_of_the_same_family_is_another_network(tmp_path):
    path = saved(tmp_path / "w.pth", get_model("resnet34").state_dict())
    lines = refusal(path, stem="imagenet").splitlines()
    assert lines[1].startswith("  - unexpected: layer1.2.conv1.weight, layer1.2.bn1.weight")
    assert lines[1].endswith(" more")
    assert len(lines) == 2


def test_a_shallower_network_leaves_out_too_much(tmp_path):
    path = saved(tmp_path / "w.pth", get_model("resnet18").state_dict())
    lines = refusal(path, "resnet34", stem="imagenet").splitlines()
    assert re.fullmatch(r"  - missing: layer1\.2\.conv1\.weight, .* and \d+ more", lines[1])
    assert len(lines) == 2


def test_another_stem_is_said_to_be_one(tmp_path):
    path = saved(tmp_path / "w.pth", get_model("resnet18").state_dict())
    assert refusal(path).splitlines()[1:] == [
        "  - of another shape: conv1.weight (64, 3, 7, 7) instead of (64, 3, 3, 3)",
        "the first convolution differs with the setting stem: 3 x 3 if cifar, 7 x 7 if imagenet",
    ]


def test_a_file_with_two_such_networks_is_ambiguous(trained, tmp_path):
    content = {"student": inner_state(trained), "teacher": inner_state(trained)}
    message = refusal(saved(tmp_path / "w.pt", content))
    assert "holds more than one resnet18, under student. and teacher.: save" in message


def test_a_file_of_something_else(tmp_path):
    path = saved(tmp_path / "w.pt", {"decoder": {"layer.weight": torch.zeros(1)}, "epoch": 3})
    assert refusal(path).endswith("has no weights of resnet18; it has decoder.layer.weight")
    assert refusal(saved(tmp_path / "e.pt", [1, 2])).endswith("it has no tensors")


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_no_code_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Malicious()}, "w.pt")
    Path("w.pth").write_bytes(pickle.dumps(Malicious()))
    for path in ("w.pt", "w.pth"):
        assert f"init: {path}: cannot be read as plain tensors" in refusal(path)
    assert not Path("touched").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_broken_file(name, trained, tmp_path):
    path = saved(tmp_path / name, state(trained))
    path.write_bytes(path.read_bytes()[:5000])
    assert f"init: {path}: cannot be read as plain tensors" in refusal(path)


def test_a_file_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in (None, "none", "imagenet"):
        check_initial_weights(given)
    with pytest.raises(
        InputError, match=r"expected none, imagenet or a file, but there is no file image-net$"
    ):
        check_initial_weights("image-net")
    with pytest.raises(InputError, match="is a directory: name a file in it"):
        check_initial_weights(str(tmp_path))
    preset = "runs/simclr-cifar10-resnet34/backbone.safetensors"
    with pytest.raises(InputError, match=r": `emlc pretrain --preset simclr-cifar10-resnet34` makes it$"):
        check_initial_weights(preset)
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "w.safetensors", {})
    check_initial_weights("~/w.safetensors")
    assert "there is no file w.pt" in refusal("w.pt")


# torchvision's weights, from files where its hub looks for what it has downloaded


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Puts weights where torch.hub keeps those it has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)

    def put(name, content):
        path = folder / Path(get_model_weights(name).DEFAULT.url).name
        torch.save(content, path)
        return path

    return put


MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("name", "size", "ignored"),
    [("resnet18", 64, "fc"), ("densenet121", 64, "classifier"), ("googlenet", 64, "fc")],
)
def test_imagenet(name, size, ignored, hub):
    options = {"init_weights": True} if name == "googlenet" else {}
    torchvisions = get_model(name, **options).eval()
    # DenseNets lie on the server under the names of an older version, without counts of batches.
    older = {
        re.sub(r"(layer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value
        for key, value in without_counts(torchvisions.state_dict()).items()
    }
    assert (older.keys() <= torchvisions.state_dict().keys()) == (name != "densenet121")
    hub(name, older)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    network = backbone(2, name, images)
    torch.manual_seed(5)
    message = load_initial_weights(network, "imagenet", name)
    drawn = torch.rand(3)
    assert re.fullmatch(
        rf"{name}: \d+ tensors from torchvision's \w+\.IMAGENET1K_V1; ignored: {ignored}.*", message
    )
    if name == "googlenet":
        torchvisions.transform_input = True  # as get_model(name, weights=...) sets it
    x = (images / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    head = torchvisions.classifier if name == "densenet121" else torchvisions.fc
    with torch.no_grad():
        torch.testing.assert_close(head(features(network, images)), torchvisions(x), rtol=1e-4, atol=1e-4)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))  # the random numbers of what follows do not depend on it


def test_imagenet_does_not_fit_the_cifar_stem(hub):
    hub("resnet18", get_model("resnet18").state_dict())
    message = refusal("imagenet")
    assert "conv1.weight (64, 3, 7, 7) instead of (64, 3, 3, 3)" in message
    assert message.endswith("3 x 3 if cifar, 7 x 7 if imagenet")


def test_imagenet_for_other_networks():
    assert refusal("imagenet", "cnn").endswith("weights for the networks of torchvision, not for cnn")


def test_imagenet_without_a_network(hub, monkeypatch, tmp_path):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    message = refusal("imagenet")
    url = get_model_weights("resnet18").DEFAULT.url
    assert "no route to host" in message
    assert message.endswith(
        f"fetch {url} elsewhere and put it at {tmp_path}/hub/checkpoints/{Path(url).name}"
    )


def test_no_code_in_torchvisions_cache_is_run(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub("resnet18", {"conv1.weight": Malicious()})
    assert "cannot get torchvision's weights of resnet18" in refusal("imagenet")
    assert not Path("touched").exists()
