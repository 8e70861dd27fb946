"""decisions.csv: what a reviewer decided, sample by sample, read and checked against a run's split.

==================  ===========================================================================
column              content
==================  ===========================================================================
id                  of a noisy sample
decision            accept (the suggested label), keep (the given one), other (another one); skip, recheck
                    (needs another look): undecided; exclude (leave the sample out)
label               the class that the reviewer settled on; empty if undecided or left out
given_label         the given label that the reviewer saw
suggested_label     the suggested label that the reviewer saw
chosen              how the sample was chosen: worst (first), random, or picked (by a filter, another
                    order or a selection); empty, or without the column: not known
==================  ===========================================================================

The database of `emlc review`, review.sqlite, is read in its place; see :mod:`emlc.review.outcomes`.
"""

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emlc.data import Samples, Split
from emlc.data.classes import UNKNOWN, shorten
from emlc.data.reviewed import ORDERS
from emlc.errors import InputError, raise_together
from emlc.review.outcomes import outcomes
from emlc.review.store import is_store, read_store

_log = logging.getLogger(__name__)

COLUMNS = ("id", "decision", "label", "given_label", "suggested_label")
"""Names of the columns that the file must have."""

WORDS = ("accept", "keep", "other", "skip", "recheck", "exclude")
"""Kinds of decisions."""

WITHOUT_LABEL = ("skip", "recheck", "exclude")
"""Kinds of decisions that settle on no label."""

CHOSEN = "chosen"
"""Name of a column that the file may have."""

_SHOWN = 10  # problems listed of a file
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Decisions:
    """Decisions on m of the noisy samples.

    Attributes:
        rows: (m,) int64, distinct positions among the noisy samples.
        labels: (m,) int64, the class that the reviewer settled on; ``UNKNOWN`` where there is none.
        chosen: (m,) texts, how each sample was chosen: a word of ``ORDERS``, or empty.
        excluded: (k,) int64, those of the rows whose samples are left out.
        counts: Number of decisions for each word of ``WORDS``.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    chosen: NDArray[np.object_]
    excluded: NDArray[np.int64]
    counts: dict[str, int]

    @property
    def settled(self) -> "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.object_]]":
        """Rows and labels of the samples that got a label, and how these were chosen."""
        is_settled = self.labels != UNKNOWN
        return self.rows[is_settled], self.labels[is_settled], self.chosen[is_settled]


def read_decisions(path: Path, split: Split) -> Decisions:
    """Read decisions on the noisy samples of a split.

    Raises:
        InputError: If the file cannot be read, or a row does not fit these samples; lists the first such
            rows (from 0).
    """
    table = _read_outcomes(path) if is_store(path) else _read(path)
    index = {sample_id: row for row, sample_id in enumerate(split.noisy.ids)}
    others = {
        sample_id: role
        for role in ("trusted", "validation", "test")
        if (samples := getattr(split, role)) is not None
        for sample_id in samples.ids
    }
    repeated = Counter(row["id"] for row in table)
    problems = []
    for number, row in enumerate(table):
        row_problems = list(_problems(row, split.noisy, index, others, repeated))
        problems += [f"{path}: row {number} (id {row['id']!r}): {problem}" for problem in row_problems]
    raise_together(problems, str(path), shown=_SHOWN)
    classes = {name: k for k, name in enumerate(split.classes)} | {"": UNKNOWN}
    words = Counter(row["decision"] for row in table)
    excluded = [index[row["id"]] for row in table if row["decision"] == "exclude"]
    return Decisions(
        rows=np.array([index[row["id"]] for row in table], dtype=np.int64),
        labels=np.array([classes[row["label"]] for row in table], dtype=np.int64),
        chosen=np.array([row.get(CHOSEN, "") for row in table], dtype=np.object_),
        excluded=np.array(excluded, dtype=np.int64),
        counts={word: words[word] for word in WORDS},
    )


def _problems(
    row: Mapping[str, str],
    noisy: Samples,
    index: Mapping[str, int],
    others: Mapping[str, str],
    repeated: Mapping[str, int],
) -> Iterator[str]:
    sample_id, word, label = row["id"], row["decision"], row["label"]
    if repeated[sample_id] > 1:
        yield f"the id occurs {repeated[sample_id]} times, expected one decision per sample"
    if word not in WORDS:
        yield f"decision: expected {', '.join(WORDS)}, found {word!r}"
    elif word in WITHOUT_LABEL and label:
        yield f"label: expected none with {word}, found {label!r}"
    elif word not in WITHOUT_LABEL and label not in noisy.classes:
        yield f"label: expected one of the classes {shorten(noisy.classes)}, found {label!r}"
    if row.get(CHOSEN, "") not in ("", *ORDERS):
        yield f"{CHOSEN}: expected {', '.join(ORDERS)} or nothing, found {row[CHOSEN]!r}"
    if sample_id not in index:
        role = others.get(sample_id)
        yield (
            "expected the id of a noisy sample of the run, found "
            + (f"one of its {role} samples" if role else "one that it does not have")
        )
        return
    given_label = noisy.classes[noisy.given[index[sample_id]]]
    if row["given_label"] != given_label:
        yield (
            f"given_label: the run has {given_label!r}, found {row['given_label']!r}; "
            "the decisions belong to another run, or its data have changed"
        )
    shown = {"accept": "suggested_label", "keep": "given_label"}.get(word)
    if shown and label != row[shown]:
        yield f"label: {word} means the {shown}, {row[shown]!r}, found {label!r}"


def _read_outcomes(path: Path) -> list[dict[str, str]]:
    found = outcomes(read_store(path))
    if open_ones := sum(outcome.disagree for outcome in found):
        _log.warning(
            f"{path}: reviewers disagree on {open_ones:,} of {len(found):,} samples, which stay undecided; "
            "`emlc review` shows them under Decision: disagreements"
        )
    return [outcome.row() for outcome in found]


def _read(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected UTF-8, which byte {error.start} is not; save it as CSV UTF-8"
        ) from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty; expected the columns {', '.join(COLUMNS)}")
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    _check_header(header, path)
    rows = [row for row in rows if row]  # a blank line
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise InputError(f"{path}: row {number}: expected {len(header)} cells, found {len(row)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _check_header(header: Sequence[str], path: Path) -> None:
    for separator, name in _SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise InputError(
                f"{path}: expected cells separated by commas, found {name}; a spreadsheet has saved it so: "
                "save it as CSV UTF-8, comma delimited"
            )
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise InputError(f"{path}: no column {' or '.join(map(repr, missing))}; found: {shorten(header)}")
    twice = [column for column in (*COLUMNS, CHOSEN) if header.count(column) > 1]
    if twice:
        raise InputError(f"{path}: columns occur more than once: {', '.join(twice)}")
