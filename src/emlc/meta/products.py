"""Products of the student's Jacobian and Hessian with a vector, by the engine that suits its network."""

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from emlc.errors import EMLCWarning, SteepNetworkWarning
from emlc.meta import jvp as _jvp
from emlc.meta.jvp import Engine, StudentStep, Weights

LEAST_COSINE = 0.999
"""Least cosine between products by finite differences and by automatic differentiation for ``auto`` to keep
the former."""


class Products:
    """A source of ``J_w u``, and of ``H_ww u`` with it, by one engine, which ``auto`` may change."""

    def __init__(
        self,
        step: StudentStep,
        engine: Engine | Literal["auto"],
        *,
        exact: bool,
        average: Callable[[Sequence[Tensor]], None],
    ) -> None:
        self._may_fall_back = engine == "auto"
        self._average = average
        self.engine: Engine = _jvp.choose_engine(step, exact=exact)[0] if engine == "auto" else engine
        self._unchecked = engine == "auto" and self.engine == "finite-difference"

    def jvp(self, step: StudentStep, u: Weights) -> Tensor:
        if self._unchecked:
            return self._check_differences(step, u)
        try:
            return _jvp.JVP[self.engine](step, u)
        except NotImplementedError as error:
            self._fall_back(error)
            return self.jvp(step, u)

    def _check_differences(self, step: StudentStep, u: Weights) -> Tensor:
        """Return the exact ``J_w u``, and change the engine if finite differences are not close to it."""
        self._unchecked = False
        try:
            difference = _jvp.jvp_finite_difference(step, u)
        except _jvp.ReplayError:  # a small move of the weights changed the outputs far too much
            difference = torch.zeros_like(step.log_probs)
        try:
            exact = _jvp.jvp_forward(step, u)
            instead: Engine = "forward"
        except NotImplementedError as error:
            if _jvp.unsupported_operator(error) is None:
                raise
            exact = _jvp.jvp_double_backward(step, u)
            instead = "double-backward"
        if self._cosine(difference, exact) < LEAST_COSINE:
            warnings.warn(
                f"the network is too steep for finite differences: the meta-gradient uses {instead}",
                SteepNetworkWarning,
                stacklevel=5,
            )
            self.engine = instead
        return exact

    def _cosine(self, a: Tensor, b: Tensor) -> float:
        """Return the cosine between two products over the samples of all processes; 1 if both are zero."""
        products = torch.stack([(a * b).sum(), a.square().sum(), b.square().sum()]).double()
        self._average([products])
        ab, aa, bb = products.tolist()
        return 1.0 if aa == bb == 0 else ab / max(math.sqrt(aa * bb), sys.float_info.min)

    def jvp_and_hessian(self, step: StudentStep, u: Weights, cotangent: Tensor) -> tuple[Tensor, Weights]:
        forward = self.engine == "forward"
        product = _jvp.forward_over_reverse if forward else _jvp.reverse_over_reverse
        try:
            return product(step, u, cotangent)
        except NotImplementedError as error:
            self._fall_back(error)
            return self.jvp_and_hessian(step, u, cotangent)

    def _fall_back(self, error: NotImplementedError) -> None:
        operator = _jvp.unsupported_operator(error)
        if not self._may_fall_back or self.engine != "forward" or operator is None:
            raise error
        warnings.warn(
            f"forward-mode AD does not support {operator}: "
            "the meta-gradient uses double backward, which is slower",
            EMLCWarning,
            stacklevel=5,
        )
        self.engine = "double-backward"
