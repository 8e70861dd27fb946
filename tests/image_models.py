"""A small network, in the layout that `emlc pretrain` writes, and photos that it can tell apart."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from emlc.networks.backbones import build_backbone

PIXELS = 16


def save_model(folder: Path, *, seed: int = 0, **about: str) -> Path:
    """A small convolutional network with random weights; its colours alone tell the photos below apart."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, _ = build_backbone("cnn", torch.rand(8, 3, PIXELS, PIXELS), 4)
    metadata = {"backbone": "cnn", "stem": "auto", "width": "4", "input_shape": f"3x{PIXELS}x{PIXELS}"}
    save_file(backbone.state_dict(), folder / "backbone.safetensors", metadata | about)
    return folder


COLOURS = {"blue": (40, 60, 210), "green": (50, 190, 60), "red": (210, 50, 40)}


def save_photos(folder: Path, n: int, *, seed: int = 0, wrong: float = 0.0) -> Path:
    """n photos of one colour each, of mixed sizes and formats, in a folder per class; some are elsewhere."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    for k in range(n):
        truth = names[k % 3]
        given = names[(k + 1) % 3] if rng.random() < wrong else truth
        pixels = np.array(COLOURS[truth]) + rng.normal(0, 25, (*rng.integers(32, 60, 2), 3))
        path = folder / given / f"{truth}-{seed}-{k:03d}.{('png', 'jpg')[k % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder
