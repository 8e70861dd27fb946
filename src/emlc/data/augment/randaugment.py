"""RandAugment: two operations per image, each of any kind and strength.

Cubuk et al.: RandAugment: Practical Automated Data Augmentation with a Reduced Search Space, NeurIPS 2020, in
the form that FixMatch (Sohn et al., NeurIPS 2020) made common: two operations drawn from all, each of which
takes place with probability 1/2, with a magnitude from 1 to 9, where 9 is the largest. Operations and
magnitudes are those of torchvision's AutoAugment. There is no cutout at the end.
"""

from typing import ClassVar

from torch import Tensor

from emlc.data.augment.autoaugment import AutoAugment, build_tables

OPERATIONS = (
    *("identity", "AutoContrast", "Equalize", "Brightness", "Color", "Contrast", "Sharpness", "Posterize"),
    *("Rotate", "ShearX", "ShearY", "Solarize", "TranslateX", "TranslateY"),
)
"""The operations to draw from."""

WITHOUT_MAGNITUDE = ("identity", "AutoContrast", "Equalize")
MAGNITUDES = range(1, 10)
_PROBABILITY = 0.5


class RandAugment(AutoAugment):
    """Random operations for images of one size.

    Args:
        image_size: (height, width).
    """

    DRAWS: ClassVar[int] = 8

    def __init__(self, image_size: tuple[int, int]) -> None:
        each = [
            (name, _PROBABILITY, None if name in WITHOUT_MAGNITUDE else magnitude)
            for name in OPERATIONS
            for magnitude in MAGNITUDES
        ]
        self._tables = build_tables([(one, one) for one in each], image_size)

    def operations(self, draws: Tensor) -> Tensor:
        """Return the two operations, (n, 2) rows of the tables, that the draws (n, 8) choose.

        The draws of either operation are: its kind; its magnitude; whether it happens; its sign.
        """
        t, two = self._tables, draws.view(-1, 2, 4)
        kind = (two[:, :, 0] * len(OPERATIONS)).long()
        row = kind * len(MAGNITUDES) + (two[:, :, 1] * len(MAGNITUDES)).long()
        sign = (two[:, :, 3] < 0.5).long()
        return t.operations[row, 0, sign] * (two[:, :, 2] < t.probabilities[row, 0])
