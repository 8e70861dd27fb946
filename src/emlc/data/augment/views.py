"""Two random views of every image of a batch, as SimCLR compares them.

Chen et al.: A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, Appendix A.
As elsewhere here, what happens to a sample is a function of a key and its item number alone.
"""

import math
from collections.abc import Sequence

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
)
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from emlc.config import View
from emlc.runtime.keyed import uniforms

_LARGEST_RATIO = 4 / 3
"""Largest ratio of a crop's width to its height, and of its height to its width, before it is stretched."""

_JITTERED, _GREY, _BLURRED = 0.8, 0.2, 0.5
"""Shares of the views whose colours are changed, that turn grey, and that are blurred."""

_DRAWS = 13
"""Number of uniform draws per view."""


class Views:
    """Two random views per image: cropped and resized, mirrored, changed in colour, turned grey, blurred.

    Args:
        names: Some of crop, flip, colour, grey, blur, which are applied in this order. On grey images colour
            changes brightness and contrast only.
        image_size: (height, width).
        key: Seed of the run, and further integers that distinguish these views from other draws.
        smallest_crop: Smallest share of the image's area that a crop covers, in (0, 1].
        colour_strength: Strength of the colour changes: 1 as on ImageNet in the paper, 0.5 as on CIFAR-10.
    """

    def __init__(
        self,
        names: Sequence[View],
        image_size: tuple[int, int],
        key: tuple[int, ...],
        *,
        smallest_crop: float,
        colour_strength: float,
    ) -> None:
        self._names = frozenset(names)
        self._key = key
        self._smallest_crop = smallest_crop
        self._colour_strength = colour_strength
        # A tenth of the image, and odd.
        self._kernel = max(3, min(image_size) // 20 * 2 + 1)

    def __call__(self, images: Tensor, items: Tensor) -> Tensor:
        """Return two views of every image of a batch.

        Args:
            images: (n, 1 or 3, height, width) uint8, or float32 in [0, 1].
            items: (n,) int64, one number for each visit to a sample.

        Returns:
            (2n, channels, height, width) float32 in [0, 1]: first views, then second views, in order.
        """
        items = items.to(images.device, non_blocking=True)
        draws = torch.cat([uniforms((*self._key, view), items, _DRAWS) for view in (0, 1)])
        crop, flip, colour, grey, blur = draws.split([4, 1, 5, 1, 2], dim=1)
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        x = x.repeat(2, 1, 1, 1)
        if not self._names.isdisjoint({"crop", "flip"}):
            x = self._windows(x, crop, flip.squeeze(1))
        if "colour" in self._names:
            x = self._coloured(x, colour)
        if "grey" in self._names and x.shape[1] == 3:
            x = torch.where(grey[:, :, None, None] < _GREY, rgb_to_grayscale(x), x)
        if "blur" in self._names:
            sigma = 0.1 + 1.9 * blur[:, 1:]
            blurred = gaussian_blur2d(x, self._kernel, sigma.expand(-1, 2))
            x = torch.where(blur[:, :1, None, None] < _BLURRED, blurred, x)
        return x

    def _windows(self, x: Tensor, crop: Tensor, flip: Tensor) -> Tensor:
        """Cut crops of random area, shape and place, stretch them to the image's size, and mirror half."""
        size = torch.ones(2, len(x), device=x.device)  # share of the width, share of the height
        if "crop" in self._names:
            area = self._smallest_crop + (1 - self._smallest_crop) * crop[:, 0]
            ratio = torch.exp((2 * crop[:, 1] - 1) * math.log(_LARGEST_RATIO))
            # A crop that is longer than the image is cut, where torchvision draws again.
            size = torch.stack([area * ratio, area / ratio]).sqrt().clamp(max=1)
        centre = (1 - size) * (2 * crop[:, 2:].T - 1)
        mirror = torch.where(flip < 0.5, -1.0, 1.0) if "flip" in self._names else torch.ones_like(flip)
        zero = torch.zeros_like(flip)
        rows = [size[0] * mirror, zero, centre[0], zero, size[1], centre[1]]
        grid = affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(x.shape), align_corners=False)
        return grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _coloured(self, x: Tensor, draws: Tensor) -> Tensor:
        """Change brightness, contrast, saturation and hue by random factors, in this order."""
        changed = draws[:, 0] < _JITTERED
        spread = (2 * draws[:, 1:] - 1) * self._colour_strength * changed[:, None]
        brightness, contrast, saturation = (1 + 0.8 * spread[:, :3]).T
        x = adjust_brightness_accumulative(x, brightness)
        x = adjust_contrast_with_mean_subtraction(x, contrast)
        if x.shape[1] == 3:
            x = adjust_saturation_with_gray_subtraction(x, saturation)
            x = adjust_hue(x, 2 * math.pi * 0.2 * spread[:, 3])
        return x


def default_views(image_shape: Sequence[int]) -> list[View]:
    """Return the views for images (channels, height, width): no blur below 64 pixels, as in the paper."""
    names: list[View] = ["crop", "colour"]
    if image_shape[0] == 3:
        # Grey images may show letters, which must not be mirrored: see default_augmentations.
        names += ["flip", "grey"]
    return [*names, "blur"] if min(image_shape[1:]) >= 64 else names
