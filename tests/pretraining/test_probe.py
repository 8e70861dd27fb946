"""Against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import tiny
from emlc.pretraining import probe
from emlc.pretraining.probe import Probe, knn_accuracy, linear_accuracy


@pytest.fixture(scope="module")
def wine():
    features, labels = load_wine(return_X_y=True)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    noise = np.random.default_rng(0).normal(size=features.shape)
    return torch.from_numpy(features + 3 * noise), labels.astype(np.int64)


@pytest.mark.parametrize("neighbours", [1, 5, 20, 177, 500])
def test_nearest_neighbours_vote_leave_one_out(wine, neighbours, monkeypatch):
    features, labels = wine
    model = KNeighborsClassifier(
        min(neighbours, len(labels) - 1),
        metric="cosine",
        algorithm="brute",
        weights=lambda distances: np.exp(-distances / 0.1),
    )
    expected = cross_val_predict(model, features.numpy(), labels, cv=LeaveOneOut()) == labels
    monkeypatch.setattr(probe, "_ROWS", 50)  # several chunks
    assert knn_accuracy(features, labels, neighbours) == pytest.approx(100 * expected.mean(), abs=0.6)


def test_a_linear_classifier_knows_wines_and_not_random_labels(wine):
    _, labels = wine
    clean = torch.from_numpy(load_wine().data)
    assert linear_accuracy(clean, labels, 0) > 95
    shuffled = np.random.default_rng(0).permutation(labels)
    assert 20 < linear_accuracy(clean, shuffled, 0) < 50


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [0, 0, 0, 0]])
def test_there_is_no_linear_classifier_without_two_samples_of_each_class(labels):
    assert linear_accuracy(torch.eye(4), np.array(labels), 0) is None


def test_no_more_are_probed_than_can_be_compared(monkeypatch):
    monkeypatch.setattr(probe, "MOST_PROBED", 30)
    samples = tiny.samples(60, wrong=0)
    seen = []

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, inputs):
            seen.append(inputs)
            return inputs

    figures = Probe(samples, 0, tiny.ALONE)(Backbone(), linear=True)
    (probed,) = seen
    assert len(probed) == 30
    assert figures == {
        "knn_accuracy": knn_accuracy(probed, labels_of(samples, probed)),
        "linear_accuracy": linear_accuracy(probed, labels_of(samples, probed), 0),
    }


def labels_of(samples, probed):
    rows = [(samples.inputs == row).all(dim=1).nonzero().item() for row in probed]
    return samples.labels[rows]


def test_without_trusted_samples_nothing_is_measured():
    assert Probe(None, 0, tiny.ALONE)(nn.Linear(1, 1), linear=True) == {}
