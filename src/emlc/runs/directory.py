"""The parts that the directories of training and pretraining runs share, above all the settings."""

import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from emlc.config import AnySettings, DataSettings, Precision, PretrainSettings, Settings, names_of, paths_of
from emlc.data.images.stored import Inputs
from emlc.errors import InputError
from emlc.runtime.distributed import Ranks
from emlc.runtime.files import source_stem, write_text
from emlc.runtime.precision import computes_bfloat16

S = TypeVar("S", Settings, PretrainSettings)

OF_THE_DATA = ("noisy_batch", "epochs")
"""Settings that are chosen by the size of the data where they are None; a run keeps what was chosen."""

_RESOLVED = ("precision", "image_model", "standardize")
"""Settings whose value auto becomes another one that the run keeps."""


def check_folder(folder: Path, settings: S, *, resume: bool) -> None:
    """Raise an :class:`InputError` if the folder holds a run that must not be overwritten or resumed."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output: {folder} is a file, expected a directory")
    if not (folder / "settings.yaml").exists() and not (folder / "checkpoint.pt").exists():
        return
    if not resume:
        raise InputError(
            f"output: {folder} holds a run already; --resume goes on with it, --output names another"
        )
    before, now = read_settings(folder, type(settings)).as_dict(), with_absolute_paths(settings).as_dict()
    free = names_of(type(settings), lambda facts: facts.free_on_resume)
    free |= {name for name in _RESOLVED if getattr(settings, name, None) == "auto"}
    free |= {name for name in OF_THE_DATA if getattr(settings, name, 0) is None}
    changed = [k for k in now if k not in free and before.get(k) != now[k]]
    if changed:
        changes = "; ".join(f"{k} was {before.get(k)!r}, now {now[k]!r}" for k in changed)
        raise InputError(f"resume: {folder} was made with other settings: {changes}")


def read_settings(folder: Path, kind: type[S]) -> S:
    """Read the settings of a run.

    Raises:
        InputError: there is no ``settings.yaml``, or it is broken.
    """
    if not (folder / "settings.yaml").is_file():
        raise InputError(f"{folder}: not a run directory: it has no settings.yaml")
    try:
        return kind(**_with_teacher(yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{folder / 'settings.yaml'}: not the settings of a run: {error}") from error


def _with_teacher(stored: dict[str, Any]) -> dict[str, Any]:
    """Add the teacher to settings stored before there was a choice: EMLC's was the paper's."""
    with_teacher = {"teacher": "gate", **stored}
    return with_teacher if with_teacher.get("method") == "emlc" else stored


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
