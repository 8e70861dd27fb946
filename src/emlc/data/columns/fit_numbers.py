"""Fit how a column of numbers, booleans or times becomes features."""

from dataclasses import dataclass

import numpy as np

from emlc.data.columns.encoding import NumberColumn
from emlc.data.columns.values import Floats

SKEWED = 2.0
"""Skewness, that of an exponential distribution, above which a column is also transformed."""

_ROW_NUMBERS = 100
"""Number of rows from which on consecutive integers are taken for row numbers."""

_POWER_SAMPLE = 10_000
"""Maximum number of values, evenly spaced, from which a transformation's exponent is estimated."""

_ROUNDING = 1e-3
"""Largest rounding error of float32, in standard deviations, with which values stay as they are."""


@dataclass(frozen=True)
class NumberFit:
    """The fit of columns of numbers.

    Attributes:
        keeps_all: Whether constant columns and row numbers are kept.
        transforms: Whether skewed columns are also transformed.
    """

    keeps_all: bool
    transforms: bool

    def column(
        self, name: str, x: Floats, *, is_boolean: bool = False, format: str | None = None
    ) -> NumberColumn | str:
        """Return how numbers (n,), with NaN where missing, become features, or why they are left out."""
        finite, missing = x[np.isfinite(x)], int(np.isnan(x).sum())
        if len(finite) == 0:
            return "empty"
        if not self.keeps_all and not missing:
            if len(x) > 1 and finite.min() == finite.max():
                return "constant"
            if format is None and _are_row_numbers(x):
                return "row numbers"
        power, unit = _power(finite) if self.transforms and format is None else (None, 1.0)
        shift, scale = _standardization(finite)
        return NumberColumn(
            name=name,
            missing=missing,
            fill=float(np.median(finite)),
            is_boolean=is_boolean,
            format=format,
            shift=shift,
            scale=scale,
            power=power,
            unit=unit,
            has_hours=format is not None and _have_hours(finite),
        )


def _are_row_numbers(x: Floats) -> bool:
    return len(x) >= _ROW_NUMBERS and np.array_equal(np.sort(x), x.min() + np.arange(len(x)))


def _have_hours(days: Floats) -> bool:
    return bool((days % 1 != 0).any() and np.ptp(days) > 2)


def _power(x: Floats) -> tuple[float | None, float]:
    """Return the exponent of Yeo-Johnson's transformation if the numbers are skewed, and the unit for it.

    The unit, a tenth of the median magnitude, makes the result independent of the unit of the column.
    """
    with np.errstate(over="ignore"):
        deviation = x.std()
    if not 0 < deviation < np.inf or len(np.unique(x)) < 3:
        return None, 1.0
    if abs(np.mean(((x - x.mean()) / deviation) ** 3)) <= SKEWED:
        return None, 1.0
    from sklearn.preprocessing import PowerTransformer  # takes more than a second to import

    unit = float(np.median(np.abs(x[x != 0]))) / 10
    some = x[:: -(-len(x) // _POWER_SAMPLE), None] / unit
    return float(PowerTransformer(standardize=False).fit(some).lambdas_[0]), unit


def _standardization(x: Floats) -> tuple[float, float]:
    """Return mean and deviation if the values would lose digits as float32; else 0 and 1."""
    with np.errstate(over="ignore"):  # numbers that not even their square fits stay: float32 refuses them
        deviation = float(x.std()) or 1.0
    rounding = float(np.abs(x).max()) * float(np.finfo(np.float32).eps)
    if rounding <= _ROUNDING * deviation:
        return 0.0, 1.0
    return float(x.mean()), deviation
