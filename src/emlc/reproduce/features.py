"""The student's features of held-out samples: their t-SNE map, and how well they separate the classes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score
from torch import nn

from emlc.data import Samples
from emlc.errors import InputError
from emlc.networks.inference import represent
from emlc.report.projection import project
from emlc.runs.run import Run
from emlc.runtime.streams import RandomStream, generator

MOST = 2000
"""Largest number of samples used; of more, this many are drawn at random."""


class FeatureMap(NamedTuple):
    """A t-SNE map of features.

    Attributes:
        points: (n, 2) float32 coordinates.
        labels: (n,) int64 true classes.
        classes: Names of the classes.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def feature_map(folder: Path) -> FeatureMap:
    """Map the chosen student's features (paper, Fig. 4) of the validation or else the test samples."""
    backbone, samples, classes = _held_out(folder)
    projection = project(backbone, samples, MOST, seed=0)
    assert projection is not None
    return FeatureMap(projection.points, samples.given[projection.rows], classes)


def separation(folder: Path) -> float:
    """Return the mean silhouette of the true classes in the chosen student's features, in [-1, 1]."""
    backbone, samples, _ = _held_out(folder)
    rng = generator(0, RandomStream.SEPARATION_SAMPLES)
    rows = np.sort(rng.permutation(len(samples))[:MOST])
    chosen = samples.take(rows)
    return float(silhouette_score(represent(backbone, chosen.inputs).flatten(1).numpy(), chosen.given))


def _held_out(folder: Path) -> tuple[nn.Module, Samples, tuple[str, ...]]:
    run = Run.load(folder, device="auto")
    split = run.split()
    samples = split.validation if split.validation is not None else split.test
    if samples is None:
        raise InputError(f"{folder}: no validation and no test samples to show features of")
    backbone = run.student.backbone  # the student is a Classifier, or a Pair of them
    assert isinstance(backbone, nn.Module)
    return backbone, samples, split.classes
