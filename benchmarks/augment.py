"""Augmented images per second: emlc's whole batches beside torchvision, image by image with one seed each.

    python -m benchmarks.augment "[32,128]"

The two take turns; figures are medians.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor
from torchvision.transforms import v2

from emlc.config import Augmentation
from emlc.data.augment.augment import Augment

NOISY: list[Augmentation] = ["crop", "flip"]
TRUSTED: list[Augmentation] = ["crop", "flip", "autoaugment"]


def augment(
    batches: tuple[int, ...] = (32, 128), size: int = 32, device: str = "cpu", rounds: int = 30
) -> None:
    """Print a table.

    Args:
        batches: Images per batch.
        size: Height and width in pixels.
        device: Device of the batches; torchvision's images stay on the CPU.
        rounds: Number of turns.
    """
    for n in batches:
        images = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8)
        for kind, names in (("noisy", NOISY), ("trusted", TRUSTED)):
            on_device = images.to(device)
            ours = Augment(names, (size, size), (0,))
            theirs = _image_by_image(names, size)
            functions = [partial(ours, on_device, torch.arange(n)), partial(theirs, images)]
            seconds = _medians(functions, rounds, device)
            print(
                f"{kind}, {n} images: {n / seconds[0]:,.0f} a second; image by image {n / seconds[1]:,.0f} "
                f"(ratio {seconds[1] / seconds[0]:.1f})"
            )


def _image_by_image(names: list[Augmentation], size: int) -> Callable[[Tensor], Tensor]:
    transforms: list[v2.Transform] = [v2.RandomCrop(size, padding=size // 8), v2.RandomHorizontalFlip()]
    if "autoaugment" in names:
        policy = v2.AutoAugmentPolicy.CIFAR10 if size < 64 else v2.AutoAugmentPolicy.IMAGENET
        transforms.append(v2.AutoAugment(policy))
    transform = v2.Compose(transforms)

    def apply(images: Tensor) -> Tensor:
        augmented = []
        for i, image in enumerate(images):
            torch.default_generator.manual_seed(int(np.random.SeedSequence((0, i)).generate_state(1)[0]))
            augmented.append(transform(image))
        return torch.stack(augmented)

    return apply


def _medians(functions: Sequence[Callable[[], Tensor]], rounds: int, device: str) -> list[float]:
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds + 1):
        for function, times in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            if device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return [median(times[1:]) for times in seconds]


if __name__ == "__main__":
    auto_cli(augment)
