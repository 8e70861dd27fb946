"""A ResNet-18 of half the width, for steps on machines on which a whole one takes too long.

Its name for `emlc bench step --networks`, in the root of the repository: benchmarks.narrow:half_resnet18
"""

from typing import cast

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

_WIDTHS = (32, 64, 128, 256)
"""Channels of the four stages."""


def half_resnet18(input_shape: tuple[int, ...]) -> nn.Module:
    """Build the network for colour images of 32 x 32 and less: 3 x 3 stem, no max-pooling, no head."""
    network = ResNet(BasicBlock, [2, 2, 2, 2])
    network.inplanes = _WIDTHS[0]
    network.conv1 = nn.Conv2d(input_shape[0], _WIDTHS[0], 3, padding=1, bias=False)
    network.bn1 = nn.BatchNorm2d(_WIDTHS[0])
    network.maxpool, network.fc = nn.Identity(), nn.Identity()
    for k, width in enumerate(_WIDTHS):
        stage = network._make_layer(BasicBlock, width, 2, stride=1 if k == 0 else 2)
        setattr(network, f"layer{k + 1}", stage)
    return cast(nn.Module, network)
