"""The layers of feature extractors: small built-in ones, torchvision's, or the user's.

They take standardised float32 inputs, which is left to the caller.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from emlc.architectures.dropout import HalfDropout
from emlc.architectures.zoo import build_network, is_resnet, network_names
from emlc.errors import InputError

Stem = Literal["auto", "cifar", "imagenet"]

BUILT_IN = ("auto", "linear", "shallow", "mlp", "cnn")
"""Names of the built-in backbones; auto is shallow or cnn."""


def build_layers(
    name: str,
    shape: tuple[int, ...],
    width: int | None = None,
    stem: Stem = "auto",
    num_classes: int = 0,
) -> tuple[list[nn.Module], int]:
    """Build layers with random weights for standardised inputs (n, *shape).

    Args:
        name: As in :func:`emlc.networks.backbones.build_backbone`, like the other arguments.
        shape: (d,) of features or (channels, height, width) of images; torchvision's networks take three
            channels, whatever the images have.
        width: Units per hidden layer, or channels of the cnn's first stage.
        stem: First layers of torchvision's residual networks.
        num_classes: Many of them make the hidden layer of shallow wider.

    Returns:
        The layers, and the width of their features.

    Raises:
        InputError: no such network; it does not take inputs of this shape; it has no such stem.
    """
    if name == "auto":
        name = "cnn" if len(shape) == 3 else "shallow"
    if stem == "cifar" and (name in BUILT_IN or ":" in name):
        raise InputError(_no_cifar_stem(name))
    if name == "linear":
        return [nn.Flatten()], prod(shape)
    if name == "shallow":
        return _shallow(prod(shape), width or max(256, 5 * num_classes))
    if name == "mlp":
        return _mlp(prod(shape), width or 256)
    if ":" in name:
        network = _user_network(name, shape)
        return [network], _feature_dim(name, network, shape)
    if name != "cnn" and not is_from_torchvision(name):
        raise InputError(_unknown(name))
    if len(shape) != 3:
        raise InputError(
            f"backbone: {name} needs images, but the samples are rows of numbers: use shallow, mlp or linear"
        )
    if name == "cnn":
        return _cnn(shape[0], min(shape[1:]), width or 32)
    network = _torchvision_network(name, shape, stem)
    return [network], _feature_dim(name, network, (3, *shape[1:]), device="meta")


def is_from_torchvision(name: str) -> bool:
    """Return whether a backbone's name is that of a network of torchvision."""
    return name not in BUILT_IN and ":" not in name and name in network_names()


# --- built in ----------------------------------------------------------------------------------


def _shallow(dim: int, width: int) -> tuple[list[nn.Module], int]:
    # Dropout keeps a network from learning noisy labels by heart, where batch norm hastens that.
    return [nn.Flatten(), nn.Linear(dim, width), nn.ReLU(), HalfDropout()], width


def _mlp(dim: int, width: int) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(2):
        layers += [nn.Linear(dim, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        dim = width
    return layers, dim


def _cnn(channels: int, size: int, width: int) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = []
    for stage in range(3):
        out = width * 2**stage
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
        if stage < 2 and size >= 4:
            layers.append(nn.MaxPool2d(2))
            size //= 2
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()], channels


# --- torchvision's -----------------------------------------------------------------------------


def _torchvision_network(name: str, shape: tuple[int, ...], stem: Stem) -> nn.Module:
    """Build a network of torchvision without its head, for images of three channels of this size."""
    _, height, width = shape
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": height}
    elif name.startswith("maxvit_"):
        options = {"input_size": (height, width)}
    try:
        network = build_network(name, weights=None, **options)
    except (AssertionError, ValueError) as error:
        raise InputError(_does_not_take(name, shape, error)) from error
    head = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    network.set_submodule(head, nn.Identity())
    if is_resnet(network):
        if stem == "cifar" or (stem == "auto" and min(height, width) < 64):
            network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
    elif stem == "cifar":
        raise InputError(_no_cifar_stem(name))
    return network


def _no_cifar_stem(name: str) -> str:
    return f"stem: only the residual networks of torchvision have a cifar stem, and {name} is none of them"


def _unknown(name: str) -> str:
    near = get_close_matches(name, [*BUILT_IN, *network_names()], n=5)
    meant = f"; did you mean {' or '.join(near)}?" if near else "."
    expected = f"{', '.join(BUILT_IN)}, a classification network of torchvision.models, or module:factory"
    return f"backbone: there is no network {name!r}{meant} Expected {expected}"


# --- the user's --------------------------------------------------------------------------------


def _user_network(name: str, shape: tuple[int, ...]) -> nn.Module:
    """Call the factory of ``module:factory`` for inputs of this shape.

    Errors in the user's own code are not caught, as they need the traceback.
    """
    with _current_directory_on_path():
        factory = _imported(name)
        try:
            inspect.signature(factory).bind(shape)
        except TypeError as error:
            raise InputError(
                f"backbone: {name}: cannot be called as factory(input_shape): {error}"
            ) from error
        network = factory(shape)
    if not isinstance(network, nn.Module):
        raise InputError(f"backbone: {name} gave {type(network).__name__}, expected a torch.nn.Module")
    return network


def _imported(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the user's module exists, and imports another one that does not
        raise InputError(
            f"backbone: {name}: no module {error.name}, neither in {os.getcwd()} nor on Python's path"
        ) from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise InputError(f"backbone: {name}: {module_name} has no {attribute}")
        value = getattr(value, part)
    if not callable(value):
        raise InputError(f"backbone: {name}: is {type(value).__name__}, expected a function or class")
    return value  # type: ignore[no-any-return]


@contextmanager
def _current_directory_on_path() -> Iterator[None]:
    directory = os.getcwd()
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.path.remove(directory)


# --- the check of torchvision's and the user's -------------------------------------------------


def _feature_dim(name: str, network: nn.Module, shape: tuple[int, ...], device: str = "cpu") -> int:
    """Find d of the features (n, d) by a forward pass, which costs next to nothing on the meta device."""
    x = torch.zeros(2, *shape, device=device)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    network.eval()
    try:
        with torch.no_grad():
            state = {key: value.to(device) for key, value in network.state_dict().items()}
            features = network(x) if device == "cpu" else functional_call(network, state, (x,))
    except Exception as error:  # any kind: networks raise what they like for inputs that they cannot take
        raise InputError(_does_not_take(name, shape, error)) from error
    network.train()
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        output = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"backbone: {name}: expected features (n, d), got {output} for inputs {(2, *shape)}")
    return features.shape[1]


def _does_not_take(name: str, shape: tuple[int, ...], error: Exception) -> str:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return f"backbone: {name} does not take inputs of shape {shape}: {reason}"
