"""The parts that the directories of training and pretraining runs share, above all the settings."""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from emlc.config import AnySettings, DataSettings, Precision, names_of, paths_of
from emlc.data.images.stored import Inputs
from emlc.errors import InputError
from emlc.runs.checkpoint import latest_checkpoint
from emlc.runs.outputs import check_apart, check_folder_place
from emlc.runs.stored_settings import S, read_settings
from emlc.runtime.distributed import Ranks
from emlc.runtime.files import is_temporary, source_stem, write_text
from emlc.runtime.locks import LOCK, in_use
from emlc.runtime.precision import computes_bfloat16

_log = logging.getLogger(__name__)

OF_THE_DATA = ("noisy_batch", "epochs")
"""Settings that are chosen by the size of the data where they are None; a run keeps what was chosen."""

_RESOLVED = ("precision", "image_model", "standardize")
"""Settings whose value auto becomes another one that the run keeps."""


def check_folder(folder: Path, settings: S, *, resume: bool) -> None:
    """Raise an :class:`InputError` if the folder holds a run that must not be overwritten or resumed."""
    if not _holds_run(folder):
        return
    if not resume:
        raise InputError(
            f"output: {folder} holds a run already; --resume goes on with it, --output names another"
        )
    if changes := _changes(folder, settings):
        raise InputError(f"resume: {folder} was made with other settings: {'; '.join(changes)}")


@contextmanager
def claimed(folder: Path, settings: AnySettings, ranks: Ranks) -> Iterator[None]:
    """Hold the lock of a run's folder; every rank calls this, and the first one holds it.

    Raises:
        InputError: the folder is no place for a run, or another process is making one there.
    """
    with ExitStack() as held:
        with ranks.errors_everywhere():
            _check_place(folder, settings)
            if ranks.is_first:
                held.enter_context(in_use(folder))
        yield


def _check_place(folder: Path, settings: AnySettings) -> None:
    """Raise an :class:`InputError` if a run in the folder would replace, or mix with, what is not emlc's."""
    check_folder_place(folder)
    if not _holds_run(folder) and (found := _contents(folder)):
        raise InputError(
            f"output: {folder} holds {found[0]}{', …' if found[1:] else ''} and no run of emlc: "
            "name a new or empty folder"
        )
    check_apart(folder, paths_of(settings, "source", "file"))


def _holds_run(folder: Path) -> bool:
    return (folder / "settings.yaml").exists() or latest_checkpoint(folder) is not None


def _contents(folder: Path) -> list[str]:
    """Return the names in a folder, without those that emlc leaves if it is killed before it has begun."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(name for name in names if name != LOCK and not is_temporary(name))


def _changes(folder: Path, settings: S) -> list[str]:
    """Describe the settings that differ from those of the run in a folder, where they may not."""
    before, now = read_settings(folder, type(settings)).as_dict(), with_absolute_paths(settings).as_dict()
    free = names_of(type(settings), lambda facts: facts.free_on_resume)
    free |= {name for name in _RESOLVED if getattr(settings, name, None) == "auto"}
    free |= {name for name in OF_THE_DATA if getattr(settings, name, 0) is None}
    changed = [k for k in now if k not in free and before.get(k) != now[k]]
    return [f"{k} was {before.get(k)!r}, now {now[k]!r}" for k in changed]


def output_folder(settings: S, default: str, *, resume: bool) -> Path:
    """Return the folder of a run: the setting ``output``, or a default that no other settings have.

    Where a run with other settings has the default name, a digest of these settings is added to it. A run is
    resumed under that name only if it was started under it.
    """
    if settings.output:
        return Path(settings.output).expanduser()
    free = names_of(type(settings), lambda facts: facts.free_on_resume)
    own = {k: v for k, v in with_absolute_paths(settings).as_dict().items() if k not in free}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]
    other = Path(f"{default}-{digest}")
    if not _differs(Path(default), settings) or (resume and not other.exists()):
        return Path(default)
    _log.info(f"{default} holds a run with other settings; this run is written to {other}")
    return other


def _differs(folder: Path, settings: S) -> bool:
    if not _holds_run(folder):
        return False
    try:
        return bool(_changes(folder, settings))
    except InputError:  # a run of another kind, or a broken one
        return True


def write_settings(folder: Path, settings: S) -> None:
    """Write ``settings.yaml``, with absolute paths, so that it works from any working directory."""
    resolved = with_absolute_paths(settings).as_dict()
    write_text(folder / "settings.yaml", yaml.safe_dump(resolved, sort_keys=False))


def with_absolute_paths(settings: S) -> S:
    """Return the settings with absolute paths."""
    paths = paths_of(settings, "source", "file", "model", "folder")
    absolute: dict[str, Any] = {
        name: os.path.abspath(path) for name, path in paths.items() if not path.startswith("~")
    }
    return replace(settings, **absolute)


def resolve_precision(settings: S, folder: Path, ranks: Ranks, inputs: Inputs) -> Precision:
    """Return the precision to train in; ``auto`` is that of the run in ``folder``, if there is one.

    All ranks return the same precision. It is not applied to ``ranks``.
    """
    precision = settings.precision
    if precision == "auto" and (folder / "settings.yaml").exists():
        precision = read_settings(folder, type(settings)).precision
    if precision == "auto":
        mixed = inputs.ndim == 4 and computes_bfloat16(ranks.device)
        # Finite differences are lost in the rounding of bfloat16.
        mixed = mixed and getattr(settings, "jvp", None) != "finite-difference"
        precision = "bf16-mixed" if ranks.all_agree(mixed) else "float32"
    return precision


def data_name(settings: DataSettings) -> str:
    """Return the data's name, as a part of the default directory's name."""
    return "arrays" if settings.data is None else source_stem(settings.data)


def environment(settings: AnySettings, ranks: Ranks, *packages: str) -> dict[str, Any]:
    """Return where and when a run was made, and the versions of these packages, for its summary."""
    return {
        "seed": settings.seed,
        "device": torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else "cpu",
        "processes": ranks.size,
        "precision": settings.precision,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }
