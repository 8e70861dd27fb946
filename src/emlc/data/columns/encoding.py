"""How columns become features: plain values that are kept with the run, as JSON, and applied to any table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from emlc.data.classes import shorten
from emlc.data.columns.values import Floats, is_blank, numbers, texts, times, vectors
from emlc.errors import InputError

_ENOUGH_TO_REFUSE = 100
"""Number of values, blanks not counted, from which on a column may be refused as one of another kind."""


class Encoded(NamedTuple):
    """The features of a column, and how many of its values training had not seen.

    Attributes:
        features: (n, k) float64.
        is_missing: (n,) bool: where the value is missing, or none of the column's kind.
        is_unseen: (n,) bool: where the category is none of those of training.
    """

    features: Floats
    is_missing: NDArray[np.bool_]
    is_unseen: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one column becomes features.

    Attributes:
        name: Name of the column.
        missing: Number of missing values in training. If there are any, a feature tells where one is missing.
    """

    kind: ClassVar[str]
    name: str
    missing: int = 0

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the k features."""
        raise NotImplementedError

    @property
    def is_plain(self) -> bool:
        """Whether the only feature is the value itself, wherever there is one."""
        return False

    def encode(self, values: Any) -> Encoded:
        """Encode Arrow's values (n,)."""
        raise NotImplementedError

    def _with_indicator(self, features: Floats, is_missing: NDArray[np.bool_]) -> Floats:
        return np.column_stack([features, is_missing]) if self.missing else features

    def _indicator(self) -> tuple[str, ...]:
        return (f"{self.name} is missing",) if self.missing else ()


@dataclass(frozen=True, kw_only=True)
class NumberColumn(Column):
    """A column of numbers, booleans (as 0 and 1), or times (in days), where NaN is a missing value.

    The feature is (x - shift) / scale, with 0 and 1 unless float32 would lose digits; where the column is
    skewed, a second one is the Yeo-Johnson transformation of x / unit.

    Attributes:
        fill: The value in place of a missing one: the median.
        is_boolean: Whether words such as yes and no stand for 1 and 0.
        format: The format of times, as pandas writes it; None for numbers.
        shift: What is subtracted.
        scale: By what is divided.
        power: Exponent of the transformation (Yeo and Johnson, Biometrika 87, 2000); None: not skewed.
        unit: The unit of the transformation.
        has_hours: Whether two further features tell the time of day, as an angle.
    """

    kind: ClassVar[str] = "number"
    fill: float = 0.0
    is_boolean: bool = False
    format: str | None = None
    shift: float = 0.0
    scale: float = 1.0
    power: float | None = None
    unit: float = 1.0
    has_hours: bool = False

    @property
    def is_plain(self) -> bool:
        return self == NumberColumn(name=self.name, fill=self.fill, is_boolean=self.is_boolean)

    @property
    def feature_names(self) -> tuple[str, ...]:
        further = [] if self.power is None else [f"{self.name}, less skewed"]
        further += (
            [f"{self.name}, {part} of the day" for part in ("sine", "cosine")] if self.has_hours else []
        )
        return (self.name, *further, *self._indicator())

    def encode(self, values: Any) -> Encoded:
        x = numbers(values, is_boolean=self.is_boolean) if self.format is None else times(values, self.format)
        is_missing = np.isnan(x)
        x = np.where(is_missing, self.fill, x)
        parts = [(x - self.shift) / self.scale]
        parts += [] if self.power is None else [yeo_johnson(x / self.unit, self.power)]
        parts += [f(2 * np.pi * x) for f in (np.sin, np.cos)] if self.has_hours else []
        features = self._with_indicator(np.column_stack(parts), is_missing)
        return Encoded(features, is_missing, np.zeros(len(x), dtype=np.bool_))


@dataclass(frozen=True, kw_only=True)
class CategoryColumn(Column):
    """A column of categories: a 0-1 feature per frequent level, and one for the others if there are any.

    A category that training had not seen is one of the others; without others, it has zeros everywhere.

    Attributes:
        levels: The levels that are frequent in training, sorted.
        others: The other levels of training, sorted.
    """

    kind: ClassVar[str] = "category"
    levels: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        others = (f"{self.name} is another",) if self.others else ()
        return (*(f"{self.name} = {level}" for level in self.levels), *others, *self._indicator())

    def encode(self, values: Any) -> Encoded:
        found = texts(values)
        is_missing = np.asarray(found.is_null().to_numpy(zero_copy_only=False))
        words = found.to_pandas().astype(object)
        codes = pd.Index(self.levels, dtype=object).get_indexer(pd.Index(words))
        is_other = (codes < 0) & ~is_missing
        one_hot = (codes[:, None] == np.arange(len(self.levels))).astype(np.float64)
        features = np.column_stack([one_hot, is_other]) if self.others else one_hot
        is_unseen = is_other & ~words.isin(self.others).to_numpy()
        return Encoded(self._with_indicator(features, is_missing), is_missing, is_unseen)


@dataclass(frozen=True, kw_only=True)
class VectorColumn(Column):
    """A column of lists of d numbers, such as embeddings: d features.

    Attributes:
        fill: (d,) the means, in place of a missing list or number.
    """

    kind: ClassVar[str] = "vector"
    fill: tuple[float, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        return (*(f"{self.name}[{k}]" for k in range(len(self.fill))), *self._indicator())

    def encode(self, values: Any) -> Encoded:
        x = vectors(values)
        if x is not None and x.shape[1] == 0:  # nulls alone
            x = np.full((len(x), len(self.fill)), np.nan)
        if x is None or x.shape[1] != len(self.fill):
            found = "lists of differing lengths" if x is None else f"lists of {x.shape[1]}"
            raise InputError(
                f"column {self.name!r}: expected lists of {len(self.fill)} numbers, found {found}"
            )
        is_missing = np.asarray(np.isnan(x).any(axis=1))
        filled = np.where(np.isnan(x), self.fill, x)
        return Encoded(self._with_indicator(filled, is_missing), is_missing, np.zeros(len(x), dtype=np.bool_))


_KINDS: dict[str, type[Column]] = {kind.kind: kind for kind in (NumberColumn, CategoryColumn, VectorColumn)}


def as_dict(column: Column) -> dict[str, Any]:
    """Return a column as plain values: its kind, its name, and what differs from the defaults."""
    values = {f.name: getattr(column, f.name) for f in fields(column) if f.name != "name"}
    defaults = asdict(type(column)(name=""))
    changed = {name: value for name, value in values.items() if value != defaults[name]}
    return {"kind": column.kind, "name": column.name, **changed}


def from_dict(values: Mapping[str, Any]) -> Column:
    """Build a column from the result of :func:`as_dict`, also if JSON made its tuples lists."""
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    kind: str = plain.pop("kind")
    return _KINDS[kind](**plain)


def feature_names(columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the names of the features of all columns, in order."""
    return tuple(name for column in columns for name in column.feature_names)


def is_plain(columns: Sequence[Column]) -> bool:
    """Tell whether the features are the values of the columns themselves, one by one."""
    return all(column.is_plain for column in columns)


def encode(
    table: pa.Table, columns: Sequence[Column], where: str, rows: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], list[str]]:
    """Encode a table's columns as features.

    Args:
        table: n rows, with all the columns.
        columns: How each column becomes features.
        where: File or array, for messages.
        rows: (n,) row of each in ``where``, by default its index.

    Returns:
        The features (n, d), and a remark for each column with values of which training had none.

    Raises:
        InputError: most values of a column, of 100 or more that are not blank, are not of its kind. Of fewer,
            such as one row or the last rows of a file, the odd values are taken for missing, with a remark.
    """
    features = np.empty((len(table), len(feature_names(columns))), dtype=np.float32)
    remarks: list[str] = []
    first = 0
    for column in columns:
        values = table[column.name]
        encoded = _encode_column(values, column, where)
        is_filled = ~is_blank(values)
        is_wrong = encoded.is_missing & is_filled
        if is_wrong.sum() > is_filled.sum() / 2 and is_filled.sum() >= _ENOUGH_TO_REFUSE:
            raise _wrong_kind(values, is_wrong, column, where, rows)
        last = first + encoded.features.shape[1]
        with np.errstate(over="ignore"):  # the check for finite features reports it with its row
            features[:, first:last] = encoded.features
        first = last
        remarks += _remarks(values, column, encoded, is_wrong)
    return features, remarks


def yeo_johnson(x: Floats, power: float) -> Floats:
    """Apply the Yeo-Johnson transformation; infinite values stay what they are."""
    above, below = (np.where(np.isinf(x), 0, np.maximum(part, 0)) for part in (x, -x))
    parts = (_box_cox(above, power), -_box_cox(below, 2 - power))
    return np.where(np.isinf(x), x, np.where(x >= 0, *parts))


def _box_cox(x: Floats, power: float) -> Floats:
    """Return ((x + 1) ** power - 1) / power, log(x + 1) for power 0, of x >= 0."""
    log: Floats = np.log1p(x)
    return log if abs(power) < 1e-9 else np.expm1(power * log) / power


def _encode_column(values: Any, column: Column, where: str) -> Encoded:
    try:
        return column.encode(values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except pa.ArrowException as error:
        raise InputError(
            f"{where}: column {column.name!r}: expected a {column.kind}, as in training, "
            f"found values of type {values.type}"
        ) from error


def _wrong_kind(
    values: Any, is_wrong: NDArray[np.bool_], column: Column, where: str, rows: NDArray[np.int64] | None
) -> InputError:
    first = int(np.argmax(is_wrong))
    return InputError(
        f"{where}: row {first if rows is None else rows[first]}, column {column.name!r}: expected a "
        f"{column.kind}, as in training, found {values[first].as_py()!r}, and so in {is_wrong.sum()} of "
        f"{len(values)} rows"
    )


def _remarks(values: Any, column: Column, encoded: Encoded, is_wrong: NDArray[np.bool_]) -> Iterator[str]:
    """Yield a remark on values that are taken for missing, on new missing ones, and on new categories."""
    if is_wrong.any():
        examples = _examples(values, is_wrong)
        yield f"{column.name}: {is_wrong.sum()} taken for missing, as they are no {column.kind} ({examples})"
    new = encoded.is_missing & ~is_wrong
    if new.any() and not column.missing:
        yield f"{column.name}: {new.sum()} missing, as none was in training"
    if encoded.is_unseen.any():
        examples = _examples(values, encoded.is_unseen)
        n = encoded.is_unseen.sum()
        yield f"{column.name}: {n} of categories that training did not have ({examples})"


def _examples(values: Any, mask: NDArray[np.bool_]) -> str:
    return shorten(values.filter(pa.array(mask)).unique().to_pylist(), 3)
