"""Jacobian-vector products of the student's log-probabilities, in three ways.

The meta-gradient needs ``J_w(i) u`` for every sample ``i`` of a noisy batch: how the
log-probabilities ``log p_w(. | x_i)`` change when the weights move along ``u`` (Prop. 3). A
:class:`StudentStep` remembers what is needed to run the same forward pass again: the weights before
the step, the batch, the dropout masks and the precision. Each engine below replays it.

=================== ========================= ==============================================
engine              cost in forward passes    where it is right
=================== ========================= ==============================================
finite-difference   1                         float32; networks that are not too steep
forward             about 3                   any precision; modules with forward-mode AD
double-backward     about 8 to 15             any precision; modules with double backward
=================== ========================= ==============================================
"""

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import BackwardCFunction
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import log_softmax
from torch.overrides import TorchFunctionMode

from emlc.cuda_graph import is_recording
from emlc.precision import full_precision

Weights = dict[str, Tensor]
"""Parameter name -> tensor, for every parameter of the student that is trained."""

Engine = Literal["forward", "finite-difference", "double-backward"]

FINITE_DIFFERENCE_STEP = 3e-4
"""Length of the step along ``u / |u|``: rounding and curvature errors balance near it in float32."""


class ReplayError(ValueError):
    """A step's forward pass, run again, gave something else."""


@dataclass(frozen=True)
class StudentStep:
    """One training step of the student, kept so that its forward pass can be run again.

    Not for students with activation checkpointing: it recomputes with the live weights, not these.

    Attributes:
        student: The network; called as ``student(inputs) -> logits (n, C)``.
        weights: The trained parameters *before* the step, detached copies.
        buffers: The buffers before the step (running statistics), detached copies.
        inputs: (n, ...) the noisy batch, held by reference.
        log_probs: (n, C) log-probabilities of the step's own forward pass, detached.
        precision: dtype the network computed its logits in.
    """

    student: nn.Module
    weights: Weights
    buffers: Weights
    inputs: Tensor
    log_probs: Tensor
    precision: torch.dtype
    _modes: tuple[bool, ...]
    _inputs_version: int
    _rng_state: "_RngState"
    _autocast: tuple[bool, torch.dtype]

    def replay(self, weights: Weights) -> Tensor:
        """Log-probabilities (n, C) at other ``weights``: same batch, mode, masks and precision.

        The student's own parameters and running statistics are not touched.
        """
        self._check_unchanged()
        enabled, dtype = self._autocast
        # A fresh copy of the buffers a replay: batch norm writes its running statistics into it.
        state = weights | copies(self.buffers)
        # The cast cache would hand out the casts of other weights.
        autocast = torch.autocast(self.inputs.device.type, dtype, enabled, cache_enabled=False)
        with self._rng_state.replayed(), autocast:
            return log_softmax(full_precision(functional_call(self.student, state, (self.inputs,))), dim=1)

    def _check_unchanged(self) -> None:
        if self.inputs._version != self._inputs_version:
            raise ValueError("the batch differs from the step's: its tensor was modified in place since")
        if _modes(self.student) != self._modes:
            raise ValueError("the student's train/eval modes differ from those of the step")

    def check_replay(self, log_probs: Tensor, tolerance: float | None = None) -> None:
        """Raise if replayed log-probabilities are further from those of the step than rounding explains.

        Not while a CUDA graph is recorded: there is nothing to look at yet.
        """
        if is_recording(log_probs.device):
            return
        if tolerance is None:
            tolerance = torch.finfo(self.precision).eps ** 0.5
        allowed = tolerance * (1 + self.log_probs.abs().max().item())
        if (
            log_probs.shape != self.log_probs.shape
            or (log_probs - self.log_probs).abs().max().item() > allowed
        ):
            raise ReplayError(
                "replaying the step's forward pass gave other log-probabilities than the step: the batch "
                "differs from the step's, or the student is not a deterministic function of its weights"
            )


def record_step(student: nn.Module, inputs: Tensor) -> tuple[StudentStep, Tensor]:
    """Run the forward pass of a student step and remember how to replay it.

    Call it in place of ``student(inputs)``, before the weights change.

    Args:
        student: Network in the mode it is trained in; ``student(inputs)`` gives logits (n, C).
        inputs: (n, ...) the noisy batch.

    Returns:
        The record (one detached copy of the weights) and the log-probabilities (n, C) with their
        autograd graph, for the loss of the step.
    """
    rng_state = _RngState.capture(inputs.device)
    weights = copies({name: p for name, p in student.named_parameters() if p.requires_grad})
    buffers = copies(dict(student.named_buffers()))
    inputs_version = inputs._version
    logits = student(inputs)
    log_probs = log_softmax(full_precision(logits), dim=1)
    device = inputs.device.type
    autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    step = StudentStep(
        student,
        weights,
        buffers,
        inputs,
        log_probs.detach(),
        autocast[1] if autocast[0] else logits.dtype,
        _modes(student),
        inputs_version,
        rng_state,
        autocast,
    )
    return step, log_probs


# --- J u ---------------------------------------------------------------------------------------


def jvp_forward(step: StudentStep, u: Weights) -> Tensor:
    """``J_w u`` (n, C) by forward-mode AD, all samples in one pass."""
    with torch.no_grad(), _dual_level(), FusedTangents():
        log_probs, tangent = forward_ad.unpack_dual(step.replay(_dual(step.weights, u)))
    step.check_replay(log_probs)
    return torch.zeros_like(log_probs) if tangent is None else tangent


def jvp_finite_difference(step: StudentStep, u: Weights) -> Tensor:
    """``J_w u`` (n, C) as ``(log p(w + e u/|u|) - log p(w)) |u|/e``; the second term is the step's own."""
    if (rounding := _reduced_rounding(step)) is not None:
        raise ValueError(
            f"finite differences drown in the rounding of {rounding}: use the forward or the "
            "double-backward engine, or run the student in float32"
        )
    with torch.no_grad():
        # Stays on the device, as reading a number would wait for all that was asked of it.
        norm = _norm(u)
        scale = FINITE_DIFFERENCE_STEP / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        moves = torch._foreach_mul([u[name] for name in step.weights], scale)
        moved = torch._foreach_add(list(step.weights.values()), moves)
        log_probs = step.replay(dict(zip(step.weights, moved, strict=True)))
        # The move itself changes log-probabilities by some 1e-3; another mask or batch by far more.
        step.check_replay(log_probs, tolerance=0.1)
        return (log_probs - step.log_probs) * (norm / FINITE_DIFFERENCE_STEP)


def jvp_double_backward(step: StudentStep, u: Weights) -> Tensor:
    """``J_w u`` (n, C) as the derivative of ``<J_w^T v, u>`` in the (dummy) cotangent ``v``."""
    return _reverse_over_reverse(step, u, torch.zeros_like(step.log_probs), hessian=False)[0]


JVP: dict[Engine, Callable[[StudentStep, Weights], Tensor]] = {
    "forward": jvp_forward,
    "finite-difference": jvp_finite_difference,
    "double-backward": jvp_double_backward,
}


# --- J u and H u together ----------------------------------------------------------------------
#
# For the loss <cotangent, log p_w> (a cotangent of -q/n gives the inner loss) its gradient is
# J_w^T cotangent and its Hessian-vector product H_ww u. Parameters that the loss does not depend on
# are absent from the result: the optimiser skipped them in this step too.


def forward_over_reverse(step: StudentStep, u: Weights, cotangent: Tensor) -> tuple[Tensor, Weights]:
    """``J_w u`` (n, C) and ``H_ww u``: forward-mode AD through the forward *and* the backward pass."""
    with torch.enable_grad(), _dual_level():
        duals = _dual(_leaves(step.weights), u)
        log_probs = step.replay(duals)
        primal, tangent = forward_ad.unpack_dual(log_probs)
        gradients = torch.autograd.grad(log_probs, list(duals.values()), cotangent, allow_unused=True)
        hessian_u = {
            name: _tangent_or_zero(g) for name, g in zip(duals, gradients, strict=True) if g is not None
        }
    step.check_replay(primal)
    return (torch.zeros_like(step.log_probs) if tangent is None else tangent.detach()), hessian_u


def reverse_over_reverse(step: StudentStep, u: Weights, cotangent: Tensor) -> tuple[Tensor, Weights]:
    """``J_w u`` (n, C) and ``H_ww u`` by double backward."""
    return _reverse_over_reverse(step, u, cotangent, hessian=True)


def _reverse_over_reverse(
    step: StudentStep, u: Weights, cotangent: Tensor, *, hessian: bool
) -> tuple[Tensor, Weights]:
    # s(w, v) = <J_w^T v, u>  has  ds/dv = J_w u  and, at v = cotangent,  ds/dw = H_ww u.
    w = _leaves(step.weights)
    v = cotangent.detach().requires_grad_()
    with torch.enable_grad(), _plain_attention():
        log_probs = step.replay(w)
        gradients = torch.autograd.grad(log_probs, list(w.values()), v, create_graph=True, allow_unused=True)
    step.check_replay(log_probs.detach())
    used = {name: g for name, g in zip(w, gradients, strict=True) if g is not None}
    wanted = [v, *(w[name] for name in used)] if hessian else [v]
    jvp, *hessian_u = torch.autograd.grad(
        list(used.values()), wanted, [u[name] for name in used], allow_unused=True, materialize_grads=True
    )
    return jvp, dict(zip(used, hessian_u, strict=True)) if hessian else {}


# --- choosing ----------------------------------------------------------------------------------


def choose_engine(step: StudentStep, *, exact: bool) -> tuple[Engine, str]:
    """The engine that ``auto`` means for this step, and the reason in words.

    Args:
        step: Any step of the student; its device and precision decide.
        exact: Whether Hessian-vector products are wanted, which finite differences cannot give.
    """
    device = step.inputs.device.type
    where = f"{str(step.precision).removeprefix('torch.')} on {device}"
    if exact:
        return "forward", f"the exact meta-gradient needs Hessian-vector products ({where})"
    if step.precision != torch.float32:
        return "forward", f"exact in any precision ({where})"
    if (rounding := _reduced_rounding(step)) is not None:
        return "forward", f"the rounding of {rounding} would drown finite differences ({where})"
    return "finite-difference", f"one forward pass ({where})"


def unsupported_operator(error: NotImplementedError) -> str | None:
    """Name of the operator that forward-mode AD stumbled over, or None if the error is another one."""
    message = str(error)
    if "Trying to use forward AD with " in message:
        return message.split("Trying to use forward AD with ", 1)[1].split(" ", 1)[0]
    if "jvp function for custom autograd.Function" in message:
        frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        names = [type(node).__name__ for node in frames if isinstance(node, BackwardCFunction)]
        # torch calls the node of a Function F in the graph FBackward.
        return f"autograd.Function {names[-1].removesuffix('Backward')}" if names else "an autograd.Function"
    return None


# --- pieces ------------------------------------------------------------------------------------


class FusedTangents(TorchFunctionMode):
    """Batch norm, while it trains, with a tangent from the kernel of its backward pass.

    torch composes this tangent of some fifteen operations that each read the activations once more. But
    the Jacobian of normalisation, ``gamma / s (I - 1 1^T / n - x^ x^^T / n)``, is symmetric: what the
    backward kernel does to a gradient is what happens to a tangent.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.nn.functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


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
    cudnn = torch.backends.cudnn.enabled
    y, mean, inverse_std, reserve, kernel = torch._batch_norm_impl_index(
        x, gamma, beta, running_mean, running_var, True, momentum, eps, cudnn
    )
    saved = (running_mean, running_var, mean, inverse_std, True, eps, [True, False, False], reserve)
    dy, _, _ = torch.ops.aten._batch_norm_impl_index_backward(kernel, x, dx, gamma, *saved)
    # ... + d_gamma x^ + d_beta, with x^ = (x - mean) / s.
    scale = d_gamma * inverse_std
    shift = d_beta - mean * scale
    shape = (1, -1, *(1,) * (x.ndim - 2))
    dy.addcmul_(x, scale.view(shape).to(x.dtype)).add_(shift.view(shape).to(x.dtype))
    return cast(Tensor, forward_ad.make_dual(y, dy))


def _unpacked(values: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if values is None else forward_ad.unpack_dual(values)


@dataclass(frozen=True)
class _RngState:
    """State of the generators that dropout draws from.

    While a CUDA graph is recorded that of the device cannot be had: networks that draw are not recorded.
    """

    cpu: Tensor
    device: torch.device
    on_device: Tensor | None

    @classmethod
    def capture(cls, device: torch.device) -> "_RngState":
        readable = device.type == "cuda" and not is_recording(device)
        on_device = torch.cuda.get_rng_state(device) if readable else None
        return cls(torch.get_rng_state(), device, on_device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        devices = [self.device] if self.on_device is not None else []
        with torch.random.fork_rng(devices):
            torch.set_rng_state(self.cpu)
            if self.on_device is not None:
                torch.cuda.set_rng_state(self.on_device, self.device)
            yield


def _reduced_rounding(step: StudentStep) -> str | None:
    """The number format in which the step's products are rounded, if it is coarser than float32."""
    if step.precision not in (torch.float32, torch.float64):
        return str(step.precision).removeprefix("torch.")
    if step.precision == torch.float64:
        return None
    if step.inputs.device.type == "cuda":
        # Asking, by the old names, for what was set by the new ones raises RuntimeError.
        try:
            tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
        except RuntimeError:
            tf32 = True
        return "TF32" if tf32 else None
    return "bfloat16 products" if torch.get_float32_matmul_precision() == "medium" else None


@contextmanager
def _dual_level() -> Iterator[None]:
    with warnings.catch_warnings(), forward_ad.dual_level(), _plain_attention():
        # torch's own tangent formula of batch norm goes through its deprecated torch.jit.
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        yield


def _plain_attention() -> AbstractContextManager[None]:
    # The fused kernels of attention have neither forward-mode AD nor double backward.
    return sdpa_kernel(SDPBackend.MATH)


def _modes(student: nn.Module) -> tuple[bool, ...]:
    return tuple(module.training for module in student.modules())


def _leaves(weights: Weights) -> Weights:
    return {name: w.detach().requires_grad_() for name, w in weights.items()}


def _dual(weights: Weights, u: Weights) -> Weights:
    return {name: forward_ad.make_dual(w, u[name].to(w)) for name, w in weights.items()}


def _tangent_or_zero(dual: Tensor) -> Tensor:
    primal, tangent = forward_ad.unpack_dual(dual)
    return torch.zeros_like(primal) if tangent is None else tangent.detach()


def _norm(u: Weights) -> Tensor:
    norms = torch.stack(torch._foreach_norm(list(u.values())))
    return norms.square().sum().sqrt()


def copies(tensors: Mapping[str, Tensor]) -> Weights:
    """Detached copies of the same layout, all of one dtype by one kernel where there is such a kernel."""
    new = {name: torch.empty_like(t.detach()) for name, t in tensors.items()}
    for dtype in {t.dtype for t in tensors.values()}:
        names = [name for name, t in tensors.items() if t.dtype == dtype]
        torch._foreach_copy_([new[name] for name in names], [tensors[name].detach() for name in names])
    return new
