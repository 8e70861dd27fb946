"""MSLG's step beside autograd through the look-ahead step, in float64."""

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy, log_softmax

import tiny
from emlc.data.loaders import Batch
from emlc.methods.mslg import MSLG

C = 3


def prepared(epoch=5, **changes):
    torch.manual_seed(0)
    settings = tiny.settings(method="mslg", epochs=10, warm_up_epochs=2, learning_rate=0.3, **changes)
    split = tiny.split(tiny.settings())
    method = MSLG(settings, split.noisy.inputs, C)
    method.student.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.label_logits = torch.randn(len(split.noisy), C, dtype=torch.float64)
    method.train_mode()
    method.epoch = epoch
    return method


def batch(n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, C, (n,), generator=generator)
    return Batch(x, labels, torch.randperm(60, generator=generator)[:n], n)


def unrolled(method, noisy, trusted, alpha):
    """d CE(trusted; w^) / d y: autograd through the gradient step to w^."""
    y = method.label_logits[noisy.positions].clone().requires_grad_()
    w = {name: p.detach().clone().requires_grad_() for name, p in method.student.named_parameters()}

    def logits(weights, x):
        buffers = {name: b.clone() for name, b in method.student.named_buffers()}
        return functional_call(method.student, weights | buffers, (x,))

    log_f = log_softmax(logits(w, noisy.inputs), dim=1)
    log_d = (y.softmax(dim=1) + 1e-10).log()
    loss = sum((log_f[i].exp() * (log_f[i] - log_d[i])).sum() for i in range(len(y))) / len(y) / C
    gradients = torch.autograd.grad(loss, list(w.values()), create_graph=True)
    ahead = {name: p - alpha * g for (name, p), g in zip(w.items(), gradients, strict=True)}
    trusted_loss = cross_entropy(logits(ahead, trusted.inputs), trusted.labels)
    return trusted_loss, torch.autograd.grad(trusted_loss, y)[0]


@pytest.mark.parametrize("jvp", ["forward", "double-backward"])
def test_labels_move_by_the_unrolled_meta_gradient(jvp):
    method = prepared(jvp=jvp, hyper={"label_learning_rate": 7.0, "inner_learning_rate": 2.0})
    for seed in range(2):
        noisy, trusted = batch(7, seed), batch(5, 10 + seed)
        # Probabilities of some labels are next to 0: there the logarithm is clamped.
        method.label_logits[noisy.positions[:3], 1] -= 25 + 5 * seed
        start = method.label_logits.clone()
        trusted_loss, gradient = unrolled(method, noisy, trusted, alpha=2.0)
        losses = method.step([noisy], trusted)
        assert gradient.abs().max() > 1e-5
        expected = start[noisy.positions] - 7.0 * 7 * gradient
        torch.testing.assert_close(method.label_logits[noisy.positions], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(losses["meta_objective"], trusted_loss.detach())
        untouched = torch.ones(len(start), dtype=torch.bool)
        untouched[noisy.positions] = False
        assert torch.equal(method.label_logits[untouched], start[untouched])


def test_the_student_learns_from_the_moved_labels():
    method = prepared(jvp="forward", momentum=0.0, hyper={"entropy_weight": 0.4})
    noisy, trusted = batch(7, 0), batch(5, 1)
    weights = list(method.student.parameters())
    before = [p.detach().clone() for p in weights]
    statistics = {name: b.clone() for name, b in method.student.named_buffers()}
    with torch.no_grad():
        method.student(noisy.inputs)
    once = {name: b.clone() for name, b in method.student.named_buffers()}
    for name, b in method.student.named_buffers():
        b.copy_(statistics[name])
    loss = method.step([noisy], trusted)["student_loss"]
    for name, b in method.student.named_buffers():
        torch.testing.assert_close(b, once[name])  # neither the trusted pass nor the product wrote them

    after = [p.detach().clone() for p in weights]
    for p, old in zip(weights, before, strict=True):
        p.data.copy_(old)
    f = method.student(noisy.inputs).softmax(dim=1)
    d = method.label_logits[noisy.positions].softmax(dim=1)
    expected = (f * (f / d).log() - 0.4 * f * f.log()).mean()
    torch.testing.assert_close(loss, expected.detach())
    for p, new, g in zip(weights, after, torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(new, p - 0.3 * g)


def test_while_it_warms_up_it_believes_the_given_labels():
    method, noisy = prepared(epoch=1), batch(7, 0)
    y = method.label_logits.clone()
    expected = cross_entropy(method.student(noisy.inputs), noisy.labels)
    loss = method.step([noisy], batch(5, 1))["student_loss"]
    torch.testing.assert_close(loss, expected.detach())
    assert torch.equal(method.label_logits, y)
