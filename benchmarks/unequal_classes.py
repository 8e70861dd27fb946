"""Draw data sets of unequal classes, for benchmarks/unequal_classes.yaml.

    python -m benchmarks.unequal_classes features/unequal
    python -m benchmarks.grid benchmarks/unequal_classes.yaml

Writes FOLDER/70.npz, five classes of which one has 70 % of 5,000 samples, and FOLDER/99.npz, two classes of
99 % and 1 % of 10,000 samples, each with 2,000 test samples more in FOLDER/*-test.npz.
"""

from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from sklearn.datasets import make_classification

_TEST = 2000


def unequal_classes(folder: str) -> None:
    """Draw both data sets.

    Args:
        folder: Where the .npz files go: X (n, 20) float32, y (n,) int64.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    _write(Path(folder), "70", 5_000, [0.7, 0.075, 0.075, 0.075, 0.075])
    _write(Path(folder), "99", 10_000, [0.99, 0.01])


def _write(folder: Path, name: str, n: int, shares: list[float]) -> None:
    X, y = make_classification(
        n + _TEST, 20, n_informative=8, n_classes=len(shares), weights=shares, flip_y=0, random_state=0
    )
    for file, rows in ((name, slice(n)), (f"{name}-test", slice(n, None))):
        np.savez(folder / f"{file}.npz", X=X[rows].astype(np.float32), y=y[rows])


if __name__ == "__main__":
    auto_cli(unequal_classes, as_positional=True)
