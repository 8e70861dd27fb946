"""MLNT's fake labels, moving average, ramp and step against slow obvious versions."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

import tiny
from emlc.config.methods import method_class
from emlc.data.loaders import Batch
from emlc.methods.base import NoisyEstimate
from emlc.runs.fit import _weights
from emlc.runs.metrics import best_candidate, epoch_metrics
from references import flat, relative_error

C, N = 3, 14


def batch(seed, n=N):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(0, C, (n,), generator=generator), torch.arange(n), n)


def prepared(hyper, **changes):
    torch.manual_seed(0)
    options = {"backbone": "mlp", "learning_rate": 0.1, "momentum": 0.0, "epochs": 3, "warm_up_epochs": 0}
    settings = tiny.settings(method="mlnt", hyper=hyper, **(options | changes))
    method = method_class("mlnt")(settings, batch(9).inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.train_mode()
    return method


def test_fake_labels_are_those_of_near_samples():
    method = prepared({"fake_sets": 300, "neighbours": 3}, width=20)
    noisy = batch(0)._replace(labels=torch.arange(N))  # each label tells whose it is
    sets = method._fake_labels(noisy)
    h = method.neighbours.eval().backbone(noisy.inputs).detach().numpy()
    seen = [set() for _ in range(N)]
    for labels in sets:
        assert (labels != noisy.labels).sum() == N // 2
        for i in range(N):
            seen[i].add(int(labels[i]))
    for i in range(N):
        distances = [math.inf if j == i else np.linalg.norm(h[i] - h[j]) for j in range(N)]
        assert seen[i] == {i, *np.argsort(distances)[:3]}


def test_a_batch_with_fewer_neighbours_takes_all():
    method = prepared({"fake_sets": 50, "neighbours": 10, "fake_share": 1.0})
    noisy = batch(0, n=3)._replace(labels=torch.arange(3))
    sets = torch.stack(method._fake_labels(noisy))
    for i in range(3):
        assert set(sets[:, i].tolist()) == {0, 1, 2} - {i}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_step_adds_the_divergence_after_a_step_on_fake_labels(weight_decay, monkeypatch):
    hyper = {"meta_start": 0, "meta_full": 2, "fake_sets": 2, "fake_learning_rate": 0.3}
    method = prepared(hyper | {"consistency_weight": 0.7, "first_decay": 0.6}, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(3)
    sets = [torch.randint(0, C, (N,), generator=generator) for _ in range(2)]
    monkeypatch.setattr(method, "_fake_labels", lambda noisy: sets)
    average = None
    for t in range(3):
        method.step_number.fill_(t + 17)  # what counts are steps since the first
        noisy = batch(t)
        student = deepcopy(method.student)
        decay = 0.6 if t < 2 else 0.999
        w = {name: p.detach().clone().requires_grad_() for name, p in student.named_parameters()}
        average = (
            {name: p.detach() for name, p in w.items()}
            if average is None
            else {name: decay * average[name] + (1 - decay) * p.detach() for name, p in w.items()}
        )

        def logits(weights, noisy=noisy, student=student):
            buffers = {name: b.clone() for name, b in student.named_buffers()}
            return functional_call(student, weights | buffers, (noisy.inputs,))

        p = logits(average).softmax(dim=1).detach()
        u = min(1, t / 2)
        weight = 0.7 * math.exp(-5 * (1 - u) ** 2)
        loss = cross_entropy(logits(w), noisy.labels)
        gradient = flat(torch.autograd.grad(loss, list(w.values())))
        objective = 0.0
        for labels in sets:
            fake = torch.autograd.grad(cross_entropy(logits(w), labels), list(w.values()))
            moved = {
                name: (value - 0.3 * g).detach().requires_grad_()
                for (name, value), g in zip(w.items(), fake, strict=True)
            }
            q = logits(moved).softmax(dim=1)
            kl = sum(p[i, c] * (p[i, c] / q[i, c]).log() for i in range(N) for c in range(C)) / (N * C)
            objective += kl.item() / 2
            gradient = gradient + weight / 2 * flat(torch.autograd.grad(kl, list(moved.values())))

        losses = method.step([noisy], None)
        assert losses["student_loss"].item() == pytest.approx(loss.item(), rel=1e-12)
        assert losses["meta_objective"].item() == pytest.approx(objective, rel=1e-9)
        assert objective > 1e-6
        start = flat(w.values()).detach()
        change = flat(method.student.parameters()) - start
        assert relative_error(change, -0.1 * (gradient + weight_decay * start)) <= 1e-10
        assert relative_error(flat(method.average.parameters()), flat(average.values())) <= 1e-12
        # Of the student, the steps that are only looked at write no running statistics.
        student(noisy.inputs)
        for name, buffer in method.student.named_buffers():
            torch.testing.assert_close(buffer, student.get_buffer(name))


@pytest.mark.parametrize("better", ["student", "average"])
def test_the_result_of_an_epoch_is_the_better_of_student_and_average(better):
    method = prepared({"meta_start": 0})
    split = tiny.split(method.settings)
    for network in method.networks().values():
        network.float()
    assert method.candidates() == [method.student]  # the average has not begun
    method.step([batch(0)._replace(inputs=batch(0).inputs.float())], None)
    twin = deepcopy(method.networks()[better]).requires_grad_()
    sgd = torch.optim.SGD(twin.parameters(), 0.1)
    x, y = split.trusted.inputs, torch.from_numpy(split.trusted.given)
    for _ in range(60):
        sgd.zero_grad()
        cross_entropy(twin(x), y).backward()
        sgd.step()
    method.networks()[better].load_state_dict(twin.state_dict())
    result = best_candidate(method, split)
    assert result is method.networks()[better]
    expected = (twin.eval()(x).argmax(dim=1) == y).double().mean()
    assert epoch_metrics(method, NoisyEstimate(), split)["trusted_accuracy"] == 100 * expected
    saved = _weights(method, NoisyEstimate(), split)
    assert tiny.same_tensors(saved["student"], twin.state_dict())
    assert tiny.same_tensors(saved["average"], method.average.state_dict())


def test_the_neighbours_learn_first_and_the_student_rests():
    method = prepared({"meta_start": 2}, warm_up_epochs=1)
    at_first = deepcopy(method.student.state_dict())
    noisy = batch(0)
    twin = deepcopy(method.neighbours)
    loss = cross_entropy(twin(noisy.inputs), noisy.labels)
    gradient = flat(torch.autograd.grad(loss, list(twin.parameters())))
    start = flat(method.neighbours.parameters()).detach().clone()
    assert method.warming_up
    method.step([noisy], None)
    assert relative_error(flat(method.neighbours.parameters()) - start, -0.1 * gradient) <= 1e-12
    assert tiny.same_tensors(method.student.state_dict(), at_first)

    method.epoch = 1
    learned = deepcopy(method.neighbours.state_dict())
    for t in range(4):
        method.step_number.fill_(1 + t)
        losses = method.step([noisy], None)
        assert (losses["meta_objective"] > 0) == (t >= 2)  # until then it is cross-entropy
    assert tiny.same_tensors(method.neighbours.state_dict(), learned)
    assert not tiny.same_tensors(method.student.state_dict(), at_first)
