"""SMP's prototypes and corrected labels beside loops over samples."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch.nn.functional import cross_entropy

import tiny
from emlc.data.loaders import Batch
from emlc.methods.smp import SMP, prototypes

C = 3


def slow_prototypes(S, number):
    """Straight from the paper's definitions."""
    m = len(S)
    values = sorted((v for row in S for v in row), reverse=True)
    threshold = values[int(0.4 * m * m) - 1]
    rho = [sum(np.sign(v - threshold) for v in row) for row in S]
    eta = []
    for i in range(m):
        denser = [S[i][j] for j in range(m) if rho[j] > rho[i]]
        eta.append(max(denser) if denser else min(S[i]))
    dense = sorted((i for i in range(m) if eta[i] < 0.95), key=lambda i: -rho[i])
    return dense[:number]


def prepared(**hyper):
    torch.manual_seed(0)
    settings = tiny.settings(method="smp", epochs=10, warm_up_epochs=2, learning_rate=0.3, hyper=hyper)
    split = tiny.split(tiny.settings())
    method = SMP(settings, split.noisy.inputs, C)
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    return method, split


@pytest.mark.parametrize("number", [1, 4, 30])
def test_prototypes_are_dense_and_unlike(number):
    h = np.random.default_rng(0).normal(size=(30, 4)) + np.array([2, 0, 0, 0])
    S = cosine_similarity(h)
    expected = slow_prototypes(S.tolist(), number)
    assert prototypes(torch.from_numpy(S), number).tolist() == expected
    assert 0 < len(expected) <= number


def test_samples_that_are_all_alike_have_one_prototype():
    assert len(prototypes(torch.ones(6, 6), 3)) == 1
    assert prototypes(torch.ones(1, 1), 3).tolist() == [0]


def test_labels_are_those_of_the_nearest_prototypes():
    method, split = prepared(prototypes=3)
    given = split.noisy.labels
    assert method.corrected.tolist() == given.tolist()
    method.epoch = 1
    method.start_epoch()
    assert method.corrected.tolist() == given.tolist()  # it is warming up

    method.epoch = 2
    method.start_epoch()
    method.train_mode(False)
    with torch.no_grad():
        h = method.student.backbone(split.noisy.inputs).numpy()
    expected = []
    chosen = []
    for c in range(C):
        rows = np.flatnonzero(given == c)
        chosen.append(rows[slow_prototypes(cosine_similarity(h[rows]).tolist(), 3)])
    for i in range(len(h)):
        means = [np.mean([cosine_similarity(h[i : i + 1], h[[k]]) for k in rows]) for rows in chosen]
        expected.append(int(np.argmax(means)))
    assert method.corrected.tolist() == expected
    assert expected != given.tolist()
    assert method.estimate().soft_labels.argmax(dim=1).tolist() == expected


def test_the_draw_of_samples_is_a_function_of_seed_and_epoch():
    method, _ = prepared(samples_per_class=5)
    corrected = []
    for method.epoch in (3, 4, 3):
        method.start_epoch()
        corrected.append(method.corrected.tolist())
    assert corrected[0] == corrected[2] != corrected[1]


def test_the_network_learns_from_both_labels():
    method, split = prepared(corrected_weight=0.3)
    method.epoch = 5
    method.corrected = (method.corrected + 1) % C
    rows = torch.arange(8)
    labels = torch.from_numpy(split.noisy.labels)[rows]
    logits = method.student(split.noisy.inputs[rows])
    expected = 0.7 * cross_entropy(logits, labels) + 0.3 * cross_entropy(logits, (labels + 1) % C)
    loss = method.step([Batch(split.noisy.inputs[rows], labels, rows, 8)], None)["student_loss"]
    torch.testing.assert_close(loss, expected.detach())
