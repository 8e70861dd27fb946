"""FasTEN's transition matrix, loss and labels, class by class and sample by sample, in float64."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch

import tiny
from emlc.config.methods import method_class
from emlc.data.loaders import Batch
from emlc.methods.fasten import NoisyHead
from references import flat, relative_error

C = 3


def prepared(**changes):
    torch.manual_seed(0)
    settings = tiny.settings(method="fasten", backbone="mlp", learning_rate=0.1, **changes)
    split = tiny.split(settings)
    method = method_class("fasten")(settings, split.noisy.inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    return method, split


def noisy_batch(split, rows):
    rows = torch.as_tensor(rows)
    labels = torch.from_numpy(split.noisy.labels)[rows]
    return Batch(split.noisy.inputs[rows].double(), labels, rows, len(rows))


def trusted_batch(split, rows):
    rows = torch.as_tensor(rows)
    labels = torch.from_numpy(split.trusted.labels)[rows]
    return Batch(split.trusted.inputs[rows].double(), labels, rows, len(rows))


def test_the_transition_matrix_is_the_mean_prediction_of_each_class():
    logits = torch.randn(7, C, generator=torch.Generator().manual_seed(0))
    labels = [0, 2, 0, 2, 2, 0, 0]
    head = NoisyHead(2, C)
    transition = head.estimate(logits, torch.tensor(labels))
    expected = np.eye(C)  # of class 1 nothing is known yet
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    for c in (0, 2):
        expected[c] = np.mean([p[i] for i, label in enumerate(labels) if label == c], axis=0)
    np.testing.assert_allclose(transition, expected, rtol=1e-6)
    second = head.estimate(logits[:2], torch.tensor([1, 1]))
    np.testing.assert_allclose(second[[0, 2]], expected[[0, 2]], rtol=1e-6)
    np.testing.assert_allclose(second[1], p[:2].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(second.sum(dim=1), 1, rtol=1e-6)


def test_a_step_goes_down_the_published_loss_and_corrects_the_labels():
    method, split = prepared(hyper={"threshold": 0.45, "noisy_weight": 0.7})
    noisy, trusted = noisy_batch(split, range(3, 17)), trusted_batch(split, range(8))
    table = method.sample_state()["labels"]
    table[3:8] = (table[3:8] + 1) % C  # as an earlier visit has left them
    used = table[3:17].clone()
    assert not torch.equal(used, noisy.labels)
    before = table.clone()

    student, head = deepcopy(method.student), deepcopy(method.noisy_head)
    h, h_trusted = student.backbone(noisy.inputs), student.backbone(trusted.inputs)
    q_trusted = head(h_trusted).softmax(dim=1).detach()
    p, q = student.classifier(h).softmax(dim=1), head(h).softmax(dim=1)
    p_trusted = student.classifier(h_trusted).softmax(dim=1)
    T = [
        torch.stack([q_trusted[j] for j in range(8) if trusted.labels[j] == i]).mean(dim=0) for i in range(C)
    ]
    loss = 0.0
    for k, y in enumerate(used):
        loss = loss - torch.log(sum(p[k, i] * T[i][y] for i in range(C)) + 1e-7)
    for j, y in enumerate(trusted.labels):
        loss = loss - p_trusted[j, y].log()
    loss = loss / (14 + 8)
    noisy_loss = -sum(q[k, y].log() for k, y in enumerate(used)) / 14
    parameters = [*student.parameters(), *head.parameters()]
    gradients = torch.autograd.grad(loss + 0.7 * noisy_loss, parameters)

    start = flat([*method.student.parameters(), *method.noisy_head.parameters()]).detach()
    losses = method.step([noisy], trusted)
    assert losses["student_loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert losses["noisy_head_loss"].item() == pytest.approx(noisy_loss.item(), rel=1e-12)
    change = flat([*method.student.parameters(), *method.noisy_head.parameters()]) - start
    assert relative_error(change, -0.1 * flat(gradients)) <= 1e-12

    corrected = 0
    for k, given in enumerate(noisy.labels):
        sure = p[k].max() >= 0.45
        corrected += int(sure)
        assert table[3 + k] == (p[k].argmax() if sure else given)
    assert 0 < corrected < 14
    assert torch.equal(table[:3], before[:3])
    assert torch.equal(table[17:], before[17:])


def test_statistics_of_both_batches_are_written_once_each():
    method, split = prepared()
    twin = deepcopy(method.student)
    noisy, trusted = noisy_batch(split, range(16)), trusted_batch(split, range(8))
    method.step([noisy], trusted)
    twin(noisy.inputs)
    twin(trusted.inputs)
    for name, buffer in method.student.named_buffers():
        torch.testing.assert_close(buffer, twin.get_buffer(name))


def test_it_holds_the_labels_of_its_table():
    method, split = prepared()
    torch.testing.assert_close(method.estimate().soft_labels, torch.eye(C)[split.noisy.labels])
    method.sample_state()["labels"][0] = (split.noisy.labels[0] + 1) % C
    estimate = method.estimate()
    assert estimate.soft_labels[0].argmax() == (split.noisy.labels[0] + 1) % C
    assert estimate.weights is None
    assert math.isclose(estimate.soft_labels.sum().item(), len(split.noisy))
    assert split.noisy.labels[0] != method.sample_state()["labels"][0]  # the set's own are left alone


def test_both_heads_are_trained_with_the_students_settings():
    method, _ = prepared(weight_decay=0.01)
    (group,) = method.student_sgd.param_groups
    assert len(group["params"]) == len(list(method.student.parameters())) + 2
    assert method.optimizers() == {"student": method.student_sgd}
