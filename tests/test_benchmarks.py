"""Benchmarks that no test of theirs runs, on the smallest data."""

import numpy as np
from PIL import Image

from benchmarks.patch_features import patch_features


def test_patch_features_of_images_are_written(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(8):
        path = tmp_path / "images" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    patch_features(str(tmp_path / "images"), str(tmp_path / "features"), centroids=4)
    with np.load(tmp_path / "features/train.npz", allow_pickle=False) as arrays:
        assert arrays["X"].shape == (8, 16)
        assert sorted(zip(arrays["ids"].tolist(), arrays["y"].tolist(), strict=True)) == [
            (f"{name}/{k}.png", name) for name, numbers in (("a", "0246"), ("b", "1357")) for k in numbers
        ]
        assert arrays.files == ["X", "y", "ids", "classes"]
