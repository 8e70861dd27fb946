"""AutoAugment of whole batches, with one sub-policy per sample.

Cubuk et al.: AutoAugment: Learning Augmentation Strategies from Data, CVPR 2019, with the operations and
magnitudes of ``torchvision.transforms.v2.AutoAugment`` (nearest neighbour, black outside the image). That
class changes one image at a time, and kornia's draws one sub-policy for a whole batch. Here a batch goes
through seven kinds of change, each with parameters per sample. Torchvision itself fills the tables that say
what an operation does: which pixel each pixel comes from, and which level each of the 256 levels becomes.
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
from torchvision.transforms import AutoAugmentPolicy
from torchvision.transforms.v2 import functional as F

_BINS = 10
_WARPS = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_LEVELS = ("Brightness", "Posterize", "Solarize", "Invert")
_BLENDS = ("Color", "Contrast", "Sharpness")
_KINDS = ("identity", "warp", "levels", "AutoContrast", "Equalize", *_BLENDS)


class _Tables(NamedTuple):
    """The tables of a policy with s sub-policies and o operations; operation 0 leaves an image as it is.

    Attributes:
        operations: (s, 2, 2) int64, operations by sub-policy, first or second, plus or minus sign.
        probabilities: (s, 2) float32, of each operation, in [0, 1].
        kinds: (o,) int64, index into _KINDS.
        factors: (o,) float32, factor of a blend: 0 is the degenerate image, 1 the image itself.
        levels: (o, 256) uint8, what each level becomes.
        warps: (o,) int64, row of ``sources`` for a warp.
        sources: (w, height * width) int64: the pixel that each pixel is copied from, counted from 1;
            0 is black.
    """

    operations: Tensor
    probabilities: Tensor
    kinds: Tensor
    factors: Tensor
    levels: Tensor
    warps: Tensor
    sources: Tensor


class AutoAugment:
    """A learned policy for images of one size.

    Args:
        policy: Data set that the policy was learned on; each sample draws one of its 25 sub-policies.
        image_size: (height, width).
    """

    DRAWS: ClassVar[int] = 5
    """Number of uniform draws per sample."""

    def __init__(self, policy: Literal["cifar10", "imagenet"], image_size: tuple[int, int]) -> None:
        self._tables = build_tables(TorchvisionAutoAugment(AutoAugmentPolicy(policy)).policies, image_size)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augment images (n, 1 or 3, height, width), uint8, by draws (n, 5) in [0, 1), float32.

        The draws are: sub-policy; whether its first and second operation happen; the signs of both.
        """
        if self._tables.kinds.device != images.device:
            self._tables = _Tables(*(table.to(images.device) for table in self._tables))
        for operations in self.operations(draws).T:
            images = self._apply(images, operations)
        return images

    def operations(self, draws: Tensor) -> Tensor:
        """Return the two operations, (n, 2) rows of the tables, that the draws (n, 5) choose."""
        t = self._tables
        chosen = (draws[:, 0] * len(t.operations)).long()
        happens = draws[:, 1:3] < t.probabilities[chosen]
        signs = (draws[:, 3:5] < 0.5).long()
        return t.operations[chosen].gather(2, signs[:, :, None]).squeeze(2) * happens

    def _apply(self, images: Tensor, operations: Tensor) -> Tensor:
        t = self._tables
        kinds = t.kinds[operations]
        changes: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "warp": lambda x, o: _warped(x, t.sources[t.warps[o]]),
            "levels": lambda x, o: t.levels[o].gather(1, x.flatten(1).long()).view_as(x),
            "AutoContrast": lambda x, _: F.autocontrast(x),
            "Equalize": lambda x, _: F.equalize(x),
            "Color": lambda x, o: _blend(F.rgb_to_grayscale(x), x, t.factors[o]),
            "Contrast": lambda x, o: _blend(_mean_grey(x), x, t.factors[o]),
            "Sharpness": lambda x, o: _blend(_smooth(x), x, t.factors[o]),
        }
        for name, change in changes.items():
            images = _where(kinds == _KINDS.index(name), change, images, operations)
        return images


def _where(
    chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor], images: Tensor, operations: Tensor
) -> Tensor:
    """Change those of n images that are chosen, (n,) bool."""
    if images.device.type != "cpu":
        # Selecting rows would make the host wait for the device; changing all of them is cheaper.
        return torch.where(chosen[:, None, None, None], change(images, operations), images)
    rows = chosen.nonzero().squeeze(1)
    return images.index_copy(0, rows, change(images[rows], operations[rows])) if len(rows) else images


def _warped(images: Tensor, sources: Tensor) -> Tensor:
    pixels = torch.nn.functional.pad(images.flatten(2), (1, 0))
    return pixels.gather(2, sources[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def _blend(degenerate: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Interpolate, or extrapolate, from degenerate images to the images.

    Torchvision multiplies and adds in one rounding, this in two, so that every batch and device give the
    same: where the result is a whole number or close to it, truncation may give its neighbour.
    """
    difference = images.float() - degenerate
    return (degenerate + factors[:, None, None, None] * difference).clamp(0, 255).to(torch.uint8)


def _mean_grey(images: Tensor) -> Tensor:
    grey: Tensor = F.rgb_to_grayscale(images)
    return grey.sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64) / grey[0].numel()


def _smooth(images: Tensor) -> Tensor:
    """Return weighted means of 3 x 3 pixels, rounded; the middle pixel has weight 5/13, and borders stay."""
    smooth = images.float()
    if min(images.shape[2:]) > 2:
        # Sums of whole numbers: exact, where a convolution on CUDA may compute with 10 bits (TF32).
        across = smooth[..., :-2] + smooth[..., 1:-1] + smooth[..., 2:]
        total = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
        middle = smooth[..., 1:-1, 1:-1]
        middle.copy_(((total + 4 * middle) / 13).round())
    return smooth


def build_tables(
    sub_policies: Sequence[tuple[tuple[str, float, int | None], ...]], image_size: tuple[int, int]
) -> _Tables:
    """Build the tables of sub-policies of two operations: name, probability, and magnitude from 0 to 9."""
    height, width = image_size
    rows: dict[tuple[str, float], int] = {("identity", 0.0): 0}
    operations = torch.zeros(len(sub_policies), 2, 2, dtype=torch.int64)
    for s, sub_policy in enumerate(sub_policies):
        for i, (name, _, magnitude_bin) in enumerate(sub_policy):
            for j, magnitude in enumerate(_magnitudes(name, magnitude_bin, height, width)):
                operations[s, i, j] = rows.setdefault((name, magnitude), len(rows))
    warped = [operation for operation in rows if operation[0] in _WARPS]
    return _Tables(
        operations=operations,
        probabilities=torch.tensor([[probability for _, probability, _ in s] for s in sub_policies]),
        kinds=torch.tensor([_KINDS.index(_kind(name)) for name, _ in rows]),
        factors=torch.tensor([1 + magnitude for _, magnitude in rows]),
        levels=torch.stack([_levels(*operation) for operation in rows]),
        warps=torch.tensor([warped.index(o) if o in warped else 0 for o in rows]),
        sources=torch.stack([_sources(*operation, height, width) for operation in warped]),
    )


def _kind(name: str) -> str:
    return "warp" if name in _WARPS else "levels" if name in _LEVELS else name


def _magnitudes(name: str, magnitude_bin: int | None, height: int, width: int) -> tuple[float, float]:
    """Return an operation's magnitude with a plus and with a minus sign; equal if it has no sign."""
    if magnitude_bin is None:
        return 0.0, 0.0
    if name == "Posterize":
        bits = float(8 - round(magnitude_bin / ((_BINS - 1) / 4)))
        return bits, bits
    if name == "Solarize":
        threshold = float(torch.linspace(1.0, 0.0, _BINS)[magnitude_bin])
        return threshold, threshold
    largest = {"ShearX": 0.3, "ShearY": 0.3, "Rotate": 30.0}
    largest |= {"TranslateX": 150.0 / 331.0 * width, "TranslateY": 150.0 / 331.0 * height}
    magnitude = float(torch.linspace(0.0, largest.get(name, 0.9), _BINS)[magnitude_bin])
    return magnitude, -magnitude


def _levels(name: str, magnitude: float) -> Tensor:
    """Return what an operation on single pixels makes of each of the levels 0 to 255, (256,) uint8."""
    levels: Tensor = torch.arange(256, dtype=torch.uint8).view(1, 1, 256)
    if name == "Brightness":
        levels = F.adjust_brightness(levels, 1 + magnitude)
    elif name == "Posterize":
        levels = F.posterize(levels, int(magnitude))
    elif name == "Solarize":
        levels = F.solarize(levels, 255 * magnitude)
    elif name == "Invert":
        levels = F.invert(levels)
    return levels.flatten()


def _sources(name: str, magnitude: float, height: int, width: int) -> Tensor:
    """Return where the pixels of a warped image come from, by warping an image of pixel numbers."""
    # float32 counts exactly up to 2**24 pixels.
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width)
    shear = math.degrees(math.atan(magnitude))
    warped: Tensor = F.affine(
        numbers,
        # Affine matrices turn the other way than torchvision's rotate.
        angle=-magnitude if name == "Rotate" else 0.0,
        translate=[int(magnitude) if name == f"Translate{axis}" else 0 for axis in "XY"],
        scale=1.0,
        shear=[shear if name == f"Shear{axis}" else 0.0 for axis in "XY"],
        center=[0, 0] if name.startswith("Shear") else None,
    )
    return warped.flatten().long()
