"""Read a pretrained network from a folder or a file: of `emlc pretrain`, or in the layout of timm's hub."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from emlc.architectures.layers import build_layers, is_from_torchvision
from emlc.data.embeddings.image_networks import Pretrained, filled, timm_network
from emlc.errors import InputError


def read_folder(path: Path) -> Pretrained:
    """Read a network from what ``emlc pretrain`` has written, or from model.safetensors and config.json.

    Args:
        path: The folder, or the file backbone.safetensors.

    Raises:
        InputError: If it holds no network, one that needs code of its own, or weights that do not fit.
    """
    file = path / "backbone.safetensors" if path.is_dir() else path
    if path.is_dir() and (path / "config.json").is_file():
        return _from_config(path)
    if not file.is_file():
        raise InputError(
            f"image_model: {path} has neither backbone.safetensors, which `emlc pretrain` writes, nor "
            "config.json and model.safetensors"
        )
    try:
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
        tensors = load_file(file)
    except Exception as error:  # a broken file may lead to any
        raise InputError(f"image_model: {file} cannot be read as safetensors: {error}") from error
    return _own(file, about, tensors)


def _own(file: Path, about: dict[str, str], tensors: dict[str, Tensor]) -> Pretrained:
    """Build the network that ``emlc pretrain`` describes beside the weights."""
    name = about.get("backbone", "")
    if ":" in name:
        raise InputError(
            f"image_model: the network of {file} is code of your own, {name}, which is not run; expected a "
            "network that emlc, torchvision or timm has"
        )
    try:
        channels, height, width = map(int, about["input_shape"].split("x"))
        stem: Any = about["stem"]
        options = int(about["width"]) if "width" in about else None
        mean, std = (tensors[f"0.{key}"].flatten().tolist() for key in ("mean", "std"))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"image_model: {file} does not say which network it holds, as files of `emlc pretrain` do"
        ) from error
    if height != width:
        raise InputError(
            f"image_model: the network of {file} learned from images of {height} x {width} pixels, expected "
            "squares"
        )
    takes = 3 if is_from_torchvision(name) else channels
    layers, _ = build_layers(name, (takes, height, width), options, stem)
    network = nn.Sequential(*layers)
    # In the file the standardisation comes first: layer k + 1 there is layer k here.
    parts = [key.partition(".") for key in tensors if not key.startswith("0.")]
    shifted = {f"{int(k) - 1}.{rest}": tensors[f"{k}.{rest}"] for k, _, rest in parts if k.isdecimal()}
    filled(network, shifted, str(file))
    return Pretrained(network, height, mean, std, grey=takes == 1)


def _from_config(folder: Path) -> Pretrained:
    """Build the network that ``config.json`` names, as in timm's folders on the Hugging Face hub."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        name, about = str(config["architecture"]), dict(config["pretrained_cfg"])
        needed = {key: about[key] for key in ("mean", "std", "input_size")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"image_model: {folder / 'config.json'}: expected architecture and pretrained_cfg with mean, std "
            f"and input_size, as timm writes them: {error!r}"
        ) from error
    return timm_network(name, folder / "model.safetensors", needed)
