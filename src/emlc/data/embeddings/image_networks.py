"""Pretrained networks with their standardisation, from timm or from weights that are at hand."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emlc.errors import InputError


class Pretrained:
    """A pretrained network, preceded by its standardisation.

    Args:
        network: Standardised images (n, 3, p, p) to features (n, d).
        pixels: Side p of the images that it takes.
        mean: Mean of each channel, of pixels in [0, 1]; one number for grey images.
        std: Standard deviation of each channel.

    Attributes:
        network: Images (n, 3, p, p) float32 in [0, 1] to features (n, d).
        pixels: Side p of the images.
    """

    def __init__(
        self,
        network: nn.Module,
        pixels: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        grey: bool = False,
    ) -> None:
        self.network = nn.Sequential(_Standardized(mean, std, grey=grey), network)
        self.pixels = pixels


class _Standardized(nn.Module):
    """A layer ``(x - mean) / std``, for RGB images or, made grey first, their luminance."""

    mean: Tensor
    std: Tensor
    luminance: Tensor | None

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, grey: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.register_buffer(
            "luminance", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1) if grey else None
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.luminance is None else (x * self.luminance).sum(dim=1, keepdim=True)
        return (x - self.mean) / self.std


def filled(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Fill every parameter and buffer of a network by name; tensors of a head that it lacks are left out.

    Raises:
        InputError: If a tensor is missing or of another shape.
    """
    state = network.state_dict()
    missing = [key for key in state if key not in tensors and not key.endswith("num_batches_tracked")]
    other = [key for key in state if key in tensors and tensors[key].shape != state[key].shape]
    if missing or other:
        kind, names = ("missing", missing) if missing else ("of another shape", other)
        raise InputError(
            f"image_model: the weights of {where} do not fit the network: {len(names)} tensors are {kind}, "
            f"such as {names[0]}"
        )
    network.load_state_dict({key: tensors.get(key, value) for key, value in state.items()})


def timm_network(name: str, file: Path | None = None, config: Mapping[str, Any] | None = None) -> Pretrained:
    """Build a network of timm, and fill it from a safetensors file, by default that on the Hugging Face hub.

    Args:
        name: Name of the network, such as ``resnet18.a1_in1k``.
        file: The weights; None: downloaded once.
        config: ``mean``, ``std`` and ``input_size`` of the images; None: timm's.

    Raises:
        InputError: If timm is not installed, has no such network, or the weights cannot be had or do not fit.
    """
    try:
        timm: Any = import_module("timm")
    except ImportError as error:
        raise InputError(
            f"image_model: {name} needs timm, which is not installed: pip install timm"
        ) from error
    try:
        if config is None:
            found = timm.get_pretrained_cfg(name)
            if found is None:
                raise ValueError("no weights of that name")
            config = found.to_dict()
        network = timm.create_model(name, pretrained=False, num_classes=0)
    except Exception as error:  # timm's own errors, of many kinds
        raise InputError(f"image_model: timm has no pretrained network {name}: {error}") from error
    file = file or _from_hub(name, config.get("hf_hub_id") or f"timm/{name}")
    filled(network, _read(file), str(file))
    return Pretrained(network, int(config["input_size"][-1]), tuple(config["mean"]), tuple(config["std"]))


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except Exception as error:  # a broken file may lead to any
        raise InputError(f"image_model: {file} cannot be read as safetensors: {error}") from error


def _from_hub(name: str, repository: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise InputError(
            "image_model: huggingface_hub, which downloads weights, is not installed: pip install timm"
        ) from error
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # the hub's own errors: no network, no such model, no permission
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"image_model: cannot get the weights of timm:{name} from {repository} on the Hugging Face "
            f"hub: {reason[0]}. Without a network, download its model.safetensors and config.json elsewhere "
            "into a folder, and name that folder"
        ) from error
