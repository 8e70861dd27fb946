"""Similar samples, by the features that the networks learn from."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from emlc.runtime.streams import RandomStream, generator

Features = NDArray[np.float32]

NEARLY_SAME = 0.8
"""Similarity from which samples are called nearly the same."""
_DRAWN = 1000
"""Number of pairs by which the distance of any two samples is estimated."""


@dataclass(frozen=True)
class Neighbours:
    """Standardised features of noisy and trusted samples.

    The similarity of two samples is one minus their distance, as a share of the median distance of two noisy
    samples: 1 for equal ones, 0 for any two.

    Attributes:
        noisy: (n, d) features of the noisy samples.
        trusted: (m, d) features of the trusted samples.
        distance: Median distance of two noisy samples.
    """

    noisy: Features
    trusted: Features
    distance: float

    @classmethod
    def of(cls, noisy: NDArray[np.float64], trusted: NDArray[np.float64]) -> Self:
        """Standardise features (n, d) and (m, d) by those of the noisy samples."""
        mean, deviation = noisy.mean(axis=0), noisy.std(axis=0)
        scale = np.where(deviation > 0, deviation, np.inf)  # a constant column tells nothing
        standardized, others = (((each - mean) / scale).astype(np.float32) for each in (noisy, trusted))
        rng = generator(0, RandomStream.NEIGHBOUR_SCALE)
        one, other = rng.integers(len(noisy), size=(2, _DRAWN))
        apart = np.linalg.norm(standardized[one] - standardized[other], axis=1)
        distance = float(np.median(apart[one != other])) if len(noisy) > 1 else 0.0
        return cls(standardized, others, distance if distance > 0 else 1.0)

    def similar(self, row: int, number: int) -> list[tuple[int, float]]:
        """Return the noisy samples that are most similar to one of them, and how similar they are."""
        similarity = self._similarity(self.noisy, row)
        similarity[row] = -np.inf
        order = np.argsort(-similarity, kind="stable")[: min(number, len(similarity) - 1)]
        return [(int(k), round(float(similarity[k]), 4)) for k in order]

    def trusted_of(self, row: int, among: NDArray[np.int64], number: int) -> list[tuple[int, float]]:
        """Return the most similar of some trusted samples, given by their indices."""
        similarity = self._similarity(self.trusted[among], row)
        order = np.argsort(-similarity, kind="stable")[:number]
        return [(int(among[k]), round(float(similarity[k]), 4)) for k in order]

    def _similarity(self, features: Features, row: int) -> NDArray[np.float64]:
        distance = np.linalg.norm(features - self.noisy[row], axis=1)
        return np.asarray(1 - distance / self.distance, dtype=np.float64)
