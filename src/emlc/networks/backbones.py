"""Feature extractors with their standardisation, and a classifier on one.

Networks take inputs as they are stored, uint8 images or unscaled features: standardisation is their
first layer, so that a saved network is complete.
"""

from collections import OrderedDict

from torch import nn

from emlc.architectures.layers import BUILT_IN, Stem, build_layers, is_from_torchvision
from emlc.data.images.stored import Inputs
from emlc.networks.standardize import Scaling, Standardize, Statistics

__all__ = ["BUILT_IN", "Classifier", "Stem", "build_backbone"]


def build_backbone(
    name: str,
    inputs: Inputs,
    width: int | None = None,
    *,
    stem: Stem = "auto",
    scaling: Scaling = "columns",
    statistics: Statistics | None = None,
    num_classes: int = 0,
) -> tuple[nn.Module, int]:
    """Build a feature extractor with random weights for given inputs.

    Args:
        name: auto | linear | shallow | mlp | cnn | a classification network of torchvision.models, whose
            head is removed | ``module:factory``, where ``factory(input_shape)`` returns a module that maps
            standardised float32 inputs (n, ...) of this shape to features (n, d). The module is imported
            from the current directory, or else from Python's path.
        inputs: (n, d) features or (n, channels, height, width) images that the network will be trained
            on; they determine its input shape and its standardisation. Grey images are repeated to three
            channels for torchvision's networks, so that weights learned on colour images fit.
        width: Units per hidden layer, by default 256, or for shallow five per class if that is more;
            channels of the cnn's first stage, by default 32.
        stem: First layers of torchvision's residual networks. cifar: a 3 x 3 convolution of stride 1, no
            pooling. imagenet: torchvision's own. auto: cifar for images below 64 pixels, else imagenet.
        scaling: How features are standardised; see :class:`~emlc.networks.standardize.Statistics`.
        statistics: Statistics of ``inputs``, where they are known already.
        num_classes: Number of classes of the data, where it is known.

    Returns:
        The network, inputs (n, ...) to features (n, d), and d.

    Raises:
        InputError: no such network; it does not take inputs of this shape; it has no such stem.
    """
    if inputs.ndim == 2:
        statistics = statistics or Statistics(inputs, scaling)
    basis = None if statistics is None else statistics.basis
    shape = inputs.shape[1:] if basis is None else basis.shape[1:]
    layers, dim = build_layers(name, tuple(shape), width, stem, num_classes)
    channels = 3 if is_from_torchvision(name) else None
    return nn.Sequential(Standardize(statistics or Statistics(inputs), channels), *layers), dim


class Classifier(nn.Sequential):
    """A backbone with a linear classifier: inputs (n, ...) to logits (n, C)."""

    backbone: nn.Module
    classifier: nn.Linear

    def __init__(self, backbone: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__(OrderedDict(backbone=backbone, classifier=nn.Linear(feature_dim, num_classes)))
