"""Jacobian-vector products of the student's log-probabilities, in three ways.

The meta-gradient needs ``J_w(i) u`` for every sample ``i`` of a noisy batch: how the
log-probabilities ``log p_w(. | x_i)`` change when the weights move along ``u`` (Prop. 3). A
:class:`StudentStep` keeps what is needed to run the same forward pass again: the weights before
the step, the batch, the dropout masks and the precision. Each engine below replays it.

=================== ========================= ==============================================
engine              cost in forward passes    where it is right
=================== ========================= ==============================================
finite-difference   1                         float32; networks that are not too steep
forward             2 to 3; 0.5 in a chain    any precision; modules with forward-mode AD
double-backward     about 8 to 15             any precision; modules with double backward
=================== ========================= ==============================================
"""

import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import BackwardCFunction
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear, log_softmax

from emlc.meta.chain import Chain, chain_of
from emlc.meta.replay import Replay, copies
from emlc.meta.tangents import KeepProducts, Product, Tangents
from emlc.runtime.cuda_graph import is_capturing
from emlc.runtime.precision import full_precision, rounds_on_cpu, uses_tf32

Weights = dict[str, Tensor]
"""Parameter name -> tensor, for every parameter of the student that is trained."""

Engine = Literal["forward", "finite-difference", "double-backward"]

FINITE_DIFFERENCE_STEP = 3e-4
"""Length of the step along ``u / |u|``: rounding and curvature errors balance near it in float32."""


class ReplayError(ValueError):
    """The error that a step's forward pass, run again, gave another result."""


@dataclass(frozen=True)
class StudentStep:
    """One training step of the student, kept so that its forward pass can be run again.

    Not for students with activation checkpointing: it recomputes with the live weights, not these.

    Attributes:
        forward_pass: The student and its batch, to be run at any weights.
        weights: The trained parameters *before* the step, detached copies.
        log_probs: (n, C) log-probabilities of the step's own forward pass, detached.
        precision: dtype the network computed its logits in.
        products: Results of its convolutions and linear layers in their order, if they were kept.
        chain: In place of products, the pass of a student whose layers merely follow one another.
    """

    forward_pass: Replay
    weights: Weights
    log_probs: Tensor
    precision: torch.dtype
    products: list[Product] | None
    chain: Chain | None = None

    def replay(self, weights: Weights) -> Tensor:
        """Return log-probabilities (n, C) at other ``weights``: same batch, mode, masks and precision.

        The student's own parameters and running statistics are not touched.
        """
        return log_softmax(full_precision(self.forward_pass(weights)), dim=1)

    def check_replay(self, log_probs: Tensor, tolerance: float | None = None) -> None:
        """Raise if replayed log-probabilities are further from those of the step than rounding explains.

        Where products were kept, the replay reuses them, so that only a change of the network is noticed.
        Nothing is checked while a CUDA graph is captured, as values cannot be read then.

        Args:
            log_probs: (n, C) from a replay.
            tolerance: Largest difference, relative to the largest log-probability; by default the square
                root of the precision's epsilon.

        Raises:
            ReplayError: the difference is larger, or the shapes differ.
        """
        if is_capturing(log_probs.device):
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


def record_step(
    student: nn.Module, inputs: Tensor, *, keep_products: bool = False
) -> tuple[StudentStep, Tensor]:
    """Run the forward pass of a student step and keep what it takes to replay it.

    Call it in place of ``student(inputs)``, before the weights change.

    Args:
        student: Network in the mode it is trained in; ``student(inputs)`` gives logits (n, C).
        inputs: (n, ...) the noisy batch, kept by reference.
        keep_products: Keep the results of convolutions and linear layers, which spares the ``forward``
            engine a third of its work and takes about half the memory of a training step; of a chain of
            layers (see :func:`~emlc.meta.chain.chain_of`) it spares most of it.

    Returns:
        The step (with one detached copy of the weights) and the log-probabilities (n, C) with their
        autograd graph, for the loss of the step.
    """
    weights = copies({name: p for name, p in student.named_parameters() if p.requires_grad})
    forward_pass = Replay(student, inputs)
    layers = chain_of(student) if keep_products else None
    chain = None if layers is None else Chain(layers)
    with KeepProducts() if keep_products and chain is None else nullcontext() as keeper:
        logits = student(inputs) if chain is None else chain.forward(inputs)
    log_probs = log_softmax(full_precision(logits), dim=1)
    enabled, dtype = forward_pass.autocast
    products = None if keeper is None else keeper.products
    precision = dtype if enabled else logits.dtype
    return StudentStep(forward_pass, weights, log_probs.detach(), precision, products, chain), log_probs


# --- J u ---------------------------------------------------------------------------------------


def jvp_forward(step: StudentStep, u: Weights) -> Tensor:
    """Compute ``J_w u`` (n, C) by forward-mode AD, all samples in one pass."""
    if step.chain is not None:
        return _jvp_of_chain(step, step.chain, u)
    with torch.no_grad(), _dual_level(), Tangents(step.products):
        log_probs, tangent = forward_ad.unpack_dual(step.replay(_dual(step.weights, u)))
    step.check_replay(log_probs)
    return torch.zeros_like(log_probs) if tangent is None else tangent


def _jvp_of_chain(step: StudentStep, chain: Chain, u: Weights) -> Tensor:
    with torch.no_grad(), step.forward_pass.context():
        dz = full_precision(
            chain.tangent(lambda name, x: linear(x, u[f"{name}weight"], u.get(f"{name}bias")))
        )
    # log p = z - logsumexp(z)
    return dz - (step.log_probs.exp() * dz).sum(dim=1, keepdim=True)


def jvp_finite_difference(step: StudentStep, u: Weights) -> Tensor:
    """Compute ``J_w u`` (n, C) as ``(log p(w + e u/|u|) - log p(w)) |u|/e``.

    The second term is known from the step.

    Raises:
        ValueError: the step's products are rounded more coarsely than float32.
    """
    if (rounding := _reduced_rounding(step)) is not None:
        raise ValueError(
            f"finite differences drown in the rounding of {rounding}: use the forward or the "
            "double-backward engine, or run the student in float32"
        )
    with torch.no_grad():
        norm = _norm(u)
        scale = FINITE_DIFFERENCE_STEP / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        w, direction = list(step.weights.values()), [u[name] for name in step.weights]
        if norm.device.type == "cpu":
            moved = torch._foreach_add(w, direction, alpha=scale.item())
        else:  # reading a number would wait for all kernels that were launched before
            moved = torch._foreach_add(w, torch._foreach_mul(direction, scale))
        log_probs = step.replay(dict(zip(step.weights, moved, strict=True)))
        # The move itself changes log-probabilities by some 1e-3; another mask or batch by far more.
        step.check_replay(log_probs, tolerance=0.1)
        return (log_probs - step.log_probs) * (norm / FINITE_DIFFERENCE_STEP)


def jvp_double_backward(step: StudentStep, u: Weights) -> Tensor:
    """Compute ``J_w u`` (n, C) as the derivative of ``<J_w^T v, u>`` in the (dummy) cotangent ``v``."""
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
    """Compute ``J_w u`` (n, C) and ``H_ww u`` by forward-mode AD through forward *and* backward pass."""
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
    """Compute ``J_w u`` (n, C) and ``H_ww u`` by double backward."""
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
    variables = [v, *(w[name] for name in used)] if hessian else [v]
    jvp, *hessian_u = torch.autograd.grad(
        list(used.values()), variables, [u[name] for name in used], allow_unused=True, materialize_grads=True
    )
    return jvp, dict(zip(used, hessian_u, strict=True)) if hessian else {}


# --- choosing ----------------------------------------------------------------------------------


def choose_engine(step: StudentStep, *, exact: bool) -> tuple[Engine, str]:
    """Choose the engine that ``auto`` stands for, and give the reason in words.

    Args:
        step: Any step of the student; its device and precision decide.
        exact: Whether Hessian-vector products are needed, which finite differences cannot give.
    """
    device = step.log_probs.device.type
    where = f"{str(step.precision).removeprefix('torch.')} on {device}"
    if exact:
        return "forward", f"the exact meta-gradient needs Hessian-vector products ({where})"
    if step.chain is not None:
        return "forward", f"layers in a row, whose derivative has a closed form ({where})"
    if step.precision != torch.float32:
        return "forward", f"exact in any precision ({where})"
    if (rounding := _reduced_rounding(step)) is not None:
        return "forward", f"the rounding of {rounding} would drown finite differences ({where})"
    return "finite-difference", f"one forward pass ({where})"


def unsupported_operator(error: NotImplementedError) -> str | None:
    """Return the name of the operator that lacks forward-mode AD, or None if the error is another one."""
    message = str(error)
    if "Trying to use forward AD with " in message:
        return message.split("Trying to use forward AD with ", 1)[1].split(" ", 1)[0]
    if "jvp function for custom autograd.Function" in message:
        frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        names = [type(node).__name__ for node in frames if isinstance(node, BackwardCFunction)]
        # In torch's graph the node of a Function F is called FBackward.
        return f"autograd.Function {names[-1].removesuffix('Backward')}" if names else "an autograd.Function"
    return None


# --- pieces ------------------------------------------------------------------------------------


def _reduced_rounding(step: StudentStep) -> str | None:
    """Return the number format to which the step's products are rounded, if it is coarser than float32."""
    if step.precision not in (torch.float32, torch.float64):
        return str(step.precision).removeprefix("torch.")
    if step.precision == torch.float64:
        return None
    if step.log_probs.device.type == "cuda":
        return "TF32" if uses_tf32() else None
    return "bfloat16 products" if rounds_on_cpu() else None


@contextmanager
def _dual_level() -> Iterator[None]:
    with warnings.catch_warnings(), forward_ad.dual_level(), _plain_attention():
        # torch's own tangent formula of batch norm uses its deprecated torch.jit.
        warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        yield


def _plain_attention() -> AbstractContextManager[None]:
    # Fused attention kernels support neither forward-mode AD nor double backward.
    return sdpa_kernel(SDPBackend.MATH)


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
