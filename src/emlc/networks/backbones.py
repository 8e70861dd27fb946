"""Feature extractors: small ones of our own, torchvision's, or the user's, and a classifier on one.

Networks take inputs as they are stored, uint8 images or unscaled features: standardisation is their
first layer, so that a saved network needs nothing beside it.
"""

import importlib
import inspect
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from math import prod
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models import ResNet, get_model, list_models

from emlc.data.images.stored import Inputs
from emlc.errors import InputError
from emlc.networks.standardize import Standardize, Statistics

Stem = Literal["auto", "cifar", "imagenet"]

OWN = ("auto", "linear", "mlp", "cnn")
"""Names of our own backbones; auto is one of the others."""


def build_backbone(
    name: str,
    inputs: Inputs,
    width: int | None = None,
    *,
    stem: Stem = "auto",
    statistics: Statistics | None = None,
) -> tuple[nn.Module, int]:
    """A feature extractor with random weights for inputs like these, and the width of its representation.

    Args:
        name: auto | linear | mlp | cnn | a classification network of torchvision.models, whose head is
            taken off | ``module:factory``, where ``factory(input_shape)`` gives a module that maps
            standardised float32 inputs (n, ...) of this shape to features (n, d). The module is looked
            for in the current directory, then on Python's path.
        inputs: (n, d) features or (n, channels, height, width) images the network will be trained on;
            their shape and standardisation are taken from them. Networks of torchvision get grey images
            repeated to three channels, so that weights learned on colour images fit.
        width: Units of the mlp, or channels of the cnn's first stage.
        stem: Of torchvision's residual networks. cifar: a 3 x 3 convolution of stride 1, no pooling.
            imagenet: as torchvision has it. auto: cifar for images below 64 pixels.
        statistics: Of ``inputs``, where they are known already.

    Raises:
        InputError: no such network; it does not take inputs of this shape; it has no such stem.
    """
    layers, dim = _layers(name, tuple(inputs.shape[1:]), width, stem)
    is_torchvisions = name in list_models(module=torchvision.models)
    standardize = Standardize(statistics or Statistics(inputs), channels=3 if is_torchvisions else None)
    return nn.Sequential(standardize, *layers), dim


class Classifier(nn.Sequential):
    """A backbone with a linear classifier: inputs (n, ...) to logits (n, C)."""

    backbone: nn.Module
    classifier: nn.Linear

    def __init__(self, backbone: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__(OrderedDict(backbone=backbone, classifier=nn.Linear(feature_dim, num_classes)))


def _layers(name: str, shape: tuple[int, ...], width: int | None, stem: Stem) -> tuple[list[nn.Module], int]:
    """What follows standardisation, and the width of the representation it ends in."""
    if name == "auto":
        name = "cnn" if len(shape) == 3 else "mlp"
    if stem == "cifar" and (name in OWN or ":" in name):
        raise InputError(_no_cifar_stem(name))
    if name == "linear":
        return [nn.Flatten()], prod(shape)
    if name == "mlp":
        return _mlp(prod(shape), width or 256)
    if ":" in name:
        network = _users(name, shape)
        return [network], _feature_dim(name, network, shape)
    if name != "cnn" and name not in list_models(module=torchvision.models):
        raise InputError(_unknown(name))
    if len(shape) != 3:
        raise InputError(
            f"backbone: {name} needs images, but the samples are rows of numbers: use mlp or linear"
        )
    if name == "cnn":
        return _cnn(shape[0], min(shape[1:]), width or 32)
    network = _torchvision(name, shape, stem)
    return [network], _feature_dim(name, network, (3, *shape[1:]), device="meta")


# --- our own -----------------------------------------------------------------------------------


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


def _torchvision(name: str, shape: tuple[int, ...], stem: Stem) -> nn.Module:
    """A network of torchvision without its head, for images of three channels of this size."""
    _, height, width = shape
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": height}
    elif name.startswith("maxvit_"):
        options = {"input_size": (height, width)}
    try:
        network: nn.Module = get_model(name, weights=None, **options)
    except (AssertionError, ValueError) as error:
        raise InputError(_does_not_take(name, shape, error)) from error
    head = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    network.set_submodule(head, nn.Identity())
    if isinstance(network, ResNet):
        if stem == "cifar" or (stem == "auto" and min(height, width) < 64):
            network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
    elif stem == "cifar":
        raise InputError(_no_cifar_stem(name))
    return network


def _no_cifar_stem(name: str) -> str:
    return f"stem: only the residual networks of torchvision have a cifar stem, and {name} is none of them"


def _unknown(name: str) -> str:
    near = get_close_matches(name, [*OWN, *list_models(module=torchvision.models)], n=5)
    return (
        f"backbone: there is no network {name!r}"
        + (f"; did you mean {' or '.join(near)}?" if near else ".")
        + f" Expected {', '.join(OWN)}, a classification network of torchvision.models, or module:factory"
    )


# --- the user's --------------------------------------------------------------------------------


def _users(name: str, shape: tuple[int, ...]) -> nn.Module:
    """What the factory of ``module:factory`` makes for inputs of this shape.

    Errors inside the user's own code are not caught: they need the traceback.
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
            raise  # the user's module was found, and imports another one that is not there
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
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


# --- the check of both -------------------------------------------------------------------------


def _feature_dim(name: str, network: nn.Module, shape: tuple[int, ...], device: str = "cpu") -> int:
    """d of the features (n, d), from a forward pass; on the meta device it costs next to nothing."""
    x = torch.zeros(2, *shape, device=device)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    network.eval()
    try:
        with torch.no_grad():
            state = {key: value.to(device) for key, value in network.state_dict().items()}
            features = network(x) if device == "cpu" else functional_call(network, state, (x,))
    except Exception as error:  # whatever a network raises for inputs it is not made for
        raise InputError(_does_not_take(name, shape, error)) from error
    network.train()
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"backbone: {name}: expected features (n, d), got {found} for inputs {(2, *shape)}")
    return features.shape[1]


def _does_not_take(name: str, shape: tuple[int, ...], error: Exception) -> str:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return f"backbone: {name} does not take inputs of shape {shape}: {reason}"
