"""Gold Loss Correction: its matrix, loss and corrected labels beside loops in float64, and its two stages."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from short_runs import settings, trained

import tiny
from emlc.config.methods import method_class
from emlc.data.loaders import Batch
from emlc.methods.transition import class_means
from references import flat, relative_error

C = 3


def prepared(**changes):
    """A method in float64 at the start of its second stage, with a matrix that is no identity."""
    torch.manual_seed(0)
    of_run = settings("glc", backbone="mlp", **changes)
    split = tiny.split(of_run)
    split = replace(
        split,
        noisy=replace(split.noisy, inputs=split.noisy.inputs.double()),
        trusted=replace(split.trusted, inputs=split.trusted.inputs.double()),
    )
    method = method_class("glc")(of_run, split.noisy.inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    method.epoch = 1
    method.transition.transition.copy_(torch.tensor([[0.6, 0.3, 0.1], [0.0, 0.7, 0.3], [0.25, 0.05, 0.7]]))
    return method, split


def batch_of(samples, rows):
    rows = torch.as_tensor(rows)
    return Batch(samples.inputs[rows], torch.from_numpy(samples.labels)[rows], rows, len(rows))


def test_a_row_of_the_matrix_is_the_mean_prediction_for_the_samples_of_its_class():
    p = torch.randn(7, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    labels = [0, 2, 0, 2, 2, 0, 0]
    T = class_means(p, torch.tensor(labels), torch.eye(C, dtype=torch.float64))
    expected = [[0.0] * C for _ in range(C)]
    expected[1][1] = 1.0  # of class 1 nothing is known
    for c in (0, 2):
        members = [i for i, label in enumerate(labels) if label == c]
        for y in range(C):
            expected[c][y] = sum(p[i, y].item() for i in members) / len(members)
    torch.testing.assert_close(T, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)


def test_the_first_stage_ends_with_the_matrix_of_all_trusted_samples_and_the_initial_weights():
    """Between the stages, and at no other time; the network is in evaluation mode for it, and then not."""
    method, split = prepared(epochs=4, warm_up_epochs=2)
    initial = deepcopy(method.student.state_dict())
    before = method.transition.transition.clone()
    for method.epoch in (0, 1):
        method.start_epoch()
        method.step([batch_of(split.noisy, range(20))], batch_of(split.trusted, range(8)))
    assert torch.equal(method.transition.transition, before)
    assert not tiny.same_tensors(initial, method.student.state_dict())

    twin = deepcopy(method.student).eval()
    expected = torch.zeros(C, C, dtype=torch.float64)
    for c in range(C):
        rows = [i for i, label in enumerate(split.trusted.labels) if label == c]
        for i in rows:
            expected[c] += twin(split.trusted.inputs[i : i + 1]).detach().softmax(dim=1)[0] / len(rows)
    method.epoch = 2
    method.start_epoch()
    torch.testing.assert_close(method.transition.transition, expected, rtol=1e-6, atol=1e-7)
    assert tiny.same_tensors(initial, method.student.state_dict())
    assert not method.student_sgd.state
    assert method.student.training

    method.step([batch_of(split.noisy, range(20))], batch_of(split.trusted, range(8)))
    method.epoch, estimated = 3, method.transition.transition.clone()
    method.start_epoch()
    assert torch.equal(method.transition.transition, estimated)
    assert not tiny.same_tensors(initial, method.student.state_dict())


def test_the_first_stage_is_cross_entropy_on_the_given_labels():
    method, split = prepared()
    method.epoch = 0
    noisy = batch_of(split.noisy, range(14))
    p = deepcopy(method.student)(noisy.inputs).softmax(dim=1)
    expected = -sum(p[k, y].log().item() for k, y in enumerate(noisy.labels)) / 14
    losses = method.step([noisy], batch_of(split.trusted, range(8)))
    assert losses["student_loss"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weight", [1.0, 7.0])
def test_a_step_of_the_second_stage_goes_down_the_corrected_loss(weight):
    method, split = prepared(learning_rate=0.1, hyper={"trusted_weight": weight})
    n, m = len(split.noisy), weight * len(split.trusted)
    noisy, trusted = batch_of(split.noisy, range(3, 17)), batch_of(split.trusted, range(8))
    twin, T = deepcopy(method.student), method.transition.transition.tolist()
    p_trusted, p = (twin(batch.inputs).softmax(dim=1) for batch in (trusted, noisy))
    loss = 0.0
    for k, y in enumerate(noisy.labels):
        loss = loss - n / (n + m) * sum(p[k, c] * T[c][y] for c in range(C)).log() / 14
    for j, y in enumerate(trusted.labels):
        loss = loss - m / (n + m) * p_trusted[j, y].log() / 8
    gradients = torch.autograd.grad(loss, list(twin.parameters()))

    start = flat(method.student.parameters()).detach()
    losses = method.step([noisy], trusted)
    assert losses["student_loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(flat(method.student.parameters()) - start, -0.1 * flat(gradients)) <= 1e-12
    for name, buffer in method.student.named_buffers():
        torch.testing.assert_close(buffer, twin.get_buffer(name))


def test_the_loss_is_finite_where_the_matrix_says_that_a_label_cannot_be():
    method, split = prepared()
    method.transition.transition.copy_(torch.eye(C, dtype=torch.float64)[[0, 0, 0]])
    method.step([batch_of(split.noisy, range(14))], batch_of(split.trusted, range(8)))
    assert all(p.isfinite().all() for p in method.student.parameters())


def test_corrected_labels_are_those_of_bayes_rule():
    method, split = prepared()
    twin, T = deepcopy(method.student).eval(), method.transition.transition.tolist()
    soft_labels, weights = method.estimate()
    assert weights is None
    assert method.student.training
    for i, y in enumerate(split.noisy.labels):
        p = twin(split.noisy.inputs[i : i + 1]).softmax(dim=1)[0].tolist()
        joint = [p[c] * T[c][y] for c in range(C)]
        assert soft_labels[i].tolist() == pytest.approx([each / sum(joint) for each in joint], rel=1e-5)
    method.epoch = 0
    assert method.estimate() == (None, None)


def test_the_schedule_runs_down_in_either_stage(tmp_path):
    _, history = trained(tmp_path, "glc", epochs=8, warm_up_epochs=4, schedule="cosine")
    steps = int(history[0]["steps"])
    last = [steps * epoch - 1 for epoch in range(1, 5)]
    expected = [0.1 * (1 + math.cos(math.pi * step / (4 * steps))) / 2 for step in last]
    assert [row["learning_rate"] for row in history] == pytest.approx(expected * 2)

    changes = {"schedule": "step", "schedule_epochs": [4, 6]}  # a half and three quarters
    _, history = trained(tmp_path / "step", "glc", epochs=8, warm_up_epochs=4, **changes)
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.01, 0.001] * 2)


def test_asymmetric_noise_is_found_and_its_labels_corrected(tmp_path):
    """A third of the labels of each class are those of the next."""
    changes = {"epochs": 12, "warm_up_epochs": 6, "trusted_per_class": 10, "learning_rate": 0.05}
    method, history = trained(tmp_path, "glc", tiny.samples(600, wrong=1 / 3), **changes)
    T = method.transition.transition
    for c in range(C):
        right, flipped, other = (T[c, (c + shift) % C].item() for shift in range(C))
        assert right > flipped > 2 * other
    assert [row["warm_up"] for row in history] == [1] * 6 + [0] * 6
    assert "label_recovery" not in history[5]
    assert history[-1]["label_recovery"] > 90
    assert history[-1]["wrong_label_recovery"] > 80


def test_without_a_first_stage_all_labels_are_believed(tmp_path):
    method, _ = trained(tmp_path, "glc", epochs=2, warm_up_epochs=0)
    assert torch.equal(method.transition.transition, torch.eye(C))
    torch.testing.assert_close(method.estimate().soft_labels, torch.eye(C)[method.noisy.labels])
