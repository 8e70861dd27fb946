"""The database of a review: one row per decision, and none is ever changed or deleted.

A later decision of the same reviewer on the same sample takes the place of the earlier one, and ``clear``
takes it back. SQLite keeps a row that was once written, even if the process is killed.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Lock

from emlc.errors import InputError

CLEAR = "clear"
"""What takes a decision back."""

_MAGIC = b"SQLite format 3\x00"
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    decision TEXT NOT NULL,
    label TEXT NOT NULL,
    given_label TEXT NOT NULL,
    suggested_label TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    time TEXT NOT NULL,
    shown TEXT NOT NULL,
    resolves INTEGER NOT NULL,
    seen INTEGER NOT NULL DEFAULT 0
)"""
_ADD_SEEN = "ALTER TABLE decisions ADD COLUMN seen INTEGER NOT NULL DEFAULT 0"
_LATEST = """
SELECT {names} FROM decisions WHERE number IN
(SELECT max(number) FROM decisions WHERE number > ? AND max(resolves, {seen}) <= ? GROUP BY id, reviewer)
ORDER BY number"""


@dataclass(frozen=True, kw_only=True)
class StoredDecision:
    """One row of the database.

    Attributes:
        id: Id of the sample.
        decision: A word of :data:`emlc.review.decisions.WORDS`, or ``clear``.
        label: The class that the reviewer settled on; empty if none.
        given_label: The given label that the reviewer saw.
        suggested_label: The suggested label that the reviewer saw; empty if there was none.
        reviewer: Name of the reviewer.
        time: When it was stored, in UTC, as 2026-01-31T12:00:00.000Z.
        shown: What else the reviewer saw of the sample, as JSON.
        resolves: Whether the reviewer saw that others disagree, and settles it.
        seen: Whether the decision is not independent: others' decisions on the sample had been shown, or it
            was loaded from a file.
        key: Text that no other decision has: what is sent twice is stored once.
        number: Number of the row, counted from 1; 0 before it is stored.
    """

    id: str
    decision: str
    label: str
    given_label: str
    suggested_label: str
    reviewer: str
    time: str
    shown: str = "{}"
    resolves: bool = False
    seen: bool = False
    key: str
    number: int = 0

    @property
    def chosen(self) -> str:
        """How the sample was chosen for review, as in decisions.csv; empty if that is not known."""
        try:
            shown = json.loads(self.shown)
        except (ValueError, RecursionError):  # of a database that something else has written to
            return ""
        return str(shown.get("chosen", "")) if isinstance(shown, dict) else ""


_NAMES = [field.name for field in fields(StoredDecision)]
_WRITTEN = _NAMES[:-1]


def is_store(path: Path) -> bool:
    """Return whether a file is an SQLite database, by its content."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read_store(path: Path) -> list[StoredDecision]:
    """Read the latest decision of each reviewer on each sample, without changing the database.

    Raises:
        InputError: the file is no database of a review.
    """
    with (
        _explained(path),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database,
    ):
        _check_version(database, path)
        return _latest(database)


class Store:
    """The open database of a review; several threads and processes may use it at once.

    Args:
        path: The file, which is created if it does not exist.

    Raises:
        InputError: the file cannot be written, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and path.stat().st_size > 0 and not is_store(path):
            raise InputError(f"{path}: expected the database of a review, found another file; move it away")
        with _explained(path):
            # Requests are handled by one thread at a time, but not always by the same.
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")  # a decision outlives a power failure, too
            self._database.execute("BEGIN IMMEDIATE")
            if not self._database.execute("SELECT 1 FROM sqlite_master").fetchone():
                self._database.execute(_SCHEMA)
                self._database.execute(f"PRAGMA user_version = {_VERSION}")
            self._database.execute("COMMIT")
            _check_version(self._database, path)
            self._database.execute("BEGIN IMMEDIATE")
            if not _has_seen(self._database):
                self._database.execute(_ADD_SEEN)
            self._database.execute("COMMIT")
        self._lock = Lock()

    def add(self, decisions: Sequence[StoredDecision]) -> None:
        """Store decisions, all or none; those whose key is stored already are left out."""
        places = ", ".join("?" for _ in _WRITTEN)
        rows = [[getattr(decision, name) for name in _WRITTEN] for decision in decisions]
        statement = (
            f"INSERT INTO decisions ({', '.join(_WRITTEN)}) VALUES ({places}) ON CONFLICT (key) DO NOTHING"
        )
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(statement, rows)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def latest(self, after: int = 0, *, independent: bool = False) -> list[StoredDecision]:
        """Return the latest decision of each reviewer on each sample; what was taken back is a ``clear``.

        Args:
            after: Only decisions that were stored after the one with this number.
            independent: Only decisions that were not made in sight of others', nor loaded from a file.
        """
        with self._lock:
            return _latest(self._database, after, independent=independent)

    def close(self) -> None:
        """Close the database, and fold its write-ahead log into it."""
        self._database.close()


def _latest(
    database: sqlite3.Connection, after: int = 0, *, independent: bool = False
) -> list[StoredDecision]:
    seen = "seen" if _has_seen(database) else "0"
    names = ", ".join(seen if name == "seen" else name for name in _NAMES)
    rows = database.execute(_LATEST.format(names=names, seen=seen), [after, not independent])
    decisions = (dict(zip(_NAMES, row, strict=True)) for row in rows)
    return [
        StoredDecision(**values | {name: bool(values[name]) for name in ("resolves", "seen")})
        for values in decisions
    ]


def _has_seen(database: sqlite3.Connection) -> bool:
    """Return whether there is the column ``seen``, which the first databases did not have."""
    return "seen" in {column[1] for column in database.execute("PRAGMA table_info(decisions)")}


def _check_version(database: sqlite3.Connection, path: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version != _VERSION:
        raise InputError(
            f"{path}: expected the database of a review, version {_VERSION}, found version {version}: it is "
            "another program's, or a newer emlc's"
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise InputError(f"{path}: not usable as the database of a review: {error}") from error
