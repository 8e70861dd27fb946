"""FaMUS's gradients beside sums over samples and layers, one gradient at a time, in float64."""

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

import tiny
from emlc.data.loaders import Batch
from emlc.methods.famus import FaMUS

C, ETA = 3, 0.3


def prepared(**hyper):
    torch.manual_seed(0)
    settings = tiny.settings(
        method="famus", epochs=10, warm_up_epochs=2, learning_rate=ETA, momentum=0.0, hyper=hyper
    )
    split = tiny.split(tiny.settings())
    method = FaMUS(settings, split.noisy.inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    method.epoch = 5
    return method


def batch(n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(0, C, (n,), generator=generator), torch.arange(n), n)


def per_sample(method, noisy, names):
    """Losses (n,), and each one's gradient in each of these weights."""
    logits = method.student(noisy.inputs)
    losses = [cross_entropy(logits[i : i + 1], noisy.labels[i : i + 1]) for i in range(len(noisy.labels))]
    weights = [method.student.get_parameter(name) for name in names]
    gradients = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in losses]
    return torch.stack(losses).detach(), gradients


def judged_ahead(method, weights, trusted):
    state = weights | {name: b.clone() for name, b in method.student.named_buffers()}
    return cross_entropy(functional_call(method.student, state, (trusted.inputs,)), trusted.labels)


def pooled(g):
    return torch.stack([row.mean() for row in g])


# Which of the six tensors of the tiny mlp below its classifier (weight, batch norm, twice) have open gates.
@pytest.mark.parametrize("pattern", [(0, 0, 0, 0, 0, 0), (0, 1, 0, 0, 1, 1), (1, 1, 1, 1, 1, 1)])
def test_the_meta_gradient_is_that_of_the_sampled_layers(monkeypatch, pattern):
    weight, count = 0.7, 0.05
    method = prepared(gradient_weight=weight, count_weight=count, active_layers=2)
    noisy, trusted = batch(7, 0), batch(5, 1)
    names = [name for name, _ in method.student.named_parameters()]
    assert names[:6] == method._candidates
    r = torch.tensor(pattern, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(method, "_sample_gates", lambda gradients: r)
    losses = cross_entropy(method.student(noisy.inputs), noisy.labels, reduction="none")
    total, trusted_loss, active = method.meta_loss(losses, trusted)
    theta = list(method.weight_net.parameters())
    actual = torch.autograd.grad(total, [*theta, r])

    values, gradients = per_sample(method, noisy, names)
    n, v = len(values), method.weigh(values)
    g = [sum(v[i].item() * gradients[i][k] for i in range(n)) / n for k in range(8)]
    ahead = {
        name: (method.student.get_parameter(name) - ETA * g[k]).detach().requires_grad_()
        for k, name in enumerate(names)
    }
    expected_trusted_loss = judged_ahead(method, ahead, trusted)
    torch.testing.assert_close(trusted_loss, expected_trusted_loss.detach())
    trusted_gradients = torch.autograd.grad(expected_trusted_loss, list(ahead.values()))
    sampled = [k for k in range(8) if k >= 6 or pattern[k]]
    differences = {k: pooled(g[k]) - pooled(trusted_gradients[k]) for k in (6, 7)}
    expected = [torch.zeros_like(p) for p in theta]
    for i in range(n):
        # dL_val / dV_i, of the layers' products and of the distance in the last layer.
        slope = sum(-ETA / n * (trusted_gradients[k] * gradients[i][k]).sum() for k in sampled)
        slope += weight * sum(2 / n * (differences[k] * pooled(gradients[i][k])).mean() for k in (6, 7))
        for e, d in zip(expected, torch.autograd.grad(v[i], theta, retain_graph=True), strict=True):
            e += slope * d
    for one, other in zip(actual, expected, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
    assert max(e.abs().max() for e in expected) > 1e-6
    for k, is_open in enumerate(pattern):
        sign = 1 if is_open else -1
        slope = -sign * ETA * (trusted_gradients[k] * g[k]).sum() + 2 * count * (sum(pattern) - 2)
        torch.testing.assert_close(actual[-1][k], slope, rtol=1e-8, atol=1e-12)
    assert active == sum(pattern)


def test_the_student_learns_with_the_new_weights():
    method = prepared()
    noisy, trusted = batch(7, 0), batch(5, 1)
    values, gradients = per_sample(method, noisy, [name for name, _ in method.student.named_parameters()])
    before = [p.detach().clone() for p in method.student.parameters()]
    old = method.weigh(values).detach()
    statistics = {name: b.clone() for name, b in method.student.named_buffers()}
    losses = method.step([noisy], trusted)
    new = method.weigh(values).detach()
    assert not torch.equal(old, new)
    torch.testing.assert_close(losses["student_loss"], (new * values).mean())
    for k, (p, start) in enumerate(zip(method.student.parameters(), before, strict=True)):
        g = sum(new[i] * gradients[i][k] for i in range(7)) / 7
        torch.testing.assert_close(p.detach(), start - ETA * g)
    for name, b in method.student.named_buffers():  # one pass, not two, has moved them
        if name.endswith("num_batches_tracked"):
            assert b == statistics[name] + 1


def test_a_gate_s_gradient_is_that_of_its_gumbel_softmax_of_temperature_5(monkeypatch):
    method = prepared(candidate_layers=1)
    net, logits = method.gates[0], torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(net, "forward", lambda pooled: logits)
    torch.manual_seed(4)
    (gate,) = method._sample_gates([torch.zeros(len(method.student.get_parameter(method._candidates[0])))])
    (slope,) = torch.autograd.grad(gate, logits)
    torch.manual_seed(4)
    noisy = logits + -torch.empty(2, dtype=torch.float64).exponential_().log()
    assert gate == (noisy[1] > noisy[0])
    soft = ((noisy / 5).exp() / (noisy / 5).exp().sum())[1]
    torch.testing.assert_close(slope, torch.autograd.grad(soft, logits)[0])


def test_gates_are_open_or_closed_and_candidates_are_the_highest_layers():
    method = prepared(candidate_layers=2)
    names = [name for name, _ in method.student.named_parameters()]
    assert method._candidates == names[4:6]
    gradients = [torch.randn_like(method.student.get_parameter(name)) for name in method._candidates]
    torch.manual_seed(0)
    drawn = torch.stack([method._sample_gates(gradients) for _ in range(40)])
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}
    drawn.sum().backward()
    assert all(p.grad is not None for p in method.gates.parameters())


def test_the_sizes_and_the_optimisers_of_its_nets():
    plain = prepared()
    assert (plain.weight_net[0].out_features, plain.gates[0][0].out_features) == (100, 128)
    assert plain.weight_adam.param_groups[0]["weight_decay"] == 1e-4
    assert (plain.gates_sgd.param_groups[0]["momentum"], plain.gates_sgd.param_groups[0]["nesterov"]) == (
        0.9,
        True,
    )
    changed = prepared(hidden_dim=7, gate_hidden_dim=5, meta_weight_decay=0.2, gate_momentum=0.0)
    assert (changed.weight_net[0].out_features, changed.gates[0][0].out_features) == (7, 5)
    assert changed.weight_adam.param_groups[0]["weight_decay"] == 0.2
    assert changed.gates_sgd.param_groups[0]["momentum"] == 0
