"""Find the kind of each column from the training data, and fit how it becomes features."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from emlc.data.classes import shorten
from emlc.data.columns.encoding import CategoryColumn, Column, VectorColumn
from emlc.data.columns.fit_numbers import NumberFit
from emlc.data.columns.values import (
    MISSING_WORDS,
    TIME_FORMATS,
    TRUTH_PAIRS,
    is_number,
    is_text,
    is_vector,
    numbers,
    parse_numbers,
    parse_times,
    texts,
    times,
    vectors,
)
from emlc.errors import InputError

_log = logging.getLogger(__name__)

NEARLY_ALL = 0.95
"""Share of a column's texts that have to be numbers, or times, for the others to be taken for missing."""

MOST_LEVELS = 64
"""Maximum number of categories of a column that have a feature of their own."""

MOST_COLUMNS = 100
"""Number of columns up to which skewed ones are also transformed: more are the features of some network."""

_FREQUENT = 10
"""Number of samples from which on a category is frequent; below 1,000 rows 1 % of them, at least 2."""

_TRIED = 1000
"""Number of distinct texts, the most frequent ones, on which formats of times are tried."""

_WORDS_OF_TEXT = 4
"""Mean number of words from which on values that nearly all differ are called texts."""


def fit_columns(
    table: pa.Table, where: str, *, named: bool = False, classes: Sequence[str] = ()
) -> tuple[Column, ...]:
    """Find how each column of a table becomes features; one line of the log names those that are left out.

    Args:
        table: The training samples (n rows), with the columns to learn from.
        where: File or array, for messages.
        named: Whether the user named the columns, so that none may be left out.
        classes: Class names. A column of nothing but these has further labels, and is left out.

    Returns:
        The columns that are learned from, in the table's order; none if nothing can be learned from any.

    Raises:
        InputError: a named column cannot become features.
    """
    fit = NumberFit(keeps_all=named, transforms=table.num_columns <= MOST_COLUMNS)
    labels = set() if named or _are_truth_words(classes) else set(classes)
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    for name in table.column_names:
        fitted = _fit_column(name, table[name], fit)
        if isinstance(fitted, CategoryColumn) and {*fitted.levels, *fitted.others} <= labels:
            fitted = "class names"
        if isinstance(fitted, Column):
            columns.append(fitted)
        elif named:
            raise InputError(f"{where}: column {name!r} (--feature_columns) cannot be learned from: {fitted}")
        else:
            left_out[name] = fitted
    if left_out:
        reasons = [f"{name} ({reason})" for name, reason in left_out.items()]
        _log.warning(f"{where}: not used as features: {shorten(reasons)}")
    return tuple(columns)


def _fit_column(name: str, values: Any, fit: NumberFit) -> Column | str:
    """Return how a column becomes features, or in words why it is left out."""
    kind = values.type
    if is_text(kind):
        return _fit_text(name, values, fit)
    if is_number(kind.value_type if pa.types.is_dictionary(kind) else kind):
        return fit.column(name, numbers(values), is_boolean=pa.types.is_boolean(kind))
    if pa.types.is_temporal(kind):
        return fit.column(name, times(values, "ISO8601"), format="ISO8601")
    if is_vector(kind):
        return _fit_vector(name, values)
    return "empty" if pa.types.is_null(kind) else f"values of type {kind}"


def _fit_text(name: str, values: Any, fit: NumberFit) -> Column | str:
    """Fit a column of texts as numbers, booleans or times if nearly all are, else as categories."""
    found = texts(values)
    counts = found.to_pandas().value_counts()
    counts = counts[~pd.Series(counts.index, dtype=object).str.lower().isin(MISSING_WORDS).to_numpy()]
    if len(counts) == 0:
        return "empty"
    levels = pd.Series(counts.index, dtype=object)
    if _are_truth_words(levels):
        return fit.column(name, numbers(values, is_boolean=True), is_boolean=True)
    if _are_nearly_all(~np.isnan(parse_numbers(levels)), counts):
        return fit.column(name, numbers(values))
    for format in TIME_FORMATS:
        if _are_nearly_all(~np.isnan(parse_times(levels[:_TRIED], format)), counts[:_TRIED]):
            return fit.column(name, times(values, format), format=format)
    return _fit_category(name, found, keeps=fit.keeps_all)


def _are_truth_words(words: Iterable[str]) -> bool:
    return any({word.lower() for word in words} <= pair for pair in TRUTH_PAIRS)


def _are_nearly_all(is_kind: NDArray[np.bool_], counts: "pd.Series[int]") -> bool:
    return bool(counts.to_numpy()[is_kind].sum() >= NEARLY_ALL * counts.sum())


def _fit_category(name: str, found: pa.Array, *, keeps: bool) -> Column | str:
    counts, missing = found.to_pandas().value_counts(), found.null_count
    if len(counts) == 1 < len(found) and not missing and not keeps:
        return "constant"
    least = max(2, min(_FREQUENT, len(found) // 100))
    frequent = counts[counts >= least].nlargest(MOST_LEVELS)
    if len(frequent) == 0 or (frequent.sum() < counts.sum() / 2 and not keeps):
        return _left_out(counts)
    levels = tuple(sorted(frequent.index))
    others = tuple(sorted(set(counts.index) - set(levels)))
    return CategoryColumn(name=name, missing=missing, levels=levels, others=others)


def _left_out(counts: "pd.Series[int]") -> str:
    """Return why a column of texts is left out, whose values nearly all differ."""
    levels = pd.Series(counts.index, dtype=object)
    if np.mean([len(text.split()) for text in levels]) >= _WORDS_OF_TEXT:
        return "texts; --text_column learns from them"
    is_number = ~np.isnan(parse_numbers(levels))
    others = shorten([repr(text) for text in levels[~is_number]], 3)
    mixed = f", numbers but for {others}" if is_number.mean() > 1 / 2 else ""
    return f"{len(counts):,} different values{mixed}"


def _fit_vector(name: str, values: Any) -> Column | str:
    x = vectors(values)
    if x is None:
        return "lists of differing lengths"
    is_there = ~np.isnan(x).all(axis=1) if x.shape[1] else np.zeros(len(x), dtype=np.bool_)
    if not is_there.any():
        return "empty"
    fill = np.nan_to_num(x[is_there]).mean(axis=0)
    return VectorColumn(name=name, missing=int(np.isnan(x).any(axis=1).sum()), fill=tuple(fill.tolist()))
