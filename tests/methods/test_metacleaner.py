"""MetaCleaner beside loops over groups and samples, in float64."""

import math
from copy import deepcopy

import pytest
import torch

import tiny
from emlc.data.loaders import Batch
from emlc.methods.metacleaner import MetaCleaner, grouped_rows
from references import flat, relative_error

C, N, ETA = 3, 11, 0.3


def prepared(**hyper):
    torch.manual_seed(0)
    settings = tiny.settings(method="metacleaner", learning_rate=ETA, momentum=0.0, hyper=hyper)
    split = tiny.split(settings)
    method = MetaCleaner(settings, split.noisy.inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    return method


def batch(labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(labels), 4, generator=generator, dtype=torch.float64)
    return Batch(x, torch.tensor(labels), torch.arange(len(labels)), len(labels))


def slow_groups(labels, size):
    """The samples of each label in turn, ``size`` at a time; too few are repeated in turn."""
    groups = []
    for label in sorted(set(labels)):
        rows = [i for i, each in enumerate(labels) if each == label]
        for start in range(0, len(rows), size):
            group = rows[start : start + size]
            groups.append([group[k % len(group)] for k in range(size)])
    return groups


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_groups_have_one_label_and_every_sample_is_in_one(size):
    labels = torch.randint(0, C, (N,), generator=torch.Generator().manual_seed(1))
    rows = grouped_rows(labels, size)
    assert rows.tolist() == slow_groups(labels.tolist(), size)
    assert set(rows.flatten().tolist()) == set(range(N))
    assert (labels[rows] == labels[rows[:, :1]]).all()


@pytest.mark.parametrize("size", [1, 3])
def test_a_step_is_the_one_written_out(size):
    method = prepared(samples=size)
    noisy = batch([0, 2, 1, 0, 0, 2, 0, 1, 1, 2, 0])
    student, weighting = deepcopy(method.student), deepcopy(method.weighting)
    h = student.backbone(noisy.inputs)
    loss, groups = 0.0, slow_groups(noisy.labels.tolist(), size)
    for group in groups:
        together = torch.cat([h[i] for i in group])
        scores = [weighting.weight[k] @ together + weighting.bias[k] for k in range(size)]
        total = sum(score.exp() for score in scores)
        clean = sum(score.exp() / total * h[i] for score, i in zip(scores, group, strict=True))
        logits = student.classifier(clean)
        probability = logits[noisy.labels[group[0]]].exp() / logits.exp().sum()
        loss = loss - probability.log() / len(groups)
    weights = [*student.parameters(), *weighting.parameters()]
    gradient = torch.autograd.grad(loss, weights, materialize_grads=True)

    assert method.step([noisy], None)["student_loss"].item() == pytest.approx(loss.item())
    now = [*method.student.parameters(), *method.weighting.parameters()]
    assert relative_error(flat(now) - flat(weights), -ETA * flat(gradient)) <= 1e-10
    assert (flat(method.weighting.parameters()) != flat(weighting.parameters())).any() == (size > 1)


def test_alone_a_sample_is_its_own_clean_representation():
    method = prepared(samples=4)
    h = torch.randn(1, 1, method.student.classifier.in_features, dtype=torch.float64)
    clean = method.weighting(h.expand(1, 4, -1))
    torch.testing.assert_close(clean, h[:, 0])
    assert method.group == 4
    assert math.prod(method.weighting.weight.shape) == 4 * 4 * h.shape[2]
