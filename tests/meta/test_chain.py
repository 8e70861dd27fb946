"""Products of chains of layers, in closed form, against dense Jacobians; and which networks are chains."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from emlc.architectures.dropout import HalfDropout
from emlc.meta.chain import Chain, LinearGradient, chain_of
from emlc.meta.jvp import choose_engine, jvp_double_backward, jvp_forward, record_step
from emlc.meta.metagradient import InnerSGD, meta_gradient, trusted_gradient
from references import flat, relative_error, student_jacobian


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - 0.5


def shallow() -> nn.Sequential:
    body = nn.Sequential(Centred(), nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), nn.Dropout(0.4))
    return nn.Sequential(body, nn.Linear(20, 3))


def deep() -> nn.Sequential:
    hidden = [nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 8, bias=False), nn.Flatten(), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Dropout(0.5), nn.Identity(), nn.Linear(8, 3))


def halved() -> nn.Sequential:
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), HalfDropout())
    return nn.Sequential(body, nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 3))


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def silent() -> nn.Sequential:
    """Its hidden units are all zero, so that dropout leaves no trace in them."""
    network = shallow()
    nn.init.zeros_(network[0][2].weight)
    nn.init.zeros_(network[0][2].bias)
    return network


CHAINS = [shallow, deep, halved, linear, silent]


def case(make: Callable[[], nn.Module], *, training: bool) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    network = make().double().train(training)
    u = {name: torch.randn_like(p) for name, p in network.named_parameters()}
    return network, torch.randn(7, 3, 4, dtype=torch.float64), u


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", CHAINS)
def test_the_product_is_the_dense_jacobian_times_the_direction(
    make: Callable[[], nn.Module], training: bool
) -> None:
    network, x, u = case(make, training=training)
    rng_state = torch.get_rng_state()
    step, _ = record_step(network, x, keep_products=True)
    expected = student_jacobian(network, x, rng_state) @ flat(u.values())
    with torch.no_grad():  # the product is that at the weights of the step, wherever they are now
        for p in network.parameters():
            p.add_(1)
    assert step.chain is not None
    assert relative_error(jvp_forward(step, u), expected) <= 1e-12
    assert torch.equal(jvp_forward(step, u), jvp_forward(step, u))


@pytest.mark.parametrize("make", CHAINS)
def test_keeping_the_chain_leaves_the_step_as_it_is(make: Callable[[], nn.Module]) -> None:
    network, x, _ = case(make, training=True)
    results = []
    for keep_products in (False, True):
        network.zero_grad()
        torch.manual_seed(1)
        _, log_probs = record_step(network, x, keep_products=keep_products)
        log_probs.square().sum().backward()
        results.append([log_probs.detach(), *(p.grad.clone() for p in network.parameters())])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", CHAINS)
def test_the_gradient_is_that_of_autograd(make: Callable[[], nn.Module], training: bool) -> None:
    network, x, _ = case(make, training=training)
    chain, cotangent = Chain(chain_of(network) or {}), torch.randn(7, 3, dtype=torch.float64)
    chain.forward(x).backward(cotangent)
    expected = [p.grad for p in network.parameters()]
    network.zero_grad()
    with torch.no_grad():
        for gradient in chain.backward(cotangent).values():
            gradient.assign()
    for p, gradient in zip(network.parameters(), expected, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("samples", [3, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_a_gradient_in_factors_changes_outputs_as_the_gradient_does(samples: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 10, bias=bias).double()
    x, dy = torch.randn(samples, 12, dtype=torch.float64), torch.randn(samples, 10, dtype=torch.float64)
    layer(x).backward(dy)
    other = torch.randn(5, 12, dtype=torch.float64)
    expected = nn.functional.linear(other, layer.weight.grad, layer.bias.grad if bias else None)
    product = LinearGradient(layer, dy, x).along(other)
    assert relative_error(product, expected) <= 1e-13


def test_other_engines_take_the_chains_step_too() -> None:
    network, x, u = case(shallow, training=True)
    step, _ = record_step(network, x, keep_products=True)
    assert relative_error(jvp_double_backward(step, u), jvp_forward(step, u)) <= 1e-12


def test_the_meta_gradient_of_a_chain_takes_the_closed_form_in_float32() -> None:
    network, x, _ = case(shallow, training=True)
    network, x = network.float(), x.float()
    assert choose_engine(record_step(network, x)[0], exact=False)[0] == "finite-difference"
    step, _ = record_step(network, x, keep_products=True)
    _, g_w = trusted_gradient(network, x, torch.zeros(len(x), dtype=torch.int64))
    assert meta_gradient([step], g_w, InnerSGD(0.1)).engine == "forward"


def test_under_autocast_the_direction_is_kept() -> None:
    network, x, u = case(shallow, training=False)
    expected = jvp_forward(record_step(network, x, keep_products=True)[0], u)
    network, x = network.float(), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        step, _ = record_step(network, x, keep_products=True)
    product = jvp_forward(step, {name: d.float() for name, d in u.items()})
    assert product.dtype == torch.float32
    assert torch.cosine_similarity(product.flatten(), expected.flatten().float(), dim=0) >= 0.999


def test_a_batch_or_a_mode_that_has_changed_is_refused() -> None:
    network, x, u = case(shallow, training=True)
    step, _ = record_step(network, x, keep_products=True)
    network.eval()
    with pytest.raises(ValueError, match="modes differ"):
        jvp_forward(step, u)
    network.train()
    x.add_(1)
    with pytest.raises(ValueError, match="modified in place"):
        jvp_forward(step, u)


def of(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 3))


def shared() -> nn.Module:
    layer = nn.Linear(4, 4)
    return of(layer, nn.ReLU(), layer)


def tied() -> nn.Module:
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    return of(a, b)


def frozen() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.weight.requires_grad_(False)
    return of(layer)


def hooked(index: int | None) -> nn.Module:
    network = of(nn.ReLU())
    module = network if index is None else network[index]
    module.register_forward_hook(lambda *_: None)
    return network


class Doubled(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


OTHERS = {
    "another activation": lambda: of(nn.Tanh()),
    "dropout of a linear layer": lambda: of(nn.Dropout(0.5)),
    "everything dropped": lambda: of(nn.ReLU(), nn.Dropout(1.0)),
    "in place": lambda: of(nn.ReLU(inplace=True)),
    "batch norm": lambda: of(nn.BatchNorm1d(4)),
    "batch norm first": lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)),
    "a layer twice": shared,
    "a weight twice": tied,
    "a frozen weight": frozen,
    "a layer with a hook": lambda: hooked(0),
    "an activation with a hook": lambda: hooked(1),
    "a network with a hook": lambda: hooked(None),
    "a parametrised weight": lambda: of(parametrizations.weight_norm(nn.Linear(4, 4))),
    "a forward pass of its own": lambda: Doubled(nn.Linear(4, 3)),
    "no parameters": lambda: nn.Sequential(nn.ReLU()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_that_is_more_than_its_layers_is_no_chain(name: str) -> None:
    assert chain_of(OTHERS[name]()) is None
