"""Read the values of a column, of any type of Arrow's, as numbers, times in days, texts or vectors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MISSING_WORDS = ("?", "na", "n/a", "nan", "null", "none", "-")
"""Words, in lower case, that stand for a missing value among numbers, booleans and times."""

TRUTH_PAIRS = ({"yes", "no"}, {"true", "false"}, {"y", "n"}, {"t", "f"})
"""Pairs of words, in lower case, of which a boolean column consists."""

TRUTH_WORDS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0, "y": 1.0, "n": 0.0, "t": 1.0, "f": 0.0}
"""The numbers that these words stand for."""

_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y")
TIME_FORMATS = ("ISO8601", *(f"{day}{time}" for day in _DAYS[1:] for time in ("", " %H:%M", " %H:%M:%S")))
"""Formats of times as pandas writes them, in the order in which they are tried."""

_PER_DAY = 86_400e6  # microseconds


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values of a type are texts, perhaps stored as indices into a dictionary."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Tell whether values of a type are numbers or booleans."""
    types = pa.types
    return bool(
        types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    )


def is_vector(kind: pa.DataType) -> bool:
    """Tell whether values of a type are lists of numbers."""
    types = pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and is_number(kind.value_type) and not types.is_boolean(kind.value_type))


def numbers(values: Any, *, is_boolean: bool = False) -> Floats:
    """Convert numbers and booleans, or texts of them, to float64 (n,); all else becomes NaN.

    Of texts, :data:`TRUTH_WORDS` are converted with ``is_boolean``, and numbers in any case.
    """
    values = _plain(values)
    if is_text(values.type):
        return _parsed(values, parse_booleans if is_boolean else parse_numbers)
    if not is_number(values.type):
        return np.full(len(values), np.nan)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    converted = values.cast(pa.float64(), safe=False)
    return np.asarray(converted.to_numpy(zero_copy_only=False), dtype=np.float64)


def times(values: Any, format: str) -> Floats:
    """Convert dates, times or durations, or texts of this format, to days (n,); others become NaN.

    Dates count from 1970 in UTC, and times of day from midnight.
    """
    values = _plain(values)
    if is_text(values.type):
        return _parsed(values, lambda texts: parse_times(texts, format))
    if pa.types.is_time(values.type):
        values = values.cast(pa.time64("us"))
    elif pa.types.is_duration(values.type):
        values = values.cast(pa.duration("us"), safe=False)
    elif pa.types.is_temporal(values.type):
        values = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)
    else:
        return np.full(len(values), np.nan)
    return numbers(values.cast(pa.int64())) / _PER_DAY


def texts(values: Any) -> pa.Array:
    """Convert values to texts (n,) without spaces around them; blank ones become null.

    Raises:
        pyarrow.ArrowException: values of this type have no text.
    """
    trimmed = pc.utf8_trim_whitespace(_plain(values).cast(pa.large_string()))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.large_string()), trimmed)


def is_blank(values: Any) -> NDArray[np.bool_]:
    """Tell which values (n,) are null, blank, or one of :data:`MISSING_WORDS`."""
    values = _plain(values)
    if is_text(values.type):
        words = pc.utf8_lower(texts(values))
        blank = pc.or_(words.is_null(), pc.is_in(words, pa.array(MISSING_WORDS, words.type)))
    else:
        blank = values.is_null(nan_is_null=True)
    return np.asarray(blank.to_numpy(zero_copy_only=False))


def vectors(values: Any) -> Floats | None:
    """Convert lists of numbers to (n, d), a row of NaN for a null; None if their lengths differ."""
    values = _plain(values)
    lengths = pc.list_value_length(values).drop_null().unique().to_pylist()
    if len(lengths) > 1:
        return None
    is_there = np.asarray(values.is_valid().to_numpy(zero_copy_only=False))
    rows = np.full((len(values), lengths[0] if lengths else 1), np.nan)
    if lengths:
        rows[is_there] = numbers(values.drop_null().flatten()).reshape(is_there.sum(), lengths[0])
    return rows


def parse_numbers(texts: "pd.Series[Any]") -> Floats:
    """Parse texts (n,) as numbers; others become NaN."""
    parsed: Floats = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return parsed


def parse_booleans(texts: "pd.Series[Any]") -> Floats:
    """Parse texts (n,) as numbers or :data:`TRUTH_WORDS`; others become NaN."""
    words = texts.str.lower().map(TRUTH_WORDS).to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isnan(words), parse_numbers(texts), words)


def parse_times(texts: "pd.Series[Any]", format: str) -> Floats:
    """Parse texts (n,) as times of a format, in days since 1970; others become NaN."""
    stamps = pd.to_datetime(texts, format=format, errors="coerce", utc=True).dt.tz_localize(None)
    since = stamps.to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(since), np.nan, since.astype(np.int64) / _PER_DAY)


def _parsed(values: Any, parse: "Callable[[pd.Series[Any]], Floats]") -> Floats:
    """Parse each distinct text once."""
    encoded = texts(values).dictionary_encode()
    parsed: Floats = np.append(parse(encoded.dictionary.to_pandas().astype(object)), np.nan)
    codes = np.asarray(encoded.indices.fill_null(len(parsed) - 1).to_numpy(zero_copy_only=False))
    values_of_rows: Floats = parsed[codes]
    return values_of_rows


def _plain(values: Any) -> pa.Array:
    """Return a column as one array, not as indices into a dictionary."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):  # more texts than one array holds
        array = array.cast(pa.large_string()).combine_chunks()
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
