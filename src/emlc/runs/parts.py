"""Outputs that are made in parts, by one process or several on one machine or many, and then joined.

While OUTPUT is made, the folder OUTPUT.parts beside it holds ``parts.json``, which says what the parts are
made of, and of each finished part its files and, written last, its facts: ``part-00007-of-00153.json``. So a
command that is killed and given again makes the missing parts only, with any number of processes.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from emlc.data import Samples
from emlc.data.rows_on_disk import Portions
from emlc.errors import InputError
from emlc.runs.outputs import check_folder_place
from emlc.runtime.distributed import Ranks
from emlc.runtime.files import is_temporary, read_json, remove_leftovers, write_json
from emlc.runtime.locks import LOCK, in_use
from emlc.runtime.messages import keep_warnings

_log = logging.getLogger(__name__)

_INDEX = "parts.json"
_FAILED = "failed"  # there is a file of this name once a process has met bad input: the others need not go on
_LATE = 90.0  # seconds until a file that another machine has written is surely there
_OFTEN = 30.0  # seconds between lines that tell how far it is


@dataclass(frozen=True)
class Parts:
    """The parts of an output.

    Attributes:
        output: The output.
        count: Number of parts.
        made_of: Hash of what the parts are made of.
    """

    output: Path
    count: int
    made_of: str

    @property
    def folder(self) -> Path:
        """The folder of the parts."""
        return self.output.with_name(f"{self.output.name}.parts")

    def file(self, part: int, ending: str) -> Path:
        """Return the path of a file of a part."""
        return self.folder / f"part-{part:05d}-of-{self.count:05d}{ending}"

    @property
    def rows(self) -> int:
        """Number of rows of all parts, which are finished."""
        return sum(int(self.facts(part)["rows"]) for part in range(self.count))

    def missing(self) -> list[int]:
        """Return the parts that are not finished."""
        return [part for part in range(self.count) if not self._is_finished(part)]

    def _is_finished(self, part: int) -> bool:
        return self.file(part, ".json").exists() and self.facts(part).get("made_of") == self.made_of

    def files(self, ending: str) -> Iterator[Path]:
        """Yield the files with an ending of all parts that have rows.

        Raises:
            InputError: If a file is not as it was written.
        """
        for part in range(self.count):
            facts, path = self.facts(part), self.file(part, ending)
            if facts["rows"] == 0:
                continue
            size = path.stat().st_size if path.exists() else None
            if size != facts["bytes"].get(ending):
                found = "is missing" if size is None else f"has {size:,} bytes"
                raise InputError(
                    f"{path}: {found}, expected {facts['bytes'].get(ending)}; delete {self.folder}, and give "
                    "the command again"
                )
            yield path

    def facts(self, part: int) -> dict[str, Any]:
        """Return the facts of a finished part."""
        return read_json(self.file(part, ".json"))


Make = Callable[[Samples, Callable[[str], Path]], dict[str, Any]]
"""A function that writes the files of a part, given its samples and a function from endings to paths.

It returns facts for the last step, as plain values."""


@contextmanager
def finished_parts(
    output: Path, portions: Portions, part_rows: int, made_of: dict[str, Any], make: Make, ranks: Ranks
) -> Iterator[Parts | None]:
    """Make the parts of an output; every rank calls this, and the first one joins them in the block.

    Args:
        output: The output.
        portions: The data.
        part_rows: Number of rows of a part.
        made_of: Plain values on which the parts depend, except for the data and the number of rows.
        make: Writes a part.
        ranks: The processes.

    Yields:
        The parts on the first rank, None on the others. They are deleted when the block has ended.

    Raises:
        InputError: If the folder of the parts holds something else or is in use, or a rank meets bad input.
        RankLost: If another process died.
    """
    with ExitStack() as held:

        def begin() -> tuple[Parts, list[int], int]:
            about = {**made_of, "emlc": version("emlc"), "data": portions.identity(), "part_rows": part_rows}
            text = json.dumps(about, sort_keys=True, default=str)
            digest = blake2b(text.encode(), digest_size=16).hexdigest()
            parts = Parts(output, max(1, -(-portions.rows // part_rows)), digest)
            _begin(parts, held)
            return parts, parts.missing(), portions.rows

        parts, missing, rows = ranks.from_first(begin)
        share = np.array_split(np.array(missing, dtype=np.int64), ranks.size)[ranks.rank].tolist()
        with ranks.errors_everywhere(), _stopping_others(parts, ranks):
            _check_machine(parts, portions, rows)
            _make_all(parts, share, portions, part_rows, make, ranks)
        if not ranks.is_first:
            yield None
            return
        _wait_until_seen(parts)
        _tell(parts, share[:1])
        if parts.rows == 0:
            raise InputError(f"no samples are left, of {portions.rows:,}")
        yield parts
        shutil.rmtree(parts.folder)


def digest_of(folder: Path) -> str:
    """Return a hash of the files in a folder, in hexadecimal."""
    digest = blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _begin(parts: Parts, held: ExitStack) -> None:
    """Hold the lock of the parts' folder, and delete parts there that are of something else."""
    check_folder_place(parts.folder)
    names = {path.name for path in parts.folder.iterdir()} if parts.folder.exists() else set()
    others = sorted(name for name in names - {LOCK} if not is_temporary(name))
    if others and _INDEX not in others:
        raise InputError(f"output: {parts.folder} holds {others[0]}, and no {_INDEX}: remove it")
    held.enter_context(in_use(parts.folder))
    index = {"made_of": parts.made_of, "parts": parts.count}
    if others and read_json(parts.folder / _INDEX) != index:
        old = [path for path in parts.folder.iterdir() if path.name.startswith("part-")]
        for path in sorted(old, key=lambda path: path.suffix != ".json"):  # what makes it finished goes first
            path.unlink()
        _log.info(f"{parts.folder} held parts of other data, weights or options, which are made anew")
    remove_leftovers(parts.folder)
    (parts.folder / _FAILED).unlink(missing_ok=True)
    write_json(parts.folder / _INDEX, index)
    if done := parts.count - len(parts.missing()):
        _log.info(f"{done:,} of {parts.count:,} parts are there already, in {parts.folder}")


def _check_machine(parts: Parts, portions: Portions, rows: int) -> None:
    """Raise an :class:`InputError` unless this machine has the data and the folder of the first process."""
    if not _comes(lambda: (parts.folder / _INDEX).exists()):
        raise InputError(f"{parts.folder}: not here; the output has to be on a disk that all machines share")
    if portions.rows != rows:
        raise InputError(
            f"the data have {portions.rows:,} rows here, and {rows:,} for the first process: each machine "
            "needs the same files"
        )


@contextmanager
def _stopping_others(parts: Parts, ranks: Ranks) -> Iterator[None]:
    """Leave a sign for the other ranks where this one meets bad input, or cannot write."""
    try:
        yield
    except (InputError, OSError) as error:
        if ranks.size == 1:
            raise
        with suppress(OSError):
            (parts.folder / _FAILED).touch()
        raise error if isinstance(error, InputError) else InputError(str(error)) from error


def _make_all(
    parts: Parts, share: Sequence[int], portions: Portions, part_rows: int, make: Make, ranks: Ranks
) -> None:
    started = told = time.monotonic()
    for done, part in enumerate(share):
        if ranks.size > 1 and (parts.folder / _FAILED).exists():
            return
        with keep_warnings(shown=done == 0) as warnings:
            samples = portions.read(part * part_rows, min((part + 1) * part_rows, portions.rows))
            facts = {} if samples is None else make(samples, partial(parts.file, part))
        written = parts.folder.glob(f"{parts.file(part, '.*').name}")
        sizes = {path.suffix: path.stat().st_size for path in written}
        about = {"rows": 0 if samples is None else len(samples), "bytes": sizes, "warnings": warnings}
        write_json(parts.file(part, ".json"), facts | about | {"made_of": parts.made_of})
        if ranks.is_first and time.monotonic() - told > _OFTEN:
            told = time.monotonic()
            left = (told - started) / (done + 1) * (len(share) - done - 1)
            _log.info(f"{done + 1:,} of {len(share):,} parts; about {left / 60:.0f} minutes left")


def _wait_until_seen(parts: Parts) -> None:
    """Wait for parts of other machines, which a network file system shows some seconds late."""
    if not _comes(lambda: not parts.missing()):
        path = parts.file(parts.missing()[0], ".json")
        raise InputError(f"{path}: missing, or of other parts; give the command again")


def _comes(is_there: Callable[[], bool]) -> bool:
    """Return whether something is there, or is within :data:`_LATE` seconds."""
    end = time.monotonic() + _LATE
    while not (there := is_there()) and time.monotonic() < end:
        time.sleep(0.5)
    return there


def _tell(parts: Parts, shown: Sequence[int]) -> None:
    """Tell what the parts have warned of, once for warnings that differ in numbers only."""
    kinds: dict[str, list[str]] = {}
    for part in range(parts.count):
        for message in [] if part in shown else parts.facts(part)["warnings"]:
            kinds.setdefault(_without_numbers(message), []).append(message)
    for messages in kinds.values():
        more = f" (and the like in {len(messages) - 1:,} more parts)" if len(messages) > 1 else ""
        _log.warning(f"{messages[0]}{more}")


def _without_numbers(message: str) -> str:
    return "".join(letter for letter in message if not letter.isdigit() and letter not in ",.")
