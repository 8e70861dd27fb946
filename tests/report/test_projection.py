"""The map: t-SNE of features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

import tiny
from emlc.report.projection import project

IDENTITY = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False))
torch.nn.init.eye_(IDENTITY[0].weight)


def test_samples_that_are_alike_lie_together():
    samples = tiny.samples(150)
    inputs = samples.inputs + 5 * torch.from_numpy(np.eye(3, 4)[samples.true_labels].astype(np.float32))
    projection = project(IDENTITY, replace(samples, inputs=inputs), 120, seed=0)
    assert projection.points.shape == (120, 2)
    assert projection.samples == 150
    assert len(np.unique(projection.rows)) == 120
    assert (np.diff(projection.rows) > 0).all()
    assert silhouette_score(projection.points, samples.true_labels[projection.rows]) > 0.5


def test_the_same_again():
    one, other = (project(IDENTITY, tiny.samples(40), 30, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.points, other.points)


@pytest.mark.parametrize("n", [5, 7])
def test_few_samples(n):
    assert np.isfinite(project(IDENTITY, tiny.samples(n), 100, seed=0).points).all()


def test_too_few_samples():
    assert project(IDENTITY, tiny.samples(4), 100, seed=0) is None


def test_features_that_are_all_alike():
    samples = replace(tiny.samples(20), inputs=torch.ones(20, 4))
    assert np.isfinite(project(IDENTITY, samples, 100, seed=0).points).all()


def test_a_network_without_a_backbone_shows_its_inputs():
    # Such as a linear one: there is no parameter that says where it is.
    projection = project(torch.nn.Identity(), tiny.samples(20), 100, seed=0)
    assert projection.points.shape == (20, 2)
