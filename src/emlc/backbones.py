"""Feature extractors, from torchvision where it has them, and the classifier built on one.

Networks take inputs as they are stored, uint8 images or unscaled features: standardisation is their
first layer, so that a saved network needs nothing beside it.
"""

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, get_model

from emlc.errors import InputError


class Standardize(nn.Module):
    """``(x - mean) / std`` per channel of an image batch or per column of a feature batch.

    Args:
        inputs: (n, d) features or (n, channels, height, width) images to take the statistics from.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        mean, std = _channel_statistics(inputs)
        shape = (1, len(mean), *(1,) * (inputs.ndim - 2))
        # A constant column carries nothing: leave it at zero instead of dividing by zero.
        self.register_buffer("mean", mean.float().view(shape))
        self.register_buffer("std", torch.where(std > 0, std, 1.0).float().view(shape))

    def forward(self, inputs: Tensor) -> Tensor:
        standardized = (_scaled(inputs) - self.mean) / self.std
        if standardized.ndim == 4:
            # Convolutions and pooling on the CPU, and bf16 ones on the GPU, are faster on this layout.
            return standardized.contiguous(memory_format=torch.channels_last)
        return standardized


def build_backbone(name: str, inputs: Tensor, width: int | None = None) -> tuple[nn.Module, int]:
    """A feature extractor for inputs like these, and the width of its representation.

    Args:
        name: auto, linear, mlp, cnn, resnet18, resnet34 or resnet50. Residual networks get the CIFAR
            stem (3 x 3, stride 1, no pooling) for images below 64 pixels.
        inputs: (n, d) features or (n, channels, height, width) images the network will be trained on;
            their shape and standardisation are taken from them.
        width: Units of the mlp, or channels of the cnn's first stage.

    Raises:
        InputError: a network for images, and the inputs are rows of numbers.
    """
    is_image = inputs.ndim == 4
    if name == "auto":
        name = "cnn" if is_image else "mlp"
    standardize = Standardize(inputs)
    if name in ("linear", "mlp"):
        dim = inputs[0].numel()
        layers, dim = _mlp(dim, width or 256) if name == "mlp" else ([], dim)
        return nn.Sequential(standardize, nn.Flatten(), *layers), dim
    if not is_image:
        raise InputError(
            f"backbone: {name} needs images, but the samples are rows of numbers: use mlp or linear"
        )
    channels, size = inputs.shape[1], min(inputs.shape[2:])
    if name == "cnn":
        layers, dim = _cnn(channels, size, width or 32)
        return nn.Sequential(standardize, *layers), dim
    network, dim = _resnet(name, channels, small=size < 64)
    return nn.Sequential(standardize, network), dim


class Classifier(nn.Sequential):
    """A backbone with a linear classifier: inputs (n, ...) to logits (n, C)."""

    backbone: nn.Module
    classifier: nn.Linear

    def __init__(self, backbone: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__(OrderedDict(backbone=backbone, classifier=nn.Linear(feature_dim, num_classes)))


def _scaled(inputs: Tensor) -> Tensor:
    """Images as float32 in [0, 1], whether they are stored as uint8 or so already; features as they are."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs.float()


def _channel_statistics(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (channels,) float64, chunk by chunk to spare memory."""
    count = inputs.numel() // inputs.shape[1]
    chunks = [chunk.transpose(0, 1).flatten(1) for chunk in inputs.split(1024)]
    mean = torch.stack([_scaled(chunk).double().sum(dim=1) for chunk in chunks]).sum(dim=0) / count
    squares = [(_scaled(chunk).double() - mean[:, None]).square().sum(dim=1) for chunk in chunks]
    return mean, (torch.stack(squares).sum(dim=0) / count).sqrt()


def _mlp(dim: int, width: int) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = []
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


def _resnet(name: str, channels: int, *, small: bool) -> tuple[nn.Module, int]:
    network = cast(ResNet, get_model(name, weights=None))
    if small:
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    dim = network.fc.in_features
    network.fc = nn.Identity()
    return network, dim
