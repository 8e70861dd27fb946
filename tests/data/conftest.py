import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emlc.config import DataSettings

SaveImage = Callable[..., np.ndarray]


@pytest.fixture
def settings() -> Callable[..., DataSettings]:
    """Data settings with an unused source, for tests of what lies below it."""
    return lambda data="unused", **values: DataSettings(data=str(data), **values)


@pytest.fixture
def save_image() -> SaveImage:
    """Save a random image, whose pixels, (h, w) or (h, w, 3) uint8, are returned."""

    def save(path: Path, seed: int = 0, *, size: tuple[int, int] = (6, 5), grey: bool = False) -> np.ndarray:
        shape = size if grey else (*size, 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return pixels

    return save


@pytest.fixture
def save_hugging_face(tmp_path: Path, save_image: SaveImage) -> Callable[..., np.ndarray]:
    """Save embedded images, with columns of integer labels, as Hugging Face does; returns the pixels."""

    def save(path: Path, names: list[str], first_seed: int = 0, **labels: list[int]) -> np.ndarray:
        n = len(next(iter(labels.values())))
        files = [tmp_path / "embedded" / f"{first_seed + k}.png" for k in range(n)]
        pixels = np.stack([save_image(file, first_seed + k) for k, file in enumerate(files)])
        images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
        features: dict[str, object] = {"image": {"_type": "Image"}}
        features |= {column: {"names": names, "_type": "ClassLabel"} for column in labels}
        table = pa.table({"image": images, **labels}).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        return pixels

    return save
