"""Random augmentation of whole batches on their device, reproducible sample by sample."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emlc.config import Augmentation
from emlc.data.augment.autoaugment import AutoAugment
from emlc.data.augment.randaugment import RandAugment
from emlc.errors import InputError
from emlc.runtime.keyed import uniforms

_AUTOAUGMENT_CHANNELS = (1, 3)
_WINDOW_DRAWS = 3
"""Number of draws for the crop's row, its column, and the flip; those of AutoAugment, then of RandAugment,
follow, all in fixed places."""

_BOTH_DRAWS = _WINDOW_DRAWS + AutoAugment.DRAWS


class Augment:
    """Random crops, flips, AutoAugment and RandAugment, which change every image by draws of its own.

    What happens to a sample is a function of the key and its item number alone: results depend neither on
    the batch it comes in, nor on the number of processes, nor on where a run was interrupted.

    Args:
        names: Names of the augmentations, which are applied in the order crop, flip, autoaugment,
            randaugment. Crops are
            windows of the image padded with black by an eighth of its size (4 pixels at 32). AutoAugment
            takes the policy learned on CIFAR-10 for images below 64 pixels, else the one learned on ImageNet.
        image_size: (height, width).
        key: Seed of the run, and further integers that distinguish this augmentation from others.
    """

    def __init__(
        self, names: Sequence[Augmentation], image_size: tuple[int, int], key: tuple[int, ...]
    ) -> None:
        self._key = key
        self._padding = max(1, min(image_size) // 8) if "crop" in names else 0
        self._flip = "flip" in names
        self._policies: dict[str, tuple[AutoAugment, slice]] = {}
        if "autoaugment" in names:
            auto = AutoAugment("cifar10" if min(image_size) < 64 else "imagenet", image_size)
            self._policies["autoaugment"] = auto, slice(_WINDOW_DRAWS, _BOTH_DRAWS)
        if "randaugment" in names:
            self._policies["randaugment"] = RandAugment(image_size), slice(_BOTH_DRAWS, None)

    def __call__(self, images: Tensor, items: Tensor) -> Tensor:
        """Augment a batch.

        Args:
            images: (n, channels, height, width) uint8, or float32 in [0, 1], which AutoAugment and
                RandAugment round to 256 levels.
            items: (n,) int64, one number for each visit to a sample, such as epoch * samples + position.

        Returns:
            Images of the same shape, dtype and device.

        Raises:
            InputError: If AutoAugment or RandAugment is to change images that are neither grey nor RGB.
        """
        items = items.to(images.device, non_blocking=True)
        draws = uniforms(self._key, items, _BOTH_DRAWS + RandAugment.DRAWS)
        if self._padding or self._flip:
            images = self._window(images, draws[:, :_WINDOW_DRAWS])
        for name, (policy, its_draws) in self._policies.items():
            if images.shape[1] not in _AUTOAUGMENT_CHANNELS:
                raise InputError(f"{name}: expected images with 1 or 3 channels, found {images.shape[1]}")
            levels = images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)
            levels = policy(levels, draws[:, its_draws])
            images = levels if images.dtype == torch.uint8 else levels / 255
        return images

    def _window(self, images: Tensor, draws: Tensor) -> Tensor:
        """Crop and flip at once: read every pixel of the window from its place in the padded image."""
        height, width = images.shape[2:]
        p = self._padding
        padded = torch.nn.functional.pad(images, (p, p, p, p)).flatten(2)
        top, left = (draws[:, :2] * (2 * p + 1)).long().T
        rows = top[:, None] + torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device).expand(len(images), -1)
        if self._flip:
            columns = torch.where(draws[:, 2:] < 0.5, width - 1 - columns, columns)
        columns = left[:, None] + columns
        pixels = (rows[:, :, None] * (width + 2 * p) + columns[:, None, :]).flatten(1)
        return padded.gather(2, pixels[:, None].expand(-1, images.shape[1], -1)).view_as(images)
