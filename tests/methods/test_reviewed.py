"""Reviewed samples: what their former labels teach the teacher, against slow versions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.datasets import make_blobs
from torch import nn

import tiny
from emlc import Samples, train
from emlc.data import Split
from emlc.data.loaders import Batch
from emlc.methods.reviewed import ReviewedLabels, representative
from emlc.networks.noise_aware_teacher import NoiseAwareTeacher

BEFORE = {3: "dog", 5: "cat", 6: "no class of these"}
KNOWN, WORST = (3, 5), (5, 7)
M, N = 8, 20


@pytest.fixture
def split():
    data = tiny.samples()
    before = np.array([BEFORE.get(k, "") for k in range(M)], dtype=object)
    chosen = np.array(["worst" if k in WORST else "random" if k == 3 else "" for k in range(M)], dtype=object)
    trusted = replace(data.take(range(M)), label_before_review=before, chosen_for_review=chosen)
    return Split(noisy=data.take(range(M, M + N)), trusted=trusted)


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return NoiseAwareTeacher(nn.Linear(4, 6), 6, 3).double()


def slow_losses(split, teacher):
    """Sample by sample: what is learned of each, by how it was chosen."""
    trusted, n = split.trusted, len(split.noisy)
    h = teacher.backbone(trusted.inputs.double())
    log_T, log_given = teacher.transition.log(), teacher.noisy_head(h).log_softmax(dim=1)
    log_p = teacher.classifier(h).log_softmax(dim=1)
    log_shifted = (teacher.classifier(h) + teacher.prior_shift).log_softmax(dim=1)
    losses = dict.fromkeys(
        ("teacher_ce", "teacher_nll", "noisy_head_ce"), torch.zeros((), dtype=torch.float64)
    )
    for k, y in enumerate(trusted.given):
        if k in WORST:
            losses["teacher_nll"] = losses["teacher_nll"] - log_p[k, y] / n
        else:
            losses["teacher_ce"] = losses["teacher_ce"] - log_shifted[k, y] / (M - len(WORST))
        if k in KNOWN:
            label = tiny.CLASSES.index(BEFORE[k])
            losses["teacher_nll"] = losses["teacher_nll"] - log_T[y, label] / n
            losses["noisy_head_ce"] = losses["noisy_head_ce"] - log_given[k, label] / n
    others = [k for k in range(M) if k not in KNOWN]
    labels = torch.from_numpy(trusted.given[others])
    return losses | {"teacher_anchor": teacher.anchor(h[others], labels)}


def test_each_counts_by_what_is_known_of_it_and_how_it_was_chosen(split, teacher):
    reviewed, trusted = ReviewedLabels.of(split, torch.device("cpu")), split.trusted
    assert reviewed is not None
    trusted_labels = torch.from_numpy(trusted.given)
    teacher.count(trusted_labels, trusted_labels)
    teacher.observe(torch.tensor([0.6, 0.3, 0.1]))
    batch = Batch(trusted.inputs.double(), torch.from_numpy(trusted.given), torch.arange(M), M)

    def losses(rows):
        part = Batch(*(each[rows] for each in batch.tensors), len(rows))
        h = teacher.backbone(part.inputs)
        return reviewed.losses(teacher, h, teacher.classifier(h), part)

    found, expected = losses(torch.arange(M)), slow_losses(split, teacher)
    assert found.keys() == expected.keys()
    halves = [losses(rows) for rows in torch.arange(M).split(M // 2)]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7)
        mean = (halves[0][name] + halves[1][name]) / 2  # whatever the batches
        torch.testing.assert_close(mean, value, rtol=1e-6, atol=1e-7)


def test_a_class_that_was_never_drawn_is_learned_from_what_there_is(split):
    trusted = split.trusted
    worst = np.where(trusted.given == 1, "worst", "").astype(object)
    assert representative(replace(trusted, chosen_for_review=worst)).all()
    worst[np.flatnonzero(trusted.given == 1)[0]] = "random"
    counts = representative(replace(trusted, chosen_for_review=worst))
    assert counts.sum() == (trusted.given != 1).sum() + 1


def test_without_a_review_there_is_nothing_to_learn_from(split):
    for before in (None, np.full(M, "", dtype=object)):
        trusted = replace(split.trusted, label_before_review=before, chosen_for_review=before)
        assert ReviewedLabels.of(replace(split, trusted=trusted), torch.device("cpu")) is None


def test_a_review_of_the_worst_labels_does_not_make_the_others_look_right(tmp_path):
    """The wrong labels that are furthest from where the sample lies are reviewed, and leave the noisy set."""
    X, y, centers = make_blobs(840, 4, centers=3, cluster_std=3, random_state=1, return_centers=True)
    rng = np.random.default_rng(0)
    given = np.where(rng.random(840) < 0.3, (y + rng.integers(1, 3, 840)) % 3, y)
    distance = np.linalg.norm(X - centers[given], axis=1)
    noisy = np.arange(40, 840)
    worst = noisy[np.argsort(-distance[noisy])[:100]]
    rest = np.setdiff1d(noisy, worst)
    assert (given[worst] != y[worst]).mean() > 0.9

    def samples(rows, labels):
        return Samples.from_arrays(X[rows], labels[rows].astype(str), ids=rows.astype(str))

    trusted = samples(np.concatenate([np.arange(40), worst]), y)
    before = np.array([""] * 40 + given[worst].astype(str).tolist(), dtype=object)
    right = []
    for known in (before, None):
        chosen = None if known is None else np.array([""] * 40 + ["worst"] * 100, dtype=object)
        marked = replace(trusted, label_before_review=known, chosen_for_review=chosen)
        split = Split(noisy=samples(rest, given), trusted=marked)
        settings = tiny.settings(trusted_per_class=None, epochs=15, output=str(tmp_path / str(known is None)))
        run = train(settings, split, console=Console(quiet=True), lean=True)
        right.append([np.diag(T).mean() for T in (run.transition, run.decision.transition)])
    (learned, decided), (learned_alone, decided_alone) = right
    actual = (given[noisy] == y[noisy]).mean()
    assert -0.08 < learned - actual < 0.03
    assert -0.08 < decided - actual < 0.03
    assert learned_alone > actual + 0.05
    assert decided_alone > actual + 0.05
