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


@pytest.fixture
def save_clothing1m(save_image: SaveImage) -> Callable[..., dict[str, list[str]]]:
    """Make a miniature of Clothing1M, in its native layout; returns its lists of paths.

    Of the noisy images, "shared" ones are in clean lists too. The noisy label of image k is k % 14, the
    clean label (k + 1) % 14.
    """

    def save(folder: Path, *, lists: str = ".", clean: int = 14, noisy: int = 20) -> dict[str, list[str]]:
        sizes = [(40, 30), (30, 40), (36, 36)]
        names = [f"images/{k % 10}/{k:02d}/{k * 7919},{k}.jpg" for k in range(3 * clean + noisy)]
        for k, name in enumerate(names):
            save_image(folder / name, k, size=sizes[k % 3])
        keys = {
            "clean_train": names[:clean],
            "clean_val": names[clean : 2 * clean],
            "clean_test": names[2 * clean : 3 * clean],
            "shared": [names[3], names[clean], names[2 * clean + 1]],
        }
        keys["noisy_train"] = [*names[3 * clean :], *keys["shared"]]
        (folder / lists).mkdir(exist_ok=True)
        for part in ("noisy_train", "clean_train", "clean_val", "clean_test"):
            (folder / lists / f"{part}_key_list.txt").write_text("\n".join(keys[part]) + "\n")
        pairs = list(enumerate(names))
        noisy_lines = [f"{name} {k % 14}\n" for k, name in reversed(pairs)]
        clean_lines = [f"{name} {(k + 1) % 14}\n" for k, name in pairs[: 3 * clean]]
        (folder / lists / "noisy_label_kv.txt").write_text("".join(noisy_lines))
        (folder / lists / "clean_label_kv.txt").write_text("".join(clean_lines))
        return keys

    return save
