"""Derivatives of small networks in closed form, from what the layers of a pass gave.

In a network of a few small layers, calling an operation takes as long as the operation, and autograd calls
many. But where layers follow one another, the derivatives take one product per weight, one more per hidden
layer, and what the pass has computed:

    linear  y = x W^T + b      dy = x dW^T + db + dx W^T     backwards  dW = dy^T x,  dx = dy W
    ReLU, and dropout of it    dy = dx where y > 0, times dropout's 1/(1 - p), else 0; backwards the same
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from emlc.architectures.dropout import HalfDropout

Layers = dict[str, nn.Module]
"""Layers in their order by the prefix of their parameters' names, such as ``classifier.``."""


class LinearGradient(NamedTuple):
    """The gradient of a linear layer in factors: ``dW = sum_i dy_i x_i^T`` and ``db = sum_i dy_i``.

    Attributes:
        layer: The layer.
        dy: (m, out) derivatives in its outputs.
        x: (m, in) its inputs.
    """

    layer: nn.Linear
    dy: Tensor
    x: Tensor

    @property
    def weight(self) -> Tensor:
        """``dW`` (out, in)."""
        return self.dy.T @ self.x

    @property
    def bias(self) -> Tensor | None:
        """``db`` (out,); None for a layer without."""
        return None if self.layer.bias is None else self.dy.sum(dim=0)

    def assign(self) -> None:
        """Make it the ``grad`` of the layer's parameters."""
        self.layer.weight.grad = self.weight
        if self.layer.bias is not None:
            self.layer.bias.grad = self.bias

    def along(self, x: Tensor) -> Tensor:
        """Return ``x dW^T + db`` (n, out) for other inputs x (n, in)."""
        (m, d_in), d_out = self.x.shape, self.dy.shape[1]
        if m * (d_in + d_out) >= d_in * d_out:
            return linear(x, self.weight, self.bias)
        y = (x @ self.x.T) @ self.dy  # for few samples less than forming dW
        return y if self.bias is None else y.add_(self.bias)


class Chain:
    """The forward pass of layers that follow one another, and its derivatives.

    Args:
        layers: The layers, from :func:`chain_of`.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._first = next(name for name, layer in layers.items() if isinstance(layer, nn.Linear))
        # Inputs of linear layers, outputs of the others.
        self._values: dict[str, Tensor | None] = {}
        self._weights: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output for inputs (n, ...), and keep what its derivatives take."""
        before = ""
        for name, layer in self._layers.items():
            y = layer(x)
            if isinstance(layer, nn.Linear):
                self._values[name] = x.detach()
                if name != self._first:
                    self._weights[name] = layer.weight.detach().clone()
            else:
                self._values[name] = y.detach()
            if isinstance(layer, nn.Dropout):
                self._values[before] = None  # what passed the dropout has passed the ReLU before it
            before, x = name, y
        return x

    def tangent(self, along: Callable[[str, Tensor], Tensor]) -> Tensor:
        """Return the derivative of the output at the weights of the pass.

        Args:
            along: Gives for a linear layer's name and inputs (n, in) what a change of its parameters adds to
                its output.
        """
        dx: Tensor | None = None
        for name, layer in self._layers.items():
            value = self._values[name]
            if isinstance(layer, nn.Linear):
                assert value is not None
                dy = along(name, value)
                dx = dy if dx is None else dy.add_(linear(dx, self._weights[name]))
            elif dx is not None:
                dx = _through(layer, value, dx)
        assert dx is not None
        return dx

    def backward(self, dy: Tensor) -> dict[str, LinearGradient]:
        """Return the gradient of each linear layer, by name, before the weights change.

        Args:
            dy: (n, out) derivatives of a loss in the output.
        """
        gradients: dict[str, LinearGradient] = {}
        for name, layer in reversed(self._layers.items()):
            value = self._values[name]
            if isinstance(layer, nn.Linear):
                assert value is not None
                gradients[name] = LinearGradient(layer, dy, value)
                if name == self._first:  # nothing before it learns
                    break
                dy = dy @ layer.weight
            else:
                dy = _through(layer, value, dy)
        return gradients


def chain_of(network: nn.Module) -> Layers | None:
    """Return the layers of a network in their order if :class:`Chain` can differentiate them, else None.

    They are linear layers whose parameters are all trained, ReLUs, dropout after a ReLU, and layers that
    flatten, in nested ``nn.Sequential``; before the first linear layer, any layers without parameters.
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
    if isinstance(layer, nn.Dropout):
        # Its mask is known where the output is not zero, or its input without effect.
        return type(layer) in (nn.Dropout, HalfDropout) and type(before) is nn.ReLU and layer.p < 1
    return type(layer) in (nn.ReLU, nn.Flatten, nn.Identity)


def _through(layer: nn.Module, y: Tensor | None, dx: Tensor) -> Tensor:
    """Return the tangent of a layer's output ``y`` for that of its input, or backwards; they are the same."""
    if y is None:
        return dx
    if not isinstance(layer, nn.ReLU | nn.Dropout):
        return cast(Tensor, layer(dx))
    scale = 1 / (1 - layer.p) if isinstance(layer, nn.Dropout) and layer.training else 1.0
    dy = torch.ops.aten.threshold_backward(dx, y, 0)
    return cast(Tensor, dy if scale == 1 else dy.mul_(scale))
