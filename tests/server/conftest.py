"""Runs to review: features whose names mean harm, and pictures; trained in a moment."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

import tiny
from emlc import Run, train
from hostile import HOSTILE_CLASSES, HOSTILE_IDS

QUIET = Console(quiet=True)


@pytest.fixture(scope="session")
def text_like_run(tmp_path_factory) -> Run:
    """A run on a table whose classes and ids are attacks."""
    folder = tmp_path_factory.mktemp("reviewed")
    for name, n, seed, wrong in (("data", 90, 0, 0.3), ("trusted", 15, 1, 0)):
        samples = tiny.samples(n, seed=seed, wrong=wrong, prefix=name)
        frame = pd.DataFrame(samples.inputs.numpy(), columns=["a", "b", "<i>c</i>", "d"])
        frame = frame.assign(id=samples.ids, label=np.array(HOSTILE_CLASSES)[samples.labels])
        if name == "data":
            frame.loc[: len(HOSTILE_IDS) - 1, "id"] = list(HOSTILE_IDS)
        frame.to_csv(folder / f"{name}.csv", index=False)
    files = {name: str(folder / f"{name}.csv") for name in ("data", "trusted")}
    settings = tiny.settings(**files, trusted_per_class=None, output=str(folder / "run"), epochs=12)
    return train(settings, console=QUIET)


@pytest.fixture(scope="session")
def picture_run(tmp_path_factory) -> Run:
    """A run on image files of 80 x 80 pixels, of which the networks see 8 x 8."""
    folder = tmp_path_factory.mktemp("pictures")
    samples = tiny.samples(60, image=True, wrong=0)
    for k, (pixels, label) in enumerate(zip(samples.inputs.numpy(), samples.given, strict=True)):
        path: Path = folder / "data" / tiny.CLASSES[label] / f"<{k}> & 'co'.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(pixels[0], np.ones((10, 10), dtype=np.uint8))).save(path)
    noise = {"noise": "symmetric", "noise_rate": 0.4}
    settings = tiny.settings(data=str(folder / "data"), image_size=8, output=str(folder / "run"), **noise)
    return train(settings, console=QUIET)
