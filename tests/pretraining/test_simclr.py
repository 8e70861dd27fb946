import math

import pytest
import torch
from lightly.utils.lars import LARS

import tiny
from emlc.config import PretrainSettings
from emlc.pretraining.simclr import SimCLR, contrastive_loss, learning_rate

IMAGES = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def settings(**values):
    return PretrainSettings(**({"data": "digits", "width": 4, "projection_dim": 6, "batch": 12} | values))


def prepared(**values):
    torch.manual_seed(0)
    simclr = SimCLR(settings(**values), IMAGES, tiny.ALONE)
    simclr.setup()
    return simclr


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_is_the_papers_equation_1(temperature):
    z = torch.randn(10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = []
    for i in range(10):
        positive = (i + 5) % 10
        similarities = [torch.cosine_similarity(z[i], z[k], dim=0).item() / temperature for k in range(10)]
        others = sum(math.exp(s) for k, s in enumerate(similarities) if k != i)
        losses.append(-math.log(math.exp(similarities[positive]) / others))
    assert contrastive_loss(z, temperature, tiny.ALONE).item() == pytest.approx(sum(losses) / 10, rel=1e-9)


def test_the_loss_is_not_computed_in_bfloat16():
    z = torch.randn(10, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert contrastive_loss(z, 0.1, tiny.ALONE).item() == contrastive_loss(z.float(), 0.1, tiny.ALONE).item()


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_a_step_goes_down_the_gradient(optimizer):
    simclr = prepared(optimizer=optimizer, learning_rate=0.5, weight_decay=0.01)
    views = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    weights = [p for network in simclr.networks().values() for p in network.parameters()]
    before = [p.detach().clone() for p in weights]
    loss = contrastive_loss(simclr.head(simclr.backbone(views)), 0.5, tiny.ALONE)
    gradients = torch.autograd.grad(loss, weights)
    simclr = prepared(optimizer=optimizer, learning_rate=0.5, weight_decay=0.01)  # running statistics anew
    assert simclr.step(views, 0.1).item() == pytest.approx(loss.item())
    after = [p for network in simclr.networks().values() for p in network.parameters()]
    for w, g, moved in zip(before, gradients, after, strict=True):
        decayed = g + 0.01 * w if w.ndim > 1 else g
        if optimizer == "lars" and w.ndim > 1:  # You et al.: Large Batch Training, Eq. 6
            decayed = 0.001 * w.norm() / (g.norm() + 0.01 * w.norm()) * decayed
        torch.testing.assert_close(moved, w - 0.1 * decayed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "rate", "decay"),
    [
        ({"batch": 512}, 0.24, 5e-4),
        ({"batch": 512, "optimizer": "lars"}, 0.6, 1e-6),
        ({"learning_rate": 0.3, "weight_decay": 0.0}, 0.3, 0.0),
    ],
)
def test_defaults_of_the_optimisers(values, rate, decay):
    simclr = prepared(**values)
    assert isinstance(simclr.optimizer, LARS if values.get("optimizer") == "lars" else torch.optim.SGD)
    assert simclr.peak_rate == pytest.approx(rate)
    matrices, vectors = simclr.optimizer.param_groups
    assert matrices["weight_decay"] == decay
    assert vectors["weight_decay"] == 0
    assert {p.ndim for p in vectors["params"]} == {1}
    assert 1 not in {p.ndim for p in matrices["params"]}
    assert len(matrices["params"]) + len(vectors["params"]) == sum(
        len(list(network.parameters())) for network in simclr.networks().values()
    )


def test_the_learning_rate_rises_along_a_line_and_falls_along_a_cosine():
    rates = [learning_rate(step, 100, 20, 2.0) for step in range(100)]
    assert rates[:20] == pytest.approx([2.0 * (step + 1) / 20 for step in range(20)])
    assert rates[20] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(1 + math.cos(math.pi * 79 / 80))
    assert learning_rate(0, 10, 0, 2.0) == 2.0
