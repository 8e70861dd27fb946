"""Features of images by a network pretrained on ImageNet, computed once.

    pip install 'emlc[image]'
    python -m benchmarks.pretrained_features ../shared/data/cifar10 features/cifar10

EfficientNet-Lite0 gives 1,280 features of an image of 112 x 112 pixels. Their principal components, which the
training images alone determine, are scaled by one number and rotated at random: the components differ in
variance, and standardising each would give noise the weight of what matters. No label is looked at. Writes
FOLDER/train.npz and FOLDER/test.npz, which `emlc train` reads: X (n, components) float32, and every label
column of the parquet files. Some minutes for 60,000 images on one core.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from jsonargparse import auto_cli
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor

from emlc.config import BUNDLED_IMAGE_MODEL, DataSettings
from emlc.data import read
from emlc.data.embeddings.image_models import load_image_model
from emlc.data.embeddings.inference import Run, runner

_BATCH = 32


def pretrained_features(data: str, folder: str, components: int = 256, pixels: int = 112) -> None:
    """Compute features of a source's training and test images.

    Args:
        data: Folder of parquet files, train-*.parquet and test-*.parquet.
        folder: Where the .npz files go.
        components: Principal components kept.
        pixels: Side of the images that the network sees.
    """
    network = load_image_model(BUNDLED_IMAGE_MODEL).network
    run = runner(network, pixels, torch.device("cpu"), images=60_000)
    features = {part: _embed(run, data, part, pixels) for part in ("train", "test")}
    mean = features["train"].mean(axis=0, dtype=np.float64)
    centred = features["train"] - mean
    _, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    basis = vectors[:, ::-1][:, :components]
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(components, components)))
    scale = (centred @ basis).std()
    basis = basis @ rotation / scale
    Path(folder).mkdir(parents=True, exist_ok=True)
    for part, rows in features.items():
        X = ((rows - mean) @ basis).astype(np.float32)
        np.savez(Path(folder) / f"{part}.npz", allow_pickle=False, X=X, **_labels(data, part))
        print(f"{folder}/{part}.npz: {X.shape}")


def _embed(run: Run, data: str, part: str, pixels: int) -> NDArray[np.float32]:
    images = read(data, DataSettings(data=data), role="data" if part == "train" else "test").inputs
    rows = torch.arange(len(images)).split(_BATCH)
    return np.concatenate([run(_resized(images[r], pixels)) for r in track(rows, description=part)])


def _resized(images: Tensor, pixels: int) -> NDArray[np.uint8]:
    """Images (n, 3, h, w) uint8 as (n, 3, pixels, pixels)."""
    resized = [
        np.asarray(Image.fromarray(image).resize((pixels, pixels), Image.Resampling.BICUBIC))
        for image in images.permute(0, 2, 3, 1).numpy()
    ]
    return np.stack(resized).transpose(0, 3, 1, 2)


def _labels(data: str, part: str) -> dict[str, NDArray[np.int64]]:
    """Every column of labels, in the order of the files."""
    return dict(_columns(sorted(Path(data).glob(f"{part}-*.parquet"))))


def _columns(files: list[Path]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    names = [name for name in pq.read_schema(files[0]).names if name != "image"]
    tables = [pq.read_table(file, columns=names) for file in files]
    for name in names:
        yield name, np.concatenate([table[name].to_numpy() for table in tables]).astype(np.int64)


if __name__ == "__main__":
    auto_cli(pretrained_features, as_positional=True)
