"""The noise-aware teacher against Bayes' rule in loops, and against plain autograd, in float64."""

import math

import pytest
import torch
from torch import nn

from emlc.networks.noise_aware_teacher import NoiseAwareTeacher

N, DIM, WIDTH, C = 7, 4, 3, 5


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(DIM, WIDTH), nn.Tanh())
    teacher = NoiseAwareTeacher(backbone, WIDTH, C).double()
    with torch.no_grad():
        teacher.transition_logits += torch.randn(C, C) / (C / 2) ** 0.5
    return teacher


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, DIM, dtype=torch.float64, generator=generator), torch.tensor([0, 1, 2, 3, 4, 0, 4])


def affine(layer, x):
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def softmax(scores):
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def slow_correction(teacher, x, label):
    h = [math.tanh(v) for v in affine(teacher.backbone[0], x)]
    p = softmax(affine(teacher.classifier, h))
    T = [softmax(row) for row in ((C / 2) ** 0.5 * teacher.transition_logits).tolist()]
    evidence = sum(p[c] * T[c][label] for c in range(C))
    q = [p[c] * T[c][label] / evidence for c in range(C)]
    given = softmax(affine(teacher.noisy_head, h))
    return q, p, q[label], -math.log(evidence), -math.log(given[label])


def test_it_is_bayes_rule_sample_by_sample(teacher, batch):
    correction = teacher(*batch)
    for i, (x, label) in enumerate(zip(batch[0].tolist(), batch[1].tolist(), strict=True)):
        for values, expected in zip(correction, slow_correction(teacher, x, label), strict=True):
            assert values[i].tolist() == pytest.approx(expected, rel=1e-12)


def plain(teacher, x, labels):
    """Soft labels and likelihood (n,) as probabilities, with no logarithm but the last."""
    p = teacher.classifier(teacher.backbone(x)).softmax(dim=1)
    powers = ((C / 2) ** 0.5 * teacher.transition_logits).exp()
    T = powers / powers.sum(dim=1, keepdim=True)
    joint = p * T[:, labels].T
    return joint / joint.sum(dim=1, keepdim=True), -joint.sum(dim=1).log()


@pytest.mark.parametrize("output", ["soft_labels", "given_nll"])
def test_gradients_are_those_of_bayes_rule(teacher, batch, output):
    weights = torch.randn(N, C if output == "soft_labels" else 1, dtype=torch.float64)
    shared = [*teacher.backbone.parameters(), *teacher.classifier.parameters(), teacher.transition_logits]
    values = getattr(teacher(*batch), output)
    expected = dict(zip(("soft_labels", "given_nll"), plain(teacher, *batch), strict=True))[output]
    gradients = [torch.autograd.grad((weights * v.reshape(N, -1)).sum(), shared) for v in (values, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
        assert ours.norm() > 0


def test_the_head_for_given_labels_learns_and_shapes_nothing_else(teacher, batch):
    teacher(*batch).noisy_head_ce.sum().backward()
    touched = {name for name, p in teacher.named_parameters() if p.grad is not None}
    assert touched == {"noisy_head.weight", "noisy_head.bias"}


def test_the_anchor_is_least_where_rows_are_what_the_head_predicts_for_their_class(teacher, batch):
    x, labels = batch
    h = teacher.backbone(x)
    given = teacher.noisy_head(h).softmax(dim=1).detach()
    beliefs = [teacher.classifier(h).softmax(dim=1)[i, labels[i]].item() ** 2 for i in range(N)]
    rows = torch.zeros(C, C, dtype=torch.float64)
    for c in range(C):
        of_class = [i for i in range(N) if labels[i] == c]
        total = sum(beliefs[i] for i in of_class)
        rows[c] = sum(beliefs[i] / total * given[i] for i in of_class)
    with torch.no_grad():
        teacher.transition_logits.copy_(rows.log() / (C / 2) ** 0.5)
    loss = teacher.anchor(h, labels)
    entropy = -sum(beliefs[i] * (given[i] * rows[labels[i]].log()).sum() for i in range(N)) / N
    torch.testing.assert_close(loss, entropy)
    loss.backward()
    assert {name for name, p in teacher.named_parameters() if p.grad is not None} == {"transition_logits"}
    assert teacher.transition_logits.grad.abs().max() < 1e-12


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_labels_are_as_good_as_even_at_first_and_more_probably_right_than_any_other(classes):
    T = NoiseAwareTeacher(nn.Identity(), 2, classes).transition.detach()
    torch.testing.assert_close(T.sum(dim=1), torch.ones(classes))
    assert 0.5 - 1e-6 <= T.diagonal().min() <= 2 / 3 + 1e-6
    off = T - torch.diag(T.diagonal())
    assert off.max() < T.diagonal().min()


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_the_more_classes_the_further_a_step_moves_the_log_odds_of_t(classes):
    teacher = NoiseAwareTeacher(nn.Identity(), 2, classes).double()
    before = teacher.transition.detach()
    loss = -teacher.transition[0, 1].log()
    loss.backward()
    with torch.no_grad():
        teacher.transition_logits -= 0.1 * teacher.transition_logits.grad
    moved = (teacher.transition[0] / before[0]).log()
    logits = before[0].log().requires_grad_()
    (slow,) = torch.autograd.grad(-logits.log_softmax(0)[1], logits)
    plain = ((logits - 0.1 * classes / 2 * slow).softmax(0) / before[0]).log()
    torch.testing.assert_close(moved, plain)


def test_probabilities_of_zero_stay_finite(teacher, batch):
    with torch.no_grad():
        teacher.transition_logits.copy_(1e4 * torch.eye(C))
        teacher.classifier.bias.copy_(torch.tensor([1e4, 0, 0, 0, 0]))
    correction = teacher(*batch)
    correction.given_nll.sum().backward()
    assert all(values.isfinite().all() for values in correction)
    assert teacher.transition_logits.grad.isfinite().all()


def test_the_prior_shift_is_bayes_rule_for_samples_drawn_in_other_shares():
    """A noisy and a trusted set of one kind of input each: p(y | x) of the first gives that of the second."""
    likelihood = torch.tensor([0.3, 0.1, 0.6], dtype=torch.float64)  # p(x | y), the same in both sets
    noisy, trusted = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([2, 2, 3]).double() / 7
    teacher = NoiseAwareTeacher(nn.Identity(), 2, 3).double()
    teacher.count(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 0, 2]))
    torch.testing.assert_close(teacher.trusted_shares, trusted)
    torch.testing.assert_close(teacher.noisy_shares, torch.tensor([4, 1, 2]).double() / 7)
    for _ in range(3000):
        teacher.observe(noisy)
    posterior = (noisy * likelihood) / (noisy * likelihood).sum()
    expected = (trusted * likelihood) / (trusted * likelihood).sum()
    torch.testing.assert_close((posterior.log() + teacher.prior_shift).softmax(dim=0), expected)


def test_a_class_that_vanishes_keeps_a_finite_shift():
    teacher = NoiseAwareTeacher(nn.Identity(), 2, 3)
    for _ in range(20_000):
        teacher.observe(torch.tensor([0.5, 0.5, 0.0]))
    assert teacher.prior_shift.isfinite().all()


def test_the_expected_error_is_the_mean_probability_of_a_wrong_class(teacher, batch):
    logits, labels = torch.randn(N, C, dtype=torch.float64), batch[1]
    teacher.count(labels, labels)
    teacher.observe(torch.tensor([0.9, 0.1, 0, 0, 0]).double())
    shift = teacher.prior_shift.tolist()
    wrong = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        powers = [math.exp(v + s) for v, s in zip(row, shift, strict=True)]
        wrong += (1 - powers[label] / sum(powers)) / N
    assert teacher.expected_error(logits, labels).item() == pytest.approx(wrong, rel=1e-12)
