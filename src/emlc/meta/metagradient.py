"""The meta-gradient: how the student's loss on trusted data depends on the soft labels it learned from.

A student takes k SGD steps on ``L~(w, q) = -1/n sum_i <q_i, log p_w(. | x_i)>`` with soft labels
``q`` that some outer model with parameters ``alpha`` made; then its loss ``L`` is measured on trusted
data. Since ``L~`` is linear in ``q``, the derivative of ``L`` in ``alpha`` has the form

    d L / d alpha = d/d alpha  sum_tau sum_i <c_tau,i , q_alpha(x_i, y~_i)>       (Eq. 10, 11)

with *constant* coefficients ``c_tau`` (n, C), one matrix a step. :func:`meta_gradient` computes them:
a Jacobian-vector product through the student each, no second derivative, no graph across steps.
The caller forms the inner product and lets it join the other losses of the outer model::

    steps = []
    for x, q in batches:                                  # q: soft labels with their graph
        step, log_probs = record_step(student, x)
        soft_cross_entropy(log_probs, q.detach()).backward()
        sgd.step(); sgd.zero_grad()
        steps.append(step)
    loss, g_w = trusted_gradient(student, x_trusted, y_trusted)
    c = meta_gradient(steps, g_w, InnerSGD.of(sgd)).coefficients
    sum((c_t * q_t).sum() for c_t, q_t in zip(c, soft_labels)).backward()

Nothing here knows what the outer model is: anything that makes soft labels can learn this way.

Equations are those of "Enhanced Meta Label Correction for Coping with Label Corruption"; the exact
k-step recursion goes beyond it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from emlc.meta import jvp as _jvp
from emlc.meta.jvp import Engine, StudentStep, Weights, record_step
from emlc.meta.products import Products
from emlc.meta.replay import copies
from emlc.runtime.cuda_graph import is_capturing
from emlc.runtime.precision import full_precision

__all__ = [
    "InnerSGD",
    "MetaGradient",
    "StudentStep",
    "meta_gradient",
    "record_step",
    "soft_cross_entropy",
    "trusted_gradient",
]


Kind = Literal["approximate", "exact"]


@dataclass(frozen=True)
class InnerSGD:
    """The student's optimiser: ``g += weight_decay w``, ``v = momentum v + g``, ``w -= lr v``.

    With Nesterov the weights move by ``lr (g + momentum v)`` instead. This is ``torch.optim.SGD``
    without dampening. The learning rate may be a 0-d tensor, which a captured step reads anew each time.
    """

    lr: float | Tensor
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Self:
        """Read the settings off a ``torch.optim.SGD``.

        Raises:
            ValueError: another optimiser, dampening, maximisation, or groups that differ in settings.
        """
        if not isinstance(optimizer, torch.optim.SGD):
            raise ValueError(
                f"the student's optimiser must be torch.optim.SGD, not {type(optimizer).__name__}"
            )
        names = ("lr", "momentum", "weight_decay", "nesterov", "dampening", "maximize")
        settings = [{name: group[name] for name in names} for group in optimizer.param_groups]
        if any(other != settings[0] for other in settings[1:]):
            raise ValueError(f"parameter groups with different settings are not supported: {settings}")
        first = settings[0]
        if first["dampening"] != 0 or first["maximize"]:
            raise ValueError("dampening and maximize are not supported in the student's SGD")
        return cls(first["lr"], first["momentum"], first["weight_decay"], first["nesterov"])

    def step_scale(self, k: int, kind: Kind) -> float | Tensor:
        """Return how far k steps move a weight whose gradient is 1 in all of them.

        The coefficients of :func:`meta_gradient`, summed over the steps, are of this size. For
        ``approximate`` it is ``eta sum_j gamma^j``, about ``eta k``. For ``exact`` momentum adds to it, by
        which a gradient moves the weights in later steps too. Curvature and weight decay are left out.
        """
        if kind == "approximate":
            return self.lr * sum((1 - self.lr) ** j for j in range(k))
        v, distance = 0.0, 0.0
        for _ in range(k):
            v = self.momentum * v + 1
            distance += 1 + self.momentum * v if self.nesterov else v
        return self.lr * distance


class MetaGradient(NamedTuple):
    """Coefficients of the soft labels, and how they were computed.

    Attributes:
        coefficients: One (n, C) tensor per step, in the order of the steps, without graph.
        engine: The JVP engine that computed them; pass it to the next call to skip the choice.
    """

    coefficients: list[Tensor]
    engine: Engine


def soft_cross_entropy(log_probs: Tensor, soft_labels: Tensor, r: Tensor | None = None) -> Tensor:
    """Compute the loss ``-sum_i r_i <q_i, log p_i>`` (Eq. 6), 0-d.

    Args:
        log_probs: (n, C) the student's log-probabilities.
        soft_labels: (n, C) soft labels ``q``; rows sum to 1.
        r: (n,) weights of the samples, 1/n by default.
    """
    losses = -(soft_labels * log_probs).sum(dim=1)
    return losses.mean() if r is None else r @ losses


def trusted_gradient(
    student: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    weights: Weights | None = None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> tuple[Tensor, Weights]:
    """Compute the student's loss ``L(w)`` on a trusted batch (Eq. 5) and its gradient ``g_w``.

    The student runs in its current mode, but its running statistics are not changed.

    Args:
        student: Network after its k steps.
        inputs: (m, ...) trusted batch.
        labels: (m,) int64 trusted labels.
        weights: Values of its trained parameters, by default its own.
        loss: A function of logits (m, C) and labels (m,) that gives L, 0-d.

    Returns:
        L (0-d, detached) and its gradient for every trained parameter, zero where it does not depend on it.
    """
    if weights is None:
        weights = {name: p for name, p in student.named_parameters() if p.requires_grad}
    else:
        weights = {name: w.detach().requires_grad_() for name, w in weights.items()}
    buffers = copies(dict(student.named_buffers()))
    logits = full_precision(functional_call(student, weights | buffers, (inputs,)))
    value = loss(logits, labels)
    with torch.autocast(inputs.device.type, enabled=False):  # it is for forward passes only
        gradients = torch.autograd.grad(
            value, list(weights.values()), allow_unused=True, materialize_grads=True
        )
    return value.detach(), dict(zip(weights, gradients, strict=True))


def looked_ahead(student: nn.Module, loss: Tensor, eta: float | Tensor) -> Weights:
    """Return the trained parameters after a look-ahead step, ``w^ = w - eta d_w loss``, without graph.

    The graph of ``loss`` is kept for further derivatives.

    Args:
        student: The network, at its own weights w.
        loss: 0-d loss of the network, with its graph.
        eta: Learning rate of the step.
    """
    w = {name: p for name, p in student.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(
        loss, list(w.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return {name: p.detach() - eta * g for (name, p), g in zip(w.items(), gradients, strict=True)}


def meta_gradient(
    steps: Sequence[StudentStep],
    g_w: Weights,
    sgd: InnerSGD,
    *,
    targets: Sequence[Tensor] | None = None,
    r: Sequence[Tensor] | None = None,
    kind: Kind = "approximate",
    engine: Engine | Literal["auto"] = "auto",
    average: Callable[[Sequence[Tensor]], None] = lambda tensors: None,
) -> MetaGradient:
    """Compute coefficients ``c`` such that ``d L / d alpha = d/d alpha sum_tau <c_tau, q_tau>``.

    Args:
        steps: The k student steps in the order they were taken, from :func:`record_step`.
        g_w: Gradient of the trusted loss at the weights *after* the last step.
        sgd: Settings of the student's optimiser.
        targets: The soft labels (n, C) each step learned from; needed by ``exact`` only.
        r: The weights (n,) of the samples in each step's loss, 1/n by default.
        kind: ``approximate`` is Prop. 1 for one step (exact but for Nesterov, which it ignores) and
            Prop. 2 (``H_ww = I``, no momentum) for more; ``exact`` differentiates the optimiser itself,
            momentum and weight decay included.
        engine: How Jacobian-vector products are computed; ``auto`` chooses by device and precision. Where
            it chooses finite differences, it compares the first product with automatic differentiation, and
            changes to that, with a warning, if their cosine is below 0.999. It changes to double backward,
            with a warning, where the network lacks forward-mode AD.
        average: Averages tensors in place over the processes that share each batch; ``exact`` needs
            it for its Hessian-vector products. Coefficients are always those of this process' samples.

    While a CUDA graph is captured, no value can be read: ``auto`` compares nothing, and numbers that are not
    finite go unnoticed. Take at least one step before the capture, and pass on the engine that it returned.

    Returns:
        The coefficients, one (n, C) tensor per step, and the engine that computed them.

    Raises:
        ValueError: no steps; a batch or mode that changed since its step; finite differences for
            ``exact`` or in reduced precision.
        FloatingPointError: log-probabilities, gradient or result are not finite; names step and quantity.

    Examples:
        One sample, two classes, and soft labels that an outer model would make. The trusted label is the
        first class, so that more of it in the soft label lowers the trusted loss:

        >>> import torch
        >>> from emlc import InnerSGD, meta_gradient, record_step, trusted_gradient
        >>> student = torch.nn.Linear(1, 2, bias=False)
        >>> _ = torch.nn.init.zeros_(student.weight)
        >>> sgd = torch.optim.SGD(student.parameters(), lr=0.1)
        >>> soft_labels = torch.tensor([[0.5, 0.5]], requires_grad=True)
        >>> x, y = torch.ones(1, 1), torch.tensor([0])
        >>> step, log_probs = record_step(student, x)
        >>> (-(soft_labels.detach() * log_probs).sum(dim=1).mean()).backward()
        >>> sgd.step()
        >>> loss, g_w = trusted_gradient(student, x, y)
        >>> (c,) = meta_gradient([step], g_w, InnerSGD.of(sgd)).coefficients
        >>> (c * soft_labels).sum().backward()  # goes on to the outer model's parameters
        >>> soft_labels.grad
        tensor([[-0.0500,  0.0500]])
    """
    _check_arguments(steps, g_w, targets, r, kind, engine)
    products = Products(steps[0], engine, exact=kind == "exact", average=average)
    if r is None:
        r = [step.log_probs.new_full((len(step.log_probs),), 1 / len(step.log_probs)) for step in steps]
    if kind == "exact":
        assert targets is not None
        coefficients = _exact(products, steps, targets, r, g_w, sgd, average)
    else:
        coefficients = _approximate(products, steps, r, g_w, sgd)
    return MetaGradient(coefficients, products.engine)


def _approximate(
    products: Products, steps: Sequence[StudentStep], r: Sequence[Tensor], g_w: Weights, sgd: InnerSGD
) -> list[Tensor]:
    # Eq. 11:  c_tau = eta r gamma^(t-tau) J_{w^tau} g_w,  r = 1/n,  gamma = 1 - eta; Eq. 10 for k = 1.
    # Algorithm 2 prints w^t for every tau; the derivation (A.2) has w^tau, which is used here.
    eta, gamma, t = sgd.lr, 1 - sgd.lr, len(steps) - 1
    coefficients: list[Tensor] = []
    for tau, step in enumerate(steps):
        j_g = products.jvp(step, g_w)
        _check_finite(_where(tau, steps), {"the Jacobian-vector product is": j_g})
        coefficients.append(eta * gamma ** (t - tau) * r[tau][:, None] * j_g)
    return coefficients


def _exact(
    products: Products,
    steps: Sequence[StudentStep],
    targets: Sequence[Tensor],
    r: Sequence[Tensor],
    g_w: Weights,
    sgd: InnerSGD,
    average: Callable[[Sequence[Tensor]], None],
) -> list[Tensor]:
    # Reverse recursion over  g' = grad + lambda w,  v <- mu v + g',  w <- w - eta v  (or, with
    # Nesterov, w <- w - eta (g' + mu v)). a and b are the adjoints of w and v after the step, u that
    # of g':
    #     u = b - eta a  (Nesterov: b - eta (1 + mu) a)         c_tau = -r J_{w^tau} u
    #     b <- mu u      (Nesterov: mu (b - eta mu a))          a <- a + lambda u + H_ww u
    eta, mu, lam = sgd.lr, sgd.momentum, sgd.weight_decay
    a = dict(g_w)
    b = {name: torch.zeros_like(g) for name, g in g_w.items()}
    coefficients: list[Tensor] = []
    for tau in reversed(range(len(steps))):
        step, q, r_tau = steps[tau], targets[tau], r[tau][:, None]
        u = {name: b[name] - eta * (1 + mu * sgd.nesterov) * a[name] for name in a}
        j_u, h_u = products.jvp_and_hessian(step, u, -r_tau * q)
        average(list(h_u.values()))
        _check_finite(
            _where(tau, steps),
            {"the Jacobian-vector product is": j_u}
            | {f"the Hessian-vector product of parameter {name} is": h for name, h in h_u.items()},
        )
        coefficients.append(-r_tau * j_u)
        for name, h in h_u.items():  # parameters without a gradient were skipped by the optimiser
            b[name] = mu * (b[name] - eta * mu * a[name] if sgd.nesterov else u[name])
            a[name] = a[name] + lam * u[name] + h
    return coefficients[::-1]


_KINDS = ("approximate", "exact")


def _check_arguments(
    steps: Sequence[StudentStep],
    g_w: Weights,
    targets: Sequence[Tensor] | None,
    r: Sequence[Tensor] | None,
    kind: str,
    engine: str,
) -> None:
    for name, value, known in (("kind", kind, _KINDS), ("engine", engine, (*_jvp.JVP, "auto"))):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    if len(steps) < 1:
        raise ValueError("the meta-gradient needs at least one look-ahead step (k >= 1), got 0")
    if kind == "exact":
        if engine == "finite-difference":
            raise ValueError(
                "finite differences cannot give the Hessian-vector products of the exact meta-gradient: "
                "use the forward or the double-backward engine"
            )
        if not targets:
            raise ValueError("the exact meta-gradient needs the soft labels of every step, as targets")
    if r is not None and [each.shape for each in r] != [step.log_probs.shape[:1] for step in steps]:
        raise ValueError(
            f"expected weights r for {[len(step.log_probs) for step in steps]} samples, "
            f"got {[tuple(each.shape) for each in r]}"
        )
    if targets is not None and len(targets) != len(steps):
        raise ValueError(f"expected the soft labels of {len(steps)} steps as targets, got {len(targets)}")
    for tau, step in enumerate(steps):
        where = _where(tau, steps)
        if targets is not None and targets[tau].shape != step.log_probs.shape:
            raise ValueError(
                f"{where}: the batch differs from the step's: targets have shape "
                f"{tuple(targets[tau].shape)}, the step's log-probabilities {tuple(step.log_probs.shape)}"
            )
        quantities = {"the student's log-probabilities are": step.log_probs}
        if targets is not None:
            quantities["the targets are"] = targets[tau]
        _check_finite(where, quantities)
        if step.weights.keys() != g_w.keys():
            raise ValueError(f"{where}: its trained parameters are not those of g_w")
    _check_finite(
        f"after look-ahead step {len(steps)}", {f"g_w of parameter {name} is": g for name, g in g_w.items()}
    )


def _where(tau: int, steps: Sequence[StudentStep]) -> str:
    return f"look-ahead step {tau + 1} of {len(steps)}"


def _check_finite(where: str, quantities: dict[str, Tensor]) -> None:
    values = list(quantities.values())
    # Norms carry inf and nan, so the device is read once. A norm may also overflow: look closer then.
    if is_capturing(values[0].device) or torch.stack(torch._foreach_norm(values)).isfinite().all():
        return
    for quantity, tensor in quantities.items():
        if not tensor.isfinite().all():
            raise FloatingPointError(f"{where}: {quantity} not finite")
