"""CIFAR as features of a network that was pretrained on ImageNet, and CIFAR's human labels: what runs need to
know of them.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from emlc.config import BUNDLED_IMAGE_MODEL
from emlc.reproduce.code import code_digest

PIXELS = 112
"""Side of the images that the network sees."""
COMPONENTS = 256
"""Principal components of the network's features that are kept."""
HUMAN_LABELS = ("worst", "aggregate")
"""Columns of CIFAR-10N's human labels that the tables use."""


@dataclass(frozen=True)
class PretrainedFeatures:
    """The features of a data set, whether they are computed yet or not.

    Attributes:
        data: cifar10 or cifar100.
        data_root: Folder that holds the images.
    """

    data: str
    data_root: str

    @cached_property
    def name(self) -> str:
        """Name of the data set, with a hash of its parquet files and of how features are computed."""
        recipe = code_digest("emlc.reproduce.embedding")
        digest = hashlib.sha256(f"{BUNDLED_IMAGE_MODEL} {PIXELS} {COMPONENTS} {recipe}".encode())
        for path in [*self.files("train"), *self.files("test")]:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"{self.data}-{digest.hexdigest()[:12]}"

    @cached_property
    def human_labels(self) -> tuple[str, ...]:
        """Those of :data:`HUMAN_LABELS` that the training images have."""
        return human_labels_of(self.data, self.data_root)

    def files(self, part: str) -> list[Path]:
        """Return the parquet files of a part, train or test, if the data are in such files."""
        return _files(self.data, self.data_root, part)

    def sources(self, home: Path) -> dict[str, Any]:
        """Return the settings of runs that name the files of the features, in a folder of all features."""
        return {"data": str(home / self.name / "train.npz"), "test": str(home / self.name / "test.npz")}


def human_labels_of(data: str, data_root: str) -> tuple[str, ...]:
    """Return those of :data:`HUMAN_LABELS` that the training images of cifar10 or cifar100 have."""
    import pyarrow.parquet as pq

    columns = {name for path in _files(data, data_root, "train")[:1] for name in pq.read_schema(path).names}
    return tuple(name for name in HUMAN_LABELS if name in columns)


def _files(data: str, data_root: str, part: str) -> list[Path]:
    from emlc.data.sources.cifar import parquet_folder  # imports torch, which takes seconds

    folder = parquet_folder(data, data_root)
    return [] if folder is None else sorted(folder.glob(f"{part}*.parquet"))
