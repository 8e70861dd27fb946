"""The baselines against SGD with momentum and weight decay written by hand, in float64."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import log_softmax

import tiny
from emlc.data.loaders import Batch
from emlc.methods import CrossEntropy, TrustedOnly
from references import flat, relative_error

ETA, MU, LAMBDA = 0.1, 0.9, 0.01


def batches():
    data = tiny.samples()
    rows = torch.arange(32).split(8)
    return [Batch(data.inputs[r], torch.from_numpy(data.labels)[r], r, len(r)) for r in rows]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("kind", [CrossEntropy, TrustedOnly])
def test_two_steps_are_sgd_on_the_right_labels(kind, nesterov):
    torch.manual_seed(0)
    settings = tiny.settings(learning_rate=ETA, momentum=MU, weight_decay=LAMBDA, nesterov=nesterov)
    method = kind(settings, tiny.samples().inputs, 3)
    method.student.double()
    method.prepare(tiny.ALONE)
    method.train_mode()
    noisy, trusted = batches()[:2], batches()[2:]

    student = deepcopy(method.student)
    start = flat(student.parameters()).detach()
    v = [torch.zeros_like(p) for p in student.parameters()]
    for x, y, *_ in noisy if kind is CrossEntropy else trusted:
        loss = -log_softmax(student(x), dim=1)[torch.arange(8), y].mean()
        gradients = torch.autograd.grad(loss, list(student.parameters()))
        with torch.no_grad():
            for i, (p, g) in enumerate(zip(student.parameters(), gradients, strict=True)):
                g = g + LAMBDA * p
                v[i] = MU * v[i] + g
                p -= ETA * (g + MU * v[i] if nesterov else v[i])
        if kind is CrossEntropy:
            losses = method.step([Batch(x, y, y, len(y))], None)
        else:
            losses = method.step([], Batch(x, y, y, len(y)))
        assert losses["student_loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    change = flat(method.student.parameters()) - start
    assert relative_error(change, flat(student.parameters()) - start) <= 1e-12


def test_the_baselines_correct_no_labels():
    method = CrossEntropy(tiny.settings(), tiny.samples().inputs, 3)
    assert list(method.networks()) == ["student"]
    assert method.notes == []
