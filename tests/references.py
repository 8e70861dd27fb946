"""Slow, obvious references for the meta-gradient, and the small networks they are checked on.

Nothing here imports emlc: dense Jacobians one row at a time, Eq. 11 in loops, and autograd through the
student's optimiser written out by hand.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.func import functional_call
from torch.nn.functional import cross_entropy, log_softmax, one_hot, softmax

CLASSES = 3
Batch = tuple[Tensor, Tensor]


# --- students ----------------------------------------------------------------------------------


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES)
    )


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(27, CLASSES),
    )


def shared_conv_net() -> nn.Module:
    """The second and third convolution are two modules with one weight."""
    net = conv_net()
    assert isinstance(net, nn.Sequential)
    again = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    again.weight = net[4].weight
    net.insert(6, again)
    return net


def frozen_conv_net() -> nn.Module:
    """The first convolution and the affine part of the second batch norm are not trained."""
    net = conv_net()
    assert isinstance(net, nn.Sequential)
    for module in (net[0], net[5]):
        module.requires_grad_(False)
    return net


class UnusedLayer(nn.Module):
    """An MLP beside a layer that no output depends on: its gradients stay None."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)
        self.net = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class StochasticDepth(nn.Module):
    """A residual layer that a coin skips: in some steps its gradients are None, in others not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.residual, self.last = nn.Linear(36, 5), nn.Linear(5, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x.flatten(1)))
        if torch.rand(()) < 0.5:
            h = h + torch.tanh(self.residual(h))
        return self.last(h)


STUDENTS = {
    "mlp": mlp,
    "conv": conv_net,
    "shared": shared_conv_net,
    "frozen": frozen_conv_net,
    "unused": UnusedLayer,
    "stochastic-depth": StochasticDepth,
}


# --- the outer model ---------------------------------------------------------------------------


class TinyTeacher(nn.Module):
    """Soft labels from a sample and its label: a gate between the label and an own prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(36, 4)
        self.classify = nn.Linear(4, CLASSES)
        self.embed = nn.Embedding(CLASSES, 2)
        self.retain = nn.Linear(6, 1)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        h = torch.tanh(self.features(x.flatten(1)))
        w = torch.sigmoid(self.retain(torch.cat([h, self.embed(label)], dim=1)))
        return w * one_hot(label, CLASSES) + (1 - w) * softmax(self.classify(h), dim=1)


# --- a bi-level problem ------------------------------------------------------------------------


@dataclass
class Problem:
    """A student, its optimiser's settings and state, an outer model, and data.

    Attributes:
        buffers: momentum buffers the look-ahead starts from, by parameter name; empty at first.
        seed: of the random numbers drawn from the first look-ahead step on.
    """

    student: nn.Module
    teacher: TinyTeacher
    sgd: dict[str, float]
    noisy: list[Batch]
    trusted: Batch
    buffers: dict[str, Tensor]
    seed: int = 7

    def copy(self) -> tuple[nn.Module, torch.optim.SGD]:
        """The student and its optimiser before the look-ahead; the random numbers start anew."""
        student = deepcopy(self.student)
        optimizer = torch.optim.SGD(student.parameters(), **self.sgd)
        for name, p in student.named_parameters():
            if name in self.buffers:
                optimizer.state[p]["momentum_buffer"] = self.buffers[name].clone()
        torch.manual_seed(self.seed)
        return student, optimizer


def problem(
    student: str = "mlp",
    sizes: Iterable[int] = (6,),
    *,
    dtype: torch.dtype = torch.float64,
    warm_up: int = 0,
    seed: int = 0,
    **sgd: float,
) -> Problem:
    """A random problem with look-ahead batches of the given sizes, after ``warm_up`` steps."""
    torch.manual_seed(seed)
    net, teacher = STUDENTS[student]().to(dtype), TinyTeacher().to(dtype)

    def batch(n: int) -> Batch:
        return torch.randn(n, 1, 6, 6, dtype=dtype), torch.randint(CLASSES, (n,))

    problem = Problem(net, teacher, {"lr": 0.1} | sgd, [batch(n) for n in sizes], batch(5), {})
    optimizer = torch.optim.SGD(net.parameters(), **problem.sgd)
    for _ in range(warm_up):
        x, y = batch(6)
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    problem.buffers = {
        name: optimizer.state[p]["momentum_buffer"].clone()
        for name, p in net.named_parameters()
        if optimizer.state[p].get("momentum_buffer") is not None
    }
    return problem


# --- references --------------------------------------------------------------------------------


def unrolled(problem: Problem) -> Tensor:
    """d L / d alpha, flat: autograd through the k steps of SGD, each written out."""
    student, _ = problem.copy()
    w = {n: p.detach().clone().requires_grad_() for n, p in student.named_parameters() if p.requires_grad}
    v = {name: problem.buffers.get(name, torch.zeros_like(p)) for name, p in w.items()}
    eta, mu = problem.sgd["lr"], problem.sgd.get("momentum", 0.0)
    lam, nesterov = problem.sgd.get("weight_decay", 0.0), problem.sgd.get("nesterov", False)
    for x, label in problem.noisy:
        log_p = log_softmax(functional_call(student, w, (x,)), dim=1)
        loss = -(problem.teacher(x, label) * log_p).sum() / len(x)
        gradients = torch.autograd.grad(loss, list(w.values()), create_graph=True, allow_unused=True)
        for name, g in zip(list(w), gradients, strict=True):
            if g is not None:  # torch.optim.SGD skips the others, weight decay and momentum included
                g = g + lam * w[name]
                v[name] = mu * v[name] + g
                w[name] = w[name] - eta * (g + mu * v[name] if nesterov else v[name])
    x, y = problem.trusted
    loss = cross_entropy(functional_call(student, w, (x,)), y)
    return flat(torch.autograd.grad(loss, list(problem.teacher.parameters())))


def equation_11(problem: Problem) -> Tensor:
    """eta/n sum_tau gamma^(t-tau) sum_i (J_w^tau(i) g_w)^T J_alpha(i), flat, from dense Jacobians."""
    student, optimizer = problem.copy()
    eta, gamma = problem.sgd["lr"], 1 - problem.sgd["lr"]
    dense = []
    for x, label in problem.noisy:
        before, rng_state = deepcopy(student), torch.get_rng_state()
        optimizer.zero_grad()
        (-(problem.teacher(x, label).detach() * log_softmax(student(x), dim=1)).sum() / len(x)).backward()
        optimizer.step()
        after = torch.get_rng_state()
        dense.append((student_jacobian(before, x, rng_state), teacher_jacobian(problem.teacher, x, label)))
        torch.set_rng_state(after)
    x, y = problem.trusted
    loss = cross_entropy(student(x), y)
    g_w = flat(torch.autograd.grad(loss, trained(student), allow_unused=True, materialize_grads=True))
    total, t = torch.tensor(0.0), len(dense) - 1
    for tau, (j_w, j_alpha) in enumerate(dense):
        n = len(j_w)
        for i in range(n):
            total = total + eta / n * gamma ** (t - tau) * (j_w[i] @ g_w) @ j_alpha[i]
    return total


def student_jacobian(student: nn.Module, x: Tensor, rng_state: Tensor) -> Tensor:
    """(n, C, |w|): of log p_w(. | x_i) in the trained weights, with the random numbers of ``rng_state``."""
    return jacobian(flat_log_probs(student, x, rng_state), flat(trained(student)).detach())


def student_hessian_product(
    student: nn.Module, x: Tensor, rng_state: Tensor, u: Tensor, cotangent: Tensor
) -> Tensor:
    """(|w|,): the dense Hessian of <cotangent, log p_w> times ``u``."""
    log_probs = flat_log_probs(student, x, rng_state)
    weights = flat(trained(student)).detach()
    return torch.autograd.functional.hessian(lambda w: (cotangent * log_probs(w)).sum(), weights) @ u


def teacher_jacobian(teacher: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    """(n, C, |alpha|)"""
    rows = [
        flat(torch.autograd.grad(q, list(teacher.parameters()), retain_graph=True))
        for q in teacher(x, label).flatten()
    ]
    return torch.stack(rows).reshape(len(x), CLASSES, -1)


def flat_log_probs(student: nn.Module, x: Tensor, rng_state: Tensor) -> Callable[[Tensor], Tensor]:
    """The log-probabilities as a function of the trained weights in one vector."""
    names = [name for name, p in student.named_parameters() if p.requires_grad]
    shapes = [p.shape for p in trained(student)]
    student = deepcopy(student)

    def log_probs(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        weights = {n: part.view(shape) for n, part, shape in zip(names, parts, shapes, strict=True)}
        torch.set_rng_state(rng_state)
        return log_softmax(functional_call(student, weights, (x,)), dim=1)

    return log_probs


def trained(student: nn.Module) -> list[Tensor]:
    return [p for p in student.parameters() if p.requires_grad]


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


def relative_error(value: Tensor, expected: Tensor) -> float:
    value, expected = value.detach().double(), expected.detach().double()
    assert expected.norm() > 0
    return ((value - expected).norm() / expected.norm()).item()
