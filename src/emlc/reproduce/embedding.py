"""Compute the features of CIFAR by a network that was pretrained on ImageNet, once for all runs.

The bundled EfficientNet-Lite0 gives 1,280 features per image. Their principal components, which the training
images alone determine, are scaled by one number and rotated at random: the components differ in variance, and
standardising each would give noise the weight of what matters. No label is looked at.
"""

import logging
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from emlc.config import BUNDLED_IMAGE_MODEL, DataSettings
from emlc.data import Samples, read
from emlc.data.embeddings.blocks import look_up
from emlc.data.embeddings.cache import Block, EmbeddingCache, content_key
from emlc.data.embeddings.image_models import load_image_model
from emlc.data.embeddings.inference import runner
from emlc.reproduce.pretrained import COMPONENTS, PIXELS, PretrainedFeatures
from emlc.runtime.distributed import pick_device
from emlc.runtime.files import atomic_folder

_log = logging.getLogger(__name__)

_BLOCK = 256  # images embedded, and kept, at once
_PARTS = ("train", "test")


def make_features(features: PretrainedFeatures, home: Path) -> Path:
    """Compute features into HOME/NAME, unless they are there; of several processes one does.

    Embeddings are kept as they are made: after an interruption, another call goes on from there. Of each
    part, train and test, an .npz file has X (n, d) float32, label and human labels (n,) int64, and classes.

    Returns:
        The folder.

    Raises:
        InputError: The images, or the network, are not available.
    """
    folder = home / features.name
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f"{features.name}.lock"):
        if not folder.exists():
            kept = home / f"{features.name}-embeddings"
            _make(features, folder, EmbeddingCache(kept, BUNDLED_IMAGE_MODEL))
            shutil.rmtree(kept, ignore_errors=True)
    return folder


def _make(features: PretrainedFeatures, folder: Path, cache: EmbeddingCache) -> None:
    settings = DataSettings(data=features.data, data_root=features.data_root)
    train = read(features.data, settings, role="data")
    parts = {"train": train, "test": read(features.data, settings, role="test")}
    what = " and ".join(f"{len(samples):,} {part}" for part, samples in parts.items())
    _log.info(f"{features.data}: embedding {what} images, once for all runs")
    vectors = {part: _embedded(samples, cache) for part, samples in parts.items()}
    X = dict(zip(_PARTS, reduced(*vectors.values()), strict=True))
    with atomic_folder(folder) as unfinished:
        for part, samples in parts.items():
            arrays: dict[str, Any] = {"label": samples.given, **_further_labels(features.files(part))}
            classes = np.array(samples.classes)
            np.savez(unfinished / f"{part}.npz", X=X[part], **arrays, classes=classes)
    _log.info(f"{features.data}: {COMPONENTS} features per image are in {folder}")


def reduced(train: NDArray[np.float32], test: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Reduce embeddings (n, d) to the training images' principal components, scaled and rotated.

    Returns:
        Both, (n, c) float32 with c at most :data:`COMPONENTS`.
    """
    mean = train.mean(axis=0, dtype=np.float64)
    centred = train - mean
    _, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    basis = vectors[:, ::-1][:, :COMPONENTS]
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(basis.shape[1],) * 2))
    basis = basis @ rotation / (centred @ basis).std()
    return tuple(((rows - mean) @ basis).astype(np.float32) for rows in (train, test))


def _embedded(samples: Samples, cache: EmbeddingCache) -> NDArray[np.float32]:
    """Return the network's embeddings (n, d) of n images, one row each."""
    images = samples.inputs
    assert isinstance(images, Tensor)
    pixels = images.permute(0, 2, 3, 1).numpy()
    keys = [content_key(image.tobytes()) for image in pixels]
    vectors, _ = look_up(keys, cache, partial(_blocks, pixels))
    return vectors


def _blocks(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[Block]:
    """Yield the embeddings of the images (n, h, w, 3) at rows (m,), in blocks."""
    network = load_image_model(BUNDLED_IMAGE_MODEL).network
    run = runner(network, PIXELS, pick_device("auto"), len(rows))
    for block in np.split(rows, range(_BLOCK, len(rows), _BLOCK)):
        yield block, run(np.stack([_resized(image) for image in pixels[block]]))


def _resized(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize an image (h, w, 3) to (3, p, p)."""
    resized = Image.fromarray(image).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
    return np.asarray(resized).transpose(2, 0, 1)


def _further_labels(files: list[Path]) -> dict[str, NDArray[np.int64]]:
    """Read the columns of integers beside the label, such as human labels, in the order of the files."""
    if not files:
        return {}
    schema = pq.read_schema(files[0])
    names = [name for name in schema.names if name != "label" and str(schema.field(name).type) == "int64"]
    tables = [pq.read_table(file, columns=names) for file in files]
    return {name: np.concatenate([table[name].to_numpy() for table in tables]) for name in names}
