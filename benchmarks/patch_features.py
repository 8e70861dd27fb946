"""Unsupervised image features: a substitute for self-supervised pretraining, in minutes on a CPU.

    python -m benchmarks.patch_features ../shared/data/cifar10 features --true_label_column label \
        --label_column worst

Single-layer features after Coates, Lee and Ng, "An Analysis of Single-Layer Networks in Unsupervised
Feature Learning" (AISTATS 2011): patches of 6 x 6 pixels, contrast-normalised and whitened, are compared
with k-means centroids; the activation of a centroid is how much nearer than average it is, summed over
each quadrant of the image. Labels are not used. Writes FOLDER/train.npz and FOLDER/test.npz, which
`emlc train` reads.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from rich.progress import track
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, unfold

from emlc.config import DataSettings
from emlc.data import Samples, read

_PATCH = 6
_BATCH = 250


def patch_features(
    data: str,
    folder: str,
    label_column: str | None = None,
    true_label_column: str | None = None,
    centroids: int = 400,
    seed: int = 0,
) -> None:
    """Compute features of a source's training and test images.

    Args:
        data: Folder of parquet files, train-*.parquet and test-*.parquet.
        folder: Folder for the .npz files.
        label_column: Column with the given labels.
        true_label_column: Column with the true labels.
        centroids: Centroids; an image has four times as many features.
        seed: Seed of the patches and of k-means.
    """
    settings = DataSettings(data=data, label_column=label_column, true_label_column=true_label_column)
    train = read(data, settings, role="data")
    test = read(data, settings, role="test")
    assert isinstance(train.inputs, Tensor)
    assert isinstance(test.inputs, Tensor)
    extract = _learn(train.inputs, centroids, seed)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, samples, inputs in (("train", train, train.inputs), ("test", test, test.inputs)):
        batches = inputs.split(_BATCH)
        features = torch.cat([extract(batch) for batch in track(batches, description=name)])
        _save(Path(folder) / f"{name}.npz", features, samples)


def _save(path: Path, features: Tensor, samples: Samples) -> None:
    assert samples.labels is not None
    names = np.array(samples.classes)
    arrays: dict[str, Any] = {
        "X": features.numpy(),
        "y": names[samples.labels],
        "ids": samples.ids.astype(str),
        "classes": names,
    }
    if samples.true_labels is not None:
        arrays["true_labels"] = names[samples.true_labels]
    np.savez(path, **arrays)
    print(f"{path}: {tuple(features.shape)}")


def _learn(images: Tensor, centroids: int, seed: int):  # type: ignore[no-untyped-def]
    """Learn a function from images (n, 3, h, w) uint8 to features (n, 4 centroids) float32."""
    rng = np.random.default_rng(seed)
    some = images[torch.from_numpy(rng.choice(len(images), min(len(images), 20_000), replace=False))]
    patches = torch.cat([_normalized_patches(b.float())[:, ::7] for b in some.split(_BATCH)])
    places = torch.from_numpy(rng.integers(patches.shape[1], size=(len(some), 10)))
    sample = patches[torch.arange(len(some))[:, None], places].flatten(0, 1)
    mean = sample.mean(dim=0)
    # ZCA whitening, with the small constant of the paper against noise.
    values, vectors = torch.linalg.eigh(torch.cov(sample.T))
    whiten = vectors @ torch.diag((values + 0.1).rsqrt()) @ vectors.T
    kmeans = MiniBatchKMeans(centroids, batch_size=4096, n_init=1, max_iter=30, random_state=seed)
    centers = torch.from_numpy(kmeans.fit(((sample - mean) @ whiten).numpy()).cluster_centers_).float()

    def extract(batch: Tensor) -> Tensor:
        distance = torch.cdist((_normalized_patches(batch.float()) - mean) @ whiten, centers)
        activation = (distance.mean(dim=2, keepdim=True) - distance).clamp_min(0)  # (n, places, centroids)
        side = int(activation.shape[1] ** 0.5)
        maps = activation.transpose(1, 2).unflatten(2, (side, side))
        return adaptive_avg_pool2d(maps, 2).flatten(1)

    return extract


def _normalized_patches(images: Tensor) -> Tensor:
    """Return all patches of each image, (n, places, 3 * 36), with brightness and contrast normalised."""
    patches = unfold(images, _PATCH, stride=1).transpose(1, 2)
    centred = patches - patches.mean(dim=2, keepdim=True)
    return centred / (centred.var(dim=2, keepdim=True) + 10).sqrt()


if __name__ == "__main__":
    auto_cli(patch_features, as_positional=True)
