import numpy as np
import pytest

import sources
from emlc import Run


@pytest.fixture(scope="module")
def pixel_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Images without files, of classes with hostile names."""
    folder = tmp_path_factory.mktemp("pixels")
    X = np.random.default_rng(0).integers(0, 256, (48, 5, 4), dtype=np.uint8)
    names = np.array(sources.HOSTILE)[np.arange(48) % 8]
    ids = np.array([f"../{name}{k}" for k, name in enumerate(names)])
    np.savez(folder / "data.npz", X=X, y=names, ids=ids, trusted=np.arange(48) < 16)
    return sources.untrained_run(folder, data=str(folder / "data.npz"), trusted_column="trusted")


@pytest.fixture(scope="module")
def file_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Images in files."""
    folder = tmp_path_factory.mktemp("files")
    return sources.untrained_run(folder, **sources.image_folder(folder))


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Rows of numbers, with known truth."""
    folder = tmp_path_factory.mktemp("table")
    return sources.untrained_run(folder, **sources.csv_features(folder))
