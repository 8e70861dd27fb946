"""The figures of a moment in training against loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from emlc.data import Samples
from emlc.methods.base import NoisyEstimate
from emlc.methods.cross_entropy import CrossEntropy
from emlc.methods.emlc import EMLC
from emlc.networks import inference
from emlc.networks.gate_teacher import Correction
from emlc.runs import metrics as figures

UNKNOWN = -1


@pytest.fixture(scope="module")
def correction():
    generator = torch.Generator().manual_seed(0)
    q, y_hat = (torch.randn(40, 3, generator=generator).softmax(dim=1) for _ in range(2))
    return Correction(q, y_hat, torch.rand(40, generator=generator))


def noisy(true_labels):
    samples = tiny.samples(40)
    return replace(samples, true_labels=np.asarray(true_labels))


def slow_recovery(correction, samples):
    hits, wrong_hits, right_weights, wrong_weights = [], [], [], []
    for i, truth in enumerate(samples.true_labels.tolist()):
        if truth == UNKNOWN:
            continue
        q = correction.soft_labels[i].tolist()
        hit = q.index(max(q)) == truth
        hits.append(hit)
        if samples.labels[i] == truth:
            right_weights.append(correction.retain_weight[i].item())
        else:
            wrong_weights.append(correction.retain_weight[i].item())
            wrong_hits.append(hit)
    metrics = {
        "label_recovery": hits,
        "wrong_label_recovery": wrong_hits,
        "retain_weight_right": right_weights,
        "retain_weight_wrong": wrong_weights,
    }
    return {
        name: pytest.approx((100 if "recovery" in name else 1) * sum(v) / len(v), rel=1e-6)
        for name, v in metrics.items()
        if v
    }


def recovery(correction, samples):
    return figures.recovery_metrics(correction.soft_labels, correction.retain_weight, samples)


@pytest.mark.parametrize("known", [40, 25], ids=["all", "some"])
def test_recovery(correction, known):
    truth = tiny.samples(40).true_labels.copy()
    truth[known:] = UNKNOWN
    samples = noisy(truth)
    metrics = recovery(correction, samples)
    assert metrics == slow_recovery(correction, samples)
    assert len(metrics) == 4


def test_recovery_without_wrong_or_without_right_labels(correction):
    right = noisy(tiny.samples(40).labels)
    assert set(recovery(correction, right)) == {"label_recovery", "retain_weight_right"}
    wrong = noisy((tiny.samples(40).labels + 1) % 3)
    metrics = recovery(correction, wrong)
    assert metrics == slow_recovery(correction, wrong)
    assert "retain_weight_right" not in metrics


def test_recovery_where_no_true_label_is_known(correction):
    assert recovery(correction, noisy(np.full(40, UNKNOWN))) == {}


def test_accuracy_and_cross_entropy():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]])
    labels = np.array([0, 1, 0])
    assert figures.accuracy(p, labels) == pytest.approx(200 / 3)
    expected = -(math.log(0.5) + math.log(0.2) + math.log(0.4)) / 3
    assert figures.cross_entropy(p, labels) == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(figures.cross_entropy(torch.tensor([[0.0, 1.0]]), np.array([0])))


def test_whole_sets_run_in_evaluation_mode_batch_after_batch(monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    network(torch.randn(64, 4))
    before = {name: t.clone() for name, t in network.state_dict().items()}
    inputs = torch.randn(23, 4)
    monkeypatch.setattr(inference, "_BATCH", 5)
    probabilities = inference.predict_proba(network, inputs)
    assert network.training
    assert not probabilities.requires_grad
    assert tiny.same_tensors(network.state_dict(), before)
    one_by_one = [network.eval()(x[None]).softmax(dim=1) for x in inputs]
    torch.testing.assert_close(probabilities, torch.cat(one_by_one).detach())


@pytest.mark.parametrize("teacher", ["gate", "noise-aware"])
def test_corrections_of_a_whole_set(teacher, monkeypatch):
    torch.manual_seed(0)
    data = tiny.samples(23)
    method = EMLC(tiny.settings(teacher=teacher), data.inputs, 3)
    monkeypatch.setattr(inference, "_BATCH", 5)
    whole = inference.correct(method.teacher, data.inputs, data.labels)
    method.train_mode(False)
    with torch.no_grad():
        at_once = method.teacher(data.inputs, torch.from_numpy(data.labels))
    for name in Correction._fields:
        torch.testing.assert_close(getattr(whole, name), getattr(at_once, name))


def slow_accuracy(network, samples):
    network.eval()
    hits = [
        network(x[None]).argmax().item() == y for x, y in zip(samples.inputs, samples.labels, strict=True)
    ]
    return pytest.approx(100 * sum(hits) / len(hits))


@pytest.mark.parametrize("validated", [False, True])
def test_the_metrics_of_an_epoch(validated):
    torch.manual_seed(0)
    settings = tiny.settings()
    parts = {"test": tiny.unlike(30, 1)} | ({"validation": tiny.unlike(24, 2)} if validated else {})
    split = tiny.split(settings, **parts)
    method = EMLC(settings, split.noisy.inputs, 3)
    metrics = figures.epoch_metrics(method, NoisyEstimate(), split)
    choice = split.validation if validated else split.trusted
    assert metrics["trusted_accuracy"] == slow_accuracy(method.student, split.trusted)
    assert metrics["test_accuracy"] == slow_accuracy(method.student, split.test)
    assert metrics["choice_accuracy"] == slow_accuracy(method.student, choice)
    loss = torch.nn.functional.cross_entropy(method.student(choice.inputs), torch.from_numpy(choice.labels))
    assert metrics["choice_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert ("validation_accuracy" in metrics) == validated
    classifier = nn.Sequential(method.teacher.backbone, method.teacher.classifier)
    assert metrics["teacher_test_accuracy"] == slow_accuracy(classifier, split.test)
    corrected = inference.correct(method.teacher, split.noisy.inputs, split.noisy.labels)
    assert metrics["label_recovery"] == slow_recovery(corrected, split.noisy)["label_recovery"]


def test_what_cannot_be_measured_is_absent():
    settings = tiny.settings()
    split = tiny.split(settings)
    baseline = figures.epoch_metrics(CrossEntropy(settings, split.noisy.inputs, 3), NoisyEstimate(), split)
    assert set(baseline) == {"trusted_accuracy", "choice_accuracy", "choice_loss"}
    without_truth = Samples.from_arrays(split.noisy.inputs, split.noisy.labels, classes=split.classes)
    emlc = EMLC(settings, split.noisy.inputs, 3)
    metrics = figures.epoch_metrics(emlc, NoisyEstimate(), replace(split, noisy=without_truth))
    assert set(metrics) == set(baseline)
