"""Random augmentation of single images, from torchvision, reproducible sample by sample."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from emlc.config import Augmentation


class Augment:
    """Crop, flip and AutoAugment an image, with randomness fixed by a key.

    The same key gives the same image whatever was drawn before, so that results depend neither on
    the number of loading processes nor on where a run was interrupted.

    Args:
        names: Which augmentations; they are applied in the order crop, flip, autoaugment.
        image_size: (height, width); crops are padded by an eighth of it (4 pixels at 32).
    """

    def __init__(self, names: Sequence[Augmentation], image_size: tuple[int, int]) -> None:
        transforms: list[v2.Transform] = []
        if "crop" in names:
            padding = max(1, min(image_size) // 8)
            transforms.append(v2.RandomCrop(image_size, padding=padding, padding_mode="constant"))
        if "flip" in names:
            transforms.append(v2.RandomHorizontalFlip())
        if "autoaugment" in names:
            policy = v2.AutoAugmentPolicy.CIFAR10 if min(image_size) < 64 else v2.AutoAugmentPolicy.IMAGENET
            transforms.append(v2.AutoAugment(policy))
        self._transform = v2.Compose(transforms) if transforms else None

    def __call__(self, images: Tensor, keys: Sequence[tuple[int, ...]]) -> Tensor:
        """Augment images (n, channels, height, width), each with its own key of non-negative integers."""
        if self._transform is None:
            return images
        augmented = []
        with torch.random.fork_rng(devices=[]):
            for image, key in zip(images, keys, strict=True):
                # Not torch.manual_seed, which visits every device and costs more than the augmentation.
                torch.default_generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
                augmented.append(self._transform(image))
        return torch.stack(augmented)


def default_augmentations(inputs: Tensor) -> tuple[list[Augmentation], list[Augmentation]]:
    """Augmentations for noisy and for trusted inputs like these (Table 5 for colour images)."""
    if inputs.ndim != 4:
        return [], []
    if inputs.shape[1] != 3:
        # Grey images are often writing or symbols, which a flip or AutoAugment's shears may change.
        return ["crop"], ["crop"]
    return ["flip", "crop"], ["flip", "crop", "autoaugment"]
