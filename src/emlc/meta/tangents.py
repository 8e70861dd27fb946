"""Forward-mode AD of a network's costly layers, with the results of torch's own formulas at less cost."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode


class Product(NamedTuple):
    """Output of a convolution or linear layer, and its version, which changes if a network overwrites it."""

    values: Tensor
    version: int


_PRODUCTS = (torch.conv1d, torch.conv2d, torch.conv3d, linear)
"""Functions ``f(x, weight, bias, ...)`` that are linear in x and linear in the weight."""


class KeepProducts(TorchFunctionMode):
    """A context that keeps the outputs of a forward pass's products; autograd keeps most of them anyway."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _PRODUCTS:
            self.products.append(Product(result.detach(), result._version))
        return result


class Tangents(TorchFunctionMode):
    """A context in which forward-mode AD computes tangents of products and of batch norm by cheaper formulas.

    Products that were kept are not computed again, only their tangents. The tangent of batch norm comes from
    the kernel of its backward pass.
    """

    def __init__(self, products: list[Product] | None) -> None:
        super().__init__()
        self._products = None if products is None else iter(products)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func in _PRODUCTS and self._products is not None:
            product = next(self._products, None)
            if product is not None and product.values._version == product.version:
                return _product(func, product.values, *args, **kwargs)
        return func(*args, **kwargs)


def _product(
    func: Callable[..., Tensor],
    result: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Return ``result``, the known value of ``func(input, weight, bias, ...)``, with its tangent."""
    (x, dx), (w, dw), (_, db) = (_unpacked(t) for t in (input, weight, bias))
    if dw is None and db is not None:
        return func(input, weight, bias, *args, **kwargs)
    tangent = None if dw is None else func(x, dw, db, *args, **kwargs)
    if dx is not None:
        input_term = func(dx, w, None, *args, **kwargs)
        tangent = input_term if tangent is None else input_term.add_(tangent)
    if tangent is None:
        return result
    if tangent.shape != result.shape:  # another layer than in the step: check_replay will notice
        return func(input, weight, bias, *args, **kwargs)
    return _with_tangent(result, tangent)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    (x, dx), (gamma, d_gamma), (beta, d_beta) = (_unpacked(t) for t in (input, weight, bias))
    if not training or gamma is None or d_gamma is None or beta is None or d_beta is None or dx is None:
        options = (weight, bias, training, momentum, eps)
        return torch.nn.functional.batch_norm(input, running_mean, running_var, *options)
    assert x is not None
    # torch composes this tangent of some fifteen operations that each read the activations once more. But
    # the Jacobian of normalisation, gamma / s (I - 1 1^T / n - x^ x^^T / n), is symmetric: what the kernel
    # of the backward pass does to a gradient is what happens to a tangent.
    cudnn = torch.backends.cudnn.enabled
    y, mean, inverse_std, reserve, kernel = torch._batch_norm_impl_index(
        x, gamma, beta, running_mean, running_var, True, momentum, eps, cudnn
    )
    saved = (running_mean, running_var, mean, inverse_std, True, eps, [True, False, False], reserve)
    dy, _, _ = torch.ops.aten._batch_norm_impl_index_backward(kernel, x, dx, gamma, *saved)
    # ... + d_gamma x^ + d_beta, which is what batch norm gives at given statistics.
    variance = inverse_std**-2 - eps
    dy += torch.nn.functional.batch_norm(x, mean, variance, d_gamma, d_beta, training=False, eps=eps)
    return _with_tangent(y, dy)


def _with_tangent(values: Tensor, tangent: Tensor) -> Tensor:
    return cast(Tensor, forward_ad.make_dual(values, tangent))


def _unpacked(values: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if values is None else forward_ad.unpack_dual(values)
