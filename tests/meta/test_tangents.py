"""Forward-mode AD that reuses what the step computed, against dense Jacobians by backward passes."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import conv2d, cosine_similarity, linear
from torch.utils._python_dispatch import TorchDispatchMode

from emlc.meta.jvp import ReplayError, StudentStep, Weights, _dual_level, jvp_forward, record_step
from emlc.meta.tangents import Tangents
from references import STUDENTS, flat, relative_error, student_jacobian

Layers = Callable[[], list[nn.Module]]


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def with_trained(module: nn.Module, *names: str) -> nn.Module:
    frozen(module)
    for name in names:
        module.get_parameter(name).requires_grad_()
    return module


class Keywords(nn.Module):
    """A convolution and a linear layer called with keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.matrix = nn.Parameter(torch.randn(4, 1, 3, 3)), nn.Parameter(torch.randn(3, 64))

    def forward(self, x: Tensor) -> Tensor:
        h = conv2d(weight=self.kernel, input=x, padding="valid").tanh()
        return linear(input=h.flatten(1), weight=self.matrix, bias=None)


# Each takes images (n, 1, 6, 6) and ends in a linear layer.
LAYERS: dict[str, Layers] = {
    "linear and batch norm": lambda: [nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Tanh()],
    "in-place after batch norm": lambda: [
        *(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    ],
    "in-place after convolution": lambda: [
        *(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, bias=False)),
        *(nn.LeakyReLU(0.1, inplace=True), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(inplace=True)),
    ],
    "frozen weight, trained bias": lambda: [
        *(nn.Conv2d(1, 4, 3), nn.Tanh(), with_trained(nn.Conv2d(4, 4, 3), "bias"), nn.Tanh()),
        *(nn.Flatten(), with_trained(nn.Linear(16, 5), "bias"), nn.Tanh()),
    ],
    "first of all a bias": lambda: [with_trained(nn.Conv2d(1, 4, 3), "bias"), nn.Tanh()],
    "trained weight, frozen bias": lambda: [
        *(nn.Conv2d(1, 4, 3), nn.Tanh(), with_trained(nn.Conv2d(4, 4, 3), "weight"), nn.Tanh()),
    ],
    "frozen first layer": lambda: [frozen(nn.Conv2d(1, 4, 3)), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Tanh()],
    "frozen first layer, in-place": lambda: [
        *(frozen(nn.Conv2d(1, 4, 3)), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.Tanh()),
    ],
    "frozen middle layer": lambda: [
        *(nn.Conv2d(1, 4, 3), nn.Tanh(), frozen(nn.Conv2d(4, 4, 3)), nn.Tanh(), nn.Conv2d(4, 2, 1)),
    ],
    "groups, stride, dilation": lambda: [
        *(nn.Conv2d(1, 4, 3, padding="same"), nn.Tanh()),
        *(nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=2), nn.BatchNorm2d(8), nn.Tanh()),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="circular"), nn.Tanh()),
    ],
    "convolution in one dimension": lambda: [
        *(nn.Flatten(2), nn.Conv1d(1, 4, 5, stride=2), nn.BatchNorm1d(4), nn.Tanh(), nn.Conv1d(4, 2, 3)),
    ],
    "convolution in three dimensions": lambda: [
        *(nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 4, (1, 3, 3)), nn.BatchNorm3d(4), nn.Tanh()),
    ],
    "batch norm without affine part": lambda: [
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Tanh()),
    ],
    "batch norm with a frozen affine part": lambda: [
        *(nn.Conv2d(1, 4, 3), frozen(nn.BatchNorm2d(4)), nn.Tanh()),
    ],
    "batch norm with a trained shift": lambda: [
        *(nn.Conv2d(1, 4, 3), with_trained(nn.BatchNorm2d(4), "bias"), nn.Tanh()),
    ],
    "batch norm without statistics": lambda: [
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Tanh()),
    ],
    "batch norm with cumulative statistics": lambda: [
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=None, eps=0.3), nn.Tanh()),
    ],
    "batch norm in eval mode": lambda: [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4).eval(), nn.Tanh()],
    "batch norm first": lambda: [nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3), nn.Tanh()],
    "transformer": lambda: [
        nn.Flatten(1, 2),
        nn.TransformerEncoderLayer(6, 2, dim_feedforward=5, dropout=0.1, batch_first=True),
    ],
    "keywords": lambda: [Keywords()],
}


def network_of(layers: str) -> nn.Module:
    torch.manual_seed(0)
    if layers in STUDENTS:
        return STUDENTS[layers]().double()
    body = nn.Sequential(*LAYERS[layers]())
    features = body(torch.zeros(2, 1, 6, 6)).flatten(1).shape[1]
    network = nn.Sequential(*body, nn.Flatten(), nn.Linear(features, 3))
    with torch.no_grad():  # affine parts and running statistics that are not those of a fresh batch norm
        for tensor in [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]:
            tensor.add_(0.3 * torch.rand_like(tensor))
    return network.double()


def direction(network: nn.Module) -> Weights:
    return {name: torch.randn_like(p) for name, p in network.named_parameters() if p.requires_grad}


def images(n: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, 1, 6, 6, dtype=dtype)


def recorded(network: nn.Module, x: Tensor, *, keep_products: bool) -> tuple[StudentStep, Tensor]:
    """A step, and the state of the generator that its dropout masks were drawn from."""
    torch.manual_seed(3)
    rng_state = torch.get_rng_state()
    return record_step(network, x, keep_products=keep_products)[0], rng_state


@pytest.mark.parametrize("keep_products", [False, True], ids=["computed again", "kept"])
@pytest.mark.parametrize("layers", [*LAYERS, *STUDENTS])
def test_tangents_are_those_of_the_dense_jacobian(layers: str, keep_products: bool) -> None:
    network = network_of(layers)
    x = images()
    for u in (direction(network), direction(network)):
        step, rng_state = recorded(network, x, keep_products=keep_products)
        expected = student_jacobian(network, x, rng_state) @ flat(u.values())
        value = jvp_forward(step, u)
        assert relative_error(value, expected) <= 1e-12
        assert torch.equal(jvp_forward(step, u), value)  # the first did not spoil what is kept


@pytest.mark.parametrize("layers", ["in-place after batch norm", "transformer"])
def test_keeping_products_leaves_the_step_as_it_is(layers: str) -> None:
    network = network_of(layers)
    x = images()
    before = {name: b.clone() for name, b in network.named_buffers()}
    results = []
    for keep_products in (False, True):
        network.load_state_dict(before, strict=False)
        network.zero_grad()
        torch.manual_seed(3)
        _, log_probs = record_step(network, x, keep_products=keep_products)
        log_probs.square().sum().backward()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        results.append([log_probs.detach(), *(b.clone() for b in network.buffers()), *gradients])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_running_statistics_are_left_alone() -> None:
    network = network_of("in-place after batch norm")
    step, _ = recorded(network, images(), keep_products=True)
    before = {name: b.clone() for name, b in network.named_buffers()}
    jvp_forward(step, direction(network))
    assert all(torch.equal(b, before[name]) for name, b in network.named_buffers())
    counts = step.forward_pass.buffers["1.num_batches_tracked"], before["1.num_batches_tracked"]
    assert counts[0] + 1 == counts[1]


class Convolutions(TorchDispatchMode):
    """Counts them."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("layers", "count"),
    [
        # The batch has no tangent. So a first layer takes f(x, dw) alone, a later one f(dx, w) too.
        ("in-place after batch norm", 3),
        ("frozen first layer", 1),
        ("frozen middle layer", 4),
        ("in-place after convolution", None),  # what was overwritten is computed again
    ],
)
def test_kept_products_are_not_computed_again(layers: str, count: int | None) -> None:
    network = network_of(layers)
    x, u = images(), direction(network)

    def convolutions(keep_products: bool) -> int:
        step, _ = recorded(network, x, keep_products=keep_products)
        with Convolutions() as counter:
            jvp_forward(step, u)
        return counter.count

    layers_of_network = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    if count is None:
        assert convolutions(True) == convolutions(False) > 0
    else:
        assert convolutions(True) == count <= convolutions(False) - layers_of_network


@pytest.mark.parametrize("layers", ["in-place after batch norm", "in-place after convolution", "transformer"])
def test_bfloat16_autocast_keeps_the_direction(layers: str) -> None:
    network = network_of(layers).float()
    x, u = images(16, torch.float32), direction(network)
    with torch.autocast("cpu", torch.bfloat16):
        step, rng_state = recorded(network, x, keep_products=True)
    value = jvp_forward(step, u)
    assert step.products is not None
    assert {product.values.dtype for product in step.products} == {torch.bfloat16}
    assert value.dtype == torch.float32
    # The masks of float32: in bfloat16 and in float64 dropout draws others.
    expected = jvp_forward(recorded(network, x, keep_products=False)[0], u)
    if layers != "transformer":
        expected = student_jacobian(network.double(), x.double(), rng_state) @ flat(u.values()).double()
    assert cosine_similarity(value.double().flatten(), expected.double().flatten(), dim=0) >= 0.99
    assert relative_error(value, expected) > 1e-4  # it did run in bfloat16


def test_batch_norm_of_values_far_from_zero_in_bfloat16() -> None:
    """Where the mean is 30 standard deviations, two large terms must not cancel in bfloat16."""
    x = (torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) + 30).bfloat16()
    norm = nn.BatchNorm1d(8)
    u = {"weight": torch.ones(8), "bias": torch.zeros(8)}
    tangents = []
    for values, parameters in ((x, norm), (x.double(), nn.BatchNorm1d(8).double())):
        weights = dict(parameters.named_parameters())
        with torch.no_grad(), _dual_level(), Tangents(None):
            duals = {k: forward_ad.make_dual(w.detach(), u[k].to(w)) for k, w in weights.items()}
            zero = forward_ad.make_dual(values, torch.zeros_like(values))
            out = torch.func.functional_call(parameters, duals, (zero,))
            tangents.append(forward_ad.unpack_dual(out).tangent.double())
    assert relative_error(*tangents) < 0.01


class Moody(nn.Module):
    """Takes a layer more or less by a coin that torch knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(36, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.coins = random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1)).tanh()
        if self.coins.random() < 0.5:
            h = self.middle(h).tanh()
        return self.last(h)


def test_a_network_that_takes_other_layers_the_second_time_is_refused() -> None:
    network = Moody().double()
    refused = 0
    for _ in range(20):
        step, _ = recorded(network, images(), keep_products=True)
        try:
            jvp_forward(step, direction(network))
        except ReplayError:
            refused += 1
    assert 3 < refused < 17
