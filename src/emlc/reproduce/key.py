"""The key of a run: a hash of all that decides its result, by which it is found again."""

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from emlc.config import PretrainSettings, Settings, names_of, paths_of
from emlc.config.methods import METHODS
from emlc.reproduce.code import code_digest

_OF_ALL_RUNS = ("emlc.runs.fit", "emlc.data.augment.defaults", "emlc.data.noise")
"""Modules that decide the result of a run by any method: the loop, the augmentation, the noise."""


def run_key(settings: Settings | PretrainSettings, start: str | None, features: str | None) -> str:
    """Return the key of a run, 20 hexadecimal characters; neither storage nor device counts.

    Args:
        settings: Its settings. Files count by their contents, folders by the names and sizes of their files.
        start: Key of the pretraining that it starts from.
        features: Name of the pretrained features that it learns from.
    """
    free = names_of(type(settings), lambda facts: facts.free_on_resume or facts.path == "folder")
    values: dict[str, Any] = {n: value for n, value in settings.as_dict().items() if n not in free}
    for name, path in paths_of(settings, "source", "file", "model").items():
        values[name] = contents_of(path)
    modules: tuple[str, ...] = ("emlc.pretraining.run",)
    if isinstance(settings, Settings):
        values |= {
            "hyper": asdict(settings.hyper_parameters),
            "warm_up_epochs": settings.warm_up,
            "learning_rate": settings.student_rate,
            "teacher_learning_rate": settings.teacher_rate,
        }
        modules = (METHODS[settings.method].partition(":")[0], *_OF_ALL_RUNS)
    values |= {"start": start, "features": features, "code": code_digest(*modules)}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:20]


def contents_of(path: str, *, thorough: bool = False) -> str:
    """Return a hash of a file, folder or glob; of what is not there, which no run can read, the path.

    Args:
        path: Of a file the contents count, of a folder the names and sizes of its files.
        thorough: Whether in a folder the contents of the files count, too.
    """
    digest, files = hashlib.sha256(), list(_files(path))
    for name, file in files:
        facts = file.stat()
        digest.update(f"{name}\0{facts.st_size}\0".encode())
        if thorough or not os.path.isdir(path):
            digest.update(_file_digest(file, facts.st_size, facts.st_mtime_ns))
    return digest.hexdigest() if files else path


def _files(path: str) -> Iterator[tuple[str, Path]]:
    """Yield the files that a path stands for, each after what counts of its name: of a single one nothing."""
    if os.path.isfile(path):
        yield "", Path(path)
    elif os.path.isdir(path):
        for file in sorted(Path(path).rglob("*")):
            if file.is_file():
                yield file.relative_to(path).as_posix(), file
    else:
        for match in sorted(glob.glob(path)):
            yield os.path.basename(match), Path(match)


@cache
def _file_digest(path: Path, size: int, modified: int) -> bytes:
    """Return the SHA-256 of a file; runs by the thousand ask for that of the same file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
