"""The lock of a run directory: one process at a time writes into it."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from emlc.errors import InputError

_log = logging.getLogger(__name__)

LOCK = ".lock"
"""Name of the lock in a run directory; it is there while a process writes there, and after a crash."""


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing; what was made and stayed empty is removed.

    The operating system frees the lock when its process ends, however it ends: a file that a crash has left
    is no obstacle.

    Raises:
        InputError: another process holds it; the message says which one, and since when.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"output: {folder} is in use by {_holder(path)}; wait until it ends, or name another output"
        ) from error
    except OSError as error:
        raise InputError(f"output: {folder} cannot be written to: {error}; name another output") from error
    try:
        _sign(path)
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release: nobody else holds it yet
        lock.release()
        with suppress(OSError):  # it is not empty
            for made in missing:
                made.rmdir()


def warn_if_in_use(folder: Path) -> None:
    """Log a warning if another process holds the lock of a folder that is read only."""
    path = folder / LOCK
    if not path.exists():
        return
    try:
        with FileLock(path, blocking=False):
            return
    except Timeout:
        _log.warning(f"{folder} is in use by {_holder(path)}: what is read of it may be of different epochs")
    except OSError as error:
        _log.debug(f"{path}: {error}")


def _sign(path: Path) -> None:
    """Write into the lock who holds it; not atomically, as another file would not be locked."""
    now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    path.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}))


def _holder(path: Path) -> str:
    try:
        signed = json.loads(path.read_text())
        where = "" if signed["host"] == socket.gethostname() else f" on {signed['host']}"
        return f"process {signed['process']}{where} since {signed['since']}"
    except (OSError, ValueError, TypeError, KeyError):  # it has not signed yet
        return "another process"
