"""Tables of checked labels: which rows of the data were checked, and which labels they have got.

They have the inputs of the data they belong to, and no others. There are two kinds, both CSV: the table that
`emlc draw` writes, with the columns id, given_label and checked_label; and decisions.csv, from a page in the
browser, with the columns id, given_label, decision and label. Rows without a checked label, or whose decision
is "skip", "recheck" or "exclude", were not checked and stay noisy.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.classes import TextLabels, class_codes, shorten
from emlc.data.sources.delimited import header_of, is_delimited, read_delimited
from emlc.data.sources.source import Source
from emlc.data.sources.text_files import find_encoding
from emlc.errors import InputError, raise_together

_log = logging.getLogger(__name__)

CHECKED = "checked_label"
"""Column of the labels in the table that `emlc draw` writes."""

_BY_HAND = {"id", "given_label", CHECKED}
_BY_BROWSER = {"id", "given_label", "decision", "label"}
_WITHOUT_LABEL = ("skip", "recheck", "exclude")
_SHOWN = 10
"""Number of wrong rows that a message lists."""


def is_checked_table(source: str | None, settings: DataSettings) -> bool:
    """Tell whether a source is a table of checked labels, by the names of its columns."""
    if source is None or not is_delimited(Path(source)) or not Path(source).is_file():
        return False
    try:
        header = set(header_of(Path(source), _as_saved(Path(source), settings)))
    except InputError:  # whoever reads it as data says what is wrong
        return False
    return header >= _BY_HAND or header >= _BY_BROWSER


def _as_saved(file: Path, settings: DataSettings) -> DataSettings:
    """Return the settings without those of how DATA are written: emlc or a spreadsheet wrote this table.

    Only text that is not in UTF-8 is in the encoding that is named, if one is.
    """
    own = replace(settings, separator=None, encoding=None)
    if settings.encoding is None:
        return own
    try:
        is_utf8 = find_encoding(file).odd is None
    except InputError:
        is_utf8 = False
    return own if is_utf8 else replace(own, encoding=settings.encoding)


class Checked(NamedTuple):
    """Rows of the data that were checked, (k,) int64, and the labels that they have got, (k,) as indices."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


def with_checked_labels(data: Source, settings: DataSettings) -> Source:
    """Return the data with the rows trusted that ``settings.trusted`` lists, under their checked labels.

    Rows that the data mark as trusted stay so. Where ``settings.trusted`` is no such table, the data are
    returned as they are.

    Raises:
        InputError: as :func:`read_checked`.
    """
    checked = read_checked(data, settings)
    return data if checked is None else trusting(data, checked)


def read_checked(data: Source, settings: DataSettings) -> Checked | None:
    """Read which rows of the data were checked; None where ``settings.trusted`` is no such table.

    Raises:
        InputError: no row is checked; an id is not in the data, or twice in the table; a given label is not
            the one of the data; or a checked label is no class. Rows are numbered from 0.
    """
    if settings.trusted is None or not is_checked_table(settings.trusted, settings):
        return None
    file = settings.trusted
    chosen = _as_saved(Path(file), settings)
    table = read_delimited(Path(file), [*_BY_HAND, *_BY_BROWSER], chosen).to_pandas()
    if not table.columns.is_unique:
        repeated = sorted({*table.columns[table.columns.duplicated()]})
        raise InputError(f"{file}: columns occur more than once: {shorten(repeated)}; rename or remove one")
    by_hand = CHECKED in table
    is_checked = table[CHECKED].str.strip() != "" if by_hand else ~table["decision"].isin(_WITHOUT_LABEL)
    checked = table[is_checked]
    labels = checked[CHECKED if by_hand else "label"].str.strip()
    if checked.empty:
        column = CHECKED if by_hand else "decision"
        raise InputError(
            f"{file}: none of {len(table):,} rows has been checked: the column {column} is empty"
        )
    rows = (
        pd.Index(data.ids, dtype=object).get_indexer(pd.Index(checked["id"], dtype=object)).astype(np.int64)
    )
    raise_together(_problems(checked, labels, rows, data, file), file, shown=_SHOWN)
    if left := len(table) - len(checked):
        _log.info(f"{file}: {len(checked):,} labels are checked; {left:,} rows without one stay noisy")
    return Checked(rows, class_codes(labels, data.classes))


def trusting(data: Source, checked: Checked) -> Source:
    """Return the data with checked rows trusted, beside those that the data mark as trusted."""
    rows, codes = checked
    nothing = np.full(len(data), "", dtype=np.object_)
    before = nothing if data.label_before_review is None else data.label_before_review.copy()
    before[rows] = TextLabels(data.given[rows], data.classes).decoded()
    given, in_use = data.given.copy(), data.in_use
    trusted = np.zeros(len(data), dtype=np.bool_) if data.trusted is None else data.trusted.copy()
    given[rows], trusted[rows], in_use[rows] = codes, True, True
    truth = data.true_labels
    if truth is not None:  # what was checked counts more than the column of true labels
        truth = truth.copy()
        truth[rows] = codes
    left_out = None if in_use.all() else ~in_use
    return replace(
        data,
        labels=given,
        true_labels=truth,
        trusted=trusted,
        label_before_review=before,
        left_out=left_out,
    )


def _problems(
    checked: pd.DataFrame, labels: "pd.Series[str]", rows: NDArray[np.int64], data: Source, file: str
) -> list[str]:
    twice, problems = checked["id"].duplicated(keep=False), []
    parts = zip(checked.index, checked["id"], checked["given_label"], labels, rows, twice, strict=True)
    for number, sample_id, given, label, row, is_twice in parts:
        where = f"{file}: row {number} (id {sample_id!r})"
        if row < 0:
            problems.append(f"{where}: expected an id of the data, but {data.name} has no such id")
        elif is_twice:
            problems.append(f"{where}: the id occurs more than once")
        elif given != (found := [*data.classes, ""][data.given[row]]):  # -1 where there is none
            problems.append(
                f"{where}: given_label: expected {found!r}, as in {data.name}, found {given!r}: the data, or "
                "the order of their rows, have changed since this table was written"
            )
        if label not in data.classes:
            expected = shorten([*data.classes])
            problems.append(
                f"{where}: expected one of the classes {expected}, found {label!r}; --classes adds one"
            )
    return problems
