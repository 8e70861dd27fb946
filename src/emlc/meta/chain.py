"""Jacobian-vector products of small networks in closed form, from what the layers of a step gave.

In a network of a few small layers, calling an operation takes as long as the operation. Forward-mode AD runs
the pass again, two operations for one, and draws the dropout masks again. But where layers follow one
another, a tangent takes one product per weight, one more per hidden layer, and what the step has computed:

    linear  y = x W^T + b      dy = x dW^T + db + dx W^T
    ReLU, and dropout of it    dy = dx where y > 0, times dropout's 1/(1 - p), else 0
"""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from emlc.architectures.dropout import HalfDropout


class Chain:
    """The forward pass of layers that follow one another, and its derivative along a change of the weights.

    Args:
        layers: The layers, from :func:`chain_of`.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self._layers = layers
        self._values: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output for inputs (n, ...), and keep what its tangent takes."""
        for layer in self._layers.values():
            y = layer(x)
            self._values.append((x if isinstance(layer, nn.Linear) else y).detach())
            x = y
        return x

    def tangent(self, weights: Mapping[str, Tensor], u: Mapping[str, Tensor]) -> Tensor:
        """Return the derivative of the output along ``u`` at ``weights``, those of the pass, by name."""
        dx: Tensor | None = None
        for (name, layer), value in zip(self._layers.items(), self._values, strict=True):
            if isinstance(layer, nn.Linear):
                dy = linear(value, u[f"{name}weight"], u.get(f"{name}bias"))
                dx = dy if dx is None else dy.add_(linear(dx, weights[f"{name}weight"]))
            elif dx is not None:
                dx = _through(layer, value, dx)
        assert dx is not None
        return dx


def chain_of(network: nn.Module) -> dict[str, nn.Module] | None:
    """Return the layers of a network in their order if :class:`Chain` can differentiate them, else None.

    They are linear layers whose parameters are all trained, ReLUs, dropout after a ReLU, and layers that
    flatten, in nested ``nn.Sequential``; before the first linear layer, any layers without parameters.

    Returns:
        The layers by the prefix of their parameters' names, such as ``classifier.``.
    """
    layers = dict(_layers(network))
    linear_parameters, before = 0, None
    for layer in layers.values():
        if type(layer) is nn.Linear and not _is_hooked(layer):
            linear_parameters += len(list(layer.parameters()))
        elif linear_parameters and not _is_known(layer, before):
            return None
        before = layer
    # What is used twice counts once among the network's own parameters.
    trained = [p.requires_grad for p in network.parameters()]
    return layers if all(trained) and 0 < linear_parameters == len(trained) else None


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    if type(module).forward is not nn.Sequential.forward or _is_hooked(module):
        yield prefix, module
        return
    for name, child in module._modules.items():
        assert child is not None
        yield from _layers(child, f"{prefix}{name}.")


def _is_hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _is_known(layer: nn.Module, before: nn.Module | None) -> bool:
    if _is_hooked(layer) or getattr(layer, "inplace", False):
        return False
    if isinstance(layer, nn.Dropout):  # its mask is known where the output is not zero, or its input without effect
        return type(layer) in (nn.Dropout, HalfDropout) and type(before) is nn.ReLU and layer.p < 1
    return type(layer) in (nn.ReLU, nn.Flatten, nn.Identity)


def _through(layer: nn.Module, y: Tensor, dx: Tensor) -> Tensor:
    """Return the tangent of a layer's output ``y`` for that of its input."""
    if not isinstance(layer, nn.ReLU | nn.Dropout):
        return cast(Tensor, layer(dx))
    scale = 1 / (1 - layer.p) if isinstance(layer, nn.Dropout) and layer.training else 1.0
    # The derivative of ReLU, as its backward pass takes it.
    dy = torch.ops.aten.threshold_backward(dx, y, 0)
    return cast(Tensor, dy if scale == 1 else dy.mul_(scale))
