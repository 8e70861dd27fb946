"""Keep embeddings on disk, so that nothing is embedded twice: one SQLite file per model."""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.errors import InputError

_log = logging.getLogger(__name__)

T = TypeVar("T")
Block = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Positions (m,) among the requested texts or images, and their embeddings (m, d)."""

_LIMIT = 8 * 2**30
"""Largest number of bytes of embeddings in a file; beyond it the oldest are deleted."""
_TABLE = """CREATE TABLE IF NOT EXISTS embeddings
    (id INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, vector BLOB NOT NULL, digest BLOB NOT NULL)"""
_READ = 500  # rows read at once
_WAIT = 60.0  # seconds that another process may take to write a block


class EmbeddingCache:
    """The embeddings of one model, looked up by a hash of what was embedded.

    A row holds the hash, the embedding, and a hash of both, so that a damaged row is skipped. A
    file that is not such a database is replaced. Several processes may share a folder.

    Args:
        folder: Folder of the file; None: nothing is kept.
        model: Hash of the model's files, which names the file.
        waits: Whether one process embeds while the others wait, since they look up the same.
    """

    def __init__(self, folder: Path | None, model: str, *, waits: bool = True) -> None:
        self._path = None if folder is None else folder / f"{model}.sqlite"
        self._waits = waits

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock while embedding; other processes wait for it, and then read what was written."""
        if self._path is None or not self._waits:
            yield
            return
        lock = FileLock(self._path.with_suffix(".lock"))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise self._unusable(error) from error
        try:
            yield
        finally:
            lock.release()

    def read(self, keys: Sequence[bytes]) -> Iterator[Block]:
        """Yield the embeddings of those keys that are in the file, in blocks."""
        if self._path is None or not self._path.exists():
            return
        for start in range(0, len(keys), _READ):
            positions = {key: start + k for k, key in enumerate(keys[start : start + _READ])}
            intact = self._rows(list(positions))
            if intact:
                vectors = np.frombuffer(b"".join(intact.values()), dtype="<f4")
                yield np.array([positions[key] for key in intact]), vectors.reshape(len(intact), -1)

    def _rows(self, keys: list[bytes]) -> dict[bytes, bytes]:
        query = f"SELECT key, vector, digest FROM embeddings WHERE key IN ({','.join('?' * len(keys))})"

        def select(connection: sqlite3.Connection) -> list[tuple[bytes, bytes, bytes]]:
            return connection.execute(query, keys).fetchall()

        empty: list[tuple[bytes, bytes, bytes]] = []
        rows = self._with(select, empty.copy)
        return {key: vector for key, vector, digest in rows if digest == _digest(key, vector)}

    def write(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Write the embeddings (m, d) of m keys."""
        if self._path is None:
            return
        rows = []
        for key, vector in zip(keys, vectors.astype("<f4"), strict=True):
            values = vector.tobytes()
            rows.append((key, values, _digest(key, values)))
        max_rows = _LIMIT // vectors[0].nbytes

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO embeddings (key, vector, digest) VALUES (?, ?, ?)", rows
            )
            connection.execute(
                "DELETE FROM embeddings WHERE id <= (SELECT max(id) FROM embeddings) - ?", (max_rows,)
            )

        self._with(insert, lambda: self._with(insert, lambda: None))

    def _with(self, work: Callable[[sqlite3.Connection], T], otherwise: Callable[[], T]) -> T:
        """Return ``work`` of the database; if that is broken, delete it and return ``otherwise()``."""
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=_WAIT)) as connection, connection:
                connection.execute(_TABLE)
                return work(connection)
        except (
            OSError,
            sqlite3.OperationalError,
        ) as error:  # no permission, no space, or locked for too long
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            _log.warning(f"embedding_cache: {self._path} is broken ({error}), and is written anew")
            self._path.unlink(missing_ok=True)
            self._path.with_name(f"{self._path.name}-journal").unlink(missing_ok=True)
            return otherwise()

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"embedding_cache: {self._path} cannot be used: {error}; name another folder, or null"
        )


def embedding_place(settings: DataSettings) -> tuple[str, bool]:
    """Return the device to embed on, and whether processes wait for each other, if the settings have them."""
    return getattr(settings, "device", "auto"), getattr(settings, "waits", True)


def content_key(*parts: bytes) -> bytes:
    """Return the hash by which a text or an image is looked up, 16 bytes."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _digest(key: bytes, vector: bytes) -> bytes:
    return blake2b(key + vector, digest_size=8).digest()
