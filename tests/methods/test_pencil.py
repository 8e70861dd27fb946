"""PENCIL's losses and label updates beside loops over samples and classes, with gradients by hand."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

import tiny
from emlc.data.loaders import Batch
from emlc.methods.pencil import Pencil

N, C = 7, 3


def prepared(epoch, **hyper):
    torch.manual_seed(0)
    changes = {"method": "pencil", "epochs": 10, "warm_up_epochs": 2, "hyper": {"final_share": 0.3} | hyper}
    settings = tiny.settings(**changes, learning_rate=0.3)
    split = tiny.split(tiny.settings())
    method = Pencil(settings, split.noisy.inputs, C)
    method.student.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.label_logits = torch.randn(len(split.noisy), C, dtype=torch.float64)
    method.train_mode()
    method.epoch = epoch
    return method


def batch(n=N, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, C, (n,), generator=generator)
    return Batch(x, labels, torch.randperm(60, generator=generator)[:n], n)


def softmax(row):
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def slow_loss(logits, y, labels, alpha, beta):
    """L = L_c / C + alpha L_o + beta L_e / C."""
    total = 0.0
    for row, y_row, label in zip(logits.tolist(), y.tolist(), labels.tolist(), strict=True):
        f, d = softmax(row), softmax(y_row)
        for j in range(C):
            total += f[j] * math.log(f[j] / d[j]) / C
            total -= beta * f[j] * math.log(f[j]) / C
        total -= alpha * math.log(softmax(d)[label])
    return total / len(labels)


def slow_label_gradient(logits, y, labels, alpha):
    """n dL/dy, by hand: (d - f) / C + alpha J (softmax(d) - onehot), J = diag(d) - d d^T."""
    rows = []
    for row, y_row, label in zip(logits.tolist(), y.tolist(), labels.tolist(), strict=True):
        f, d = softmax(row), softmax(y_row)
        s = [v - (j == label) for j, v in enumerate(softmax(d))]
        mean = sum(a * b for a, b in zip(d, s, strict=True))
        rows.append([(d[j] - f[j]) / C + alpha * d[j] * (s[j] - mean) for j in range(C)])
    return torch.tensor(rows, dtype=torch.float64)


def test_a_step_moves_labels_and_network_down_the_loss():
    method = prepared(3, label_learning_rate=5.0, compatibility_weight=0.4, entropy_weight=0.7)
    data = batch()
    y = method.label_logits[data.positions].clone()
    others = torch.ones(len(method.label_logits), dtype=torch.bool)
    others[data.positions] = False
    untouched = method.label_logits[others].clone()
    weights = list(method.student.parameters())
    old = [p.detach().clone() for p in weights]
    logits = method.student(data.inputs)
    gradient = torch.autograd.grad(method.loss(logits, y, data.labels), weights)

    losses = method.step([data], None)
    expected = slow_loss(logits, y, data.labels, 0.4, 0.7)
    assert losses["student_loss"].item() == pytest.approx(expected, rel=1e-10)
    moved = y - 5.0 * slow_label_gradient(logits, y, data.labels, 0.4)
    torch.testing.assert_close(method.label_logits[data.positions], moved, rtol=1e-10, atol=1e-12)
    assert torch.equal(method.label_logits[others], untouched)
    for p, before, g in zip(weights, old, gradient, strict=True):
        torch.testing.assert_close(p, before - 0.3 * g)


def test_a_label_moves_alike_in_batches_of_any_size():
    data, method = batch(), prepared(3)
    method.student.eval()  # else batch norm lets the samples of a batch depend on each other
    start = method.label_logits.clone()
    method.step([data], None)
    together = method.label_logits[data.positions]
    alone = prepared(3)
    alone.student.eval()
    x, labels, positions, _ = data
    alone.step([Batch(x[2:3], labels[2:3], positions[2:3], 1)], None)
    torch.testing.assert_close(alone.label_logits[positions[2]], together[2])
    assert not torch.equal(together[2], start[positions[2]])


def test_labels_stay_as_given_and_as_corrected_outside_their_stage():
    data = batch()
    for epoch, rate in ((0, 1.0), (8, 0.2 / 0.06)):
        method = prepared(epoch)
        y, logits = method.label_logits.clone(), method.student(data.inputs)
        loss = method.step([data], None)["student_loss"].item()
        assert torch.equal(method.label_logits, y)
        if epoch == 0:
            assert loss == pytest.approx(cross_entropy(logits, data.labels).item())
        else:
            log_f, log_d = log_softmax(logits, 1), log_softmax(y[data.positions], 1)
            assert loss == pytest.approx((log_f.exp() * (log_f - log_d)).mean().item())
        assert method.rate_factor == rate


def test_with_the_paper_s_compatibility_loss_no_label_could_change():
    """The departure: the fixed point of the label update, with the formula as it is printed."""
    f, given = torch.tensor([[0.98, 0.01, 0.01]], dtype=torch.float64), torch.tensor([2])
    y = torch.zeros(1, 3, dtype=torch.float64).requires_grad_()
    for _ in range(500):
        d = log_softmax(y, dim=1)
        loss = (f * (f.log() - d)).mean() + 0.4 * torch.nn.functional.nll_loss(d, given)
        (g,) = torch.autograd.grad(loss, y)
        y = (y - 3.0 * g).detach().requires_grad_()
    fixed = (f / 3 + 0.4 * torch.tensor([[0.0, 0, 1]])) / (1 / 3 + 0.4)
    torch.testing.assert_close(y.softmax(dim=1), fixed, atol=1e-4, rtol=0)
    assert fixed.argmax() == given


def test_the_tables_begin_with_the_given_labels():
    split = tiny.split(tiny.settings())
    method = Pencil(tiny.settings(method="pencil"), split.noisy.inputs, C)
    method.setup(tiny.ALONE)
    method.bind(split)
    soft = method.estimate().soft_labels
    assert torch.equal(soft.argmax(dim=1), torch.from_numpy(split.noisy.labels))
    top = math.exp(10) / (math.exp(10) + 2)
    assert soft.max(dim=1).values.tolist() == pytest.approx([top] * len(soft), rel=1e-5)
    assert list(method.sample_state()) == ["label_logits"]
