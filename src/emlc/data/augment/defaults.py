"""Augmentations by default. What carries them out imports torchvision, which takes as long as torch."""

from typing import Protocol

from emlc.config import Augmentation


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...


def default_augmentations(inputs: _Shaped) -> tuple[list[Augmentation], list[Augmentation]]:
    """Return the augmentations for noisy and for trusted inputs like these (Table 5 for colour images)."""
    if inputs.ndim != 4:
        return [], []
    if inputs.shape[1] != 3:
        # Grey images are often writing or symbols, which a flip or AutoAugment's shears may change.
        return ["crop"], ["crop"]
    return ["flip", "crop"], ["flip", "crop", "autoaugment"]
