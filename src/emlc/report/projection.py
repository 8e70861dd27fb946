"""A map of the student's features: t-SNE of a random subset of the samples."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from emlc.data import Samples
from emlc.networks import inference
from emlc.runtime.streams import RandomStream, derived_seed, generator

_LEAST = 5
"""Least number of samples for a map."""

_PERPLEXITY = 30.0
"""Perplexity of t-SNE for all but the smallest maps."""

_DIMENSIONS = 50
"""Principal components given to t-SNE of features with more dimensions: as good, and much faster."""


@dataclass(frozen=True)
class Projection:
    """A map: points in the plane.

    Attributes:
        rows: (m,) int64 indices of the samples, ascending.
        points: (m, 2) float32 coordinates.
        samples: Number of samples that the m were drawn from.
    """

    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    samples: int


def project(backbone: nn.Module, samples: Samples, size: int, seed: int) -> Projection | None:
    """Map the backbone's features of at most ``size`` samples, drawn at random, by t-SNE.

    Returns:
        The map, or None for fewer than five samples.
    """
    from sklearn.decomposition import PCA  # takes a second to import, on which nothing else has to wait
    from sklearn.manifold import TSNE

    rng = generator(seed, RandomStream.MAP_SAMPLES)
    rows = np.sort(rng.permutation(len(samples))[:size])
    if len(rows) < _LEAST:
        return None
    features = inference.represent(backbone, samples.take(rows).inputs).flatten(1).numpy()
    if features.shape[1] > _DIMENSIONS and len(rows) > _DIMENSIONS:
        state = derived_seed(seed, RandomStream.MAP_COMPONENTS)
        features = PCA(_DIMENSIONS, random_state=state).fit_transform(features)
    # t-SNE starts from PCA by default, which divides by zero if all features are equal.
    start = "pca" if features.shape[1] > 1 and np.ptp(features, axis=0).max() > 0 else "random"
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    state = derived_seed(seed, RandomStream.MAP_LAYOUT)
    tsne = TSNE(perplexity=perplexity, init=start, random_state=state, n_jobs=1)
    points = tsne.fit_transform(features.astype(np.float32))
    return Projection(rows, points.astype(np.float32), len(samples))


def projected(projection: Projection, table: pd.DataFrame) -> pd.DataFrame:
    """Return the label table's rows of the points, with columns x and y."""
    frame = table.iloc[projection.rows].reset_index(drop=True)
    return frame.assign(x=projection.points[:, 0], y=projection.points[:, 1])
