"""The settings of a run, as its folder has them."""

from pathlib import Path
from typing import Any, TypeVar

from emlc.config import PretrainSettings, Settings
from emlc.errors import InputError
from emlc.runtime.files import read_yaml

S = TypeVar("S", Settings, PretrainSettings)


def check_run(folder: Path) -> None:
    """Raise an :class:`InputError` if there is no run in a folder. It needs no torch, which takes seconds."""
    if not (folder / "settings.yaml").is_file():
        raise InputError(f"{folder}: not a run directory: it has no settings.yaml")


def read_settings(folder: Path, kind: type[S]) -> S:
    """Read the settings of a run.

    Raises:
        InputError: there is no ``settings.yaml``, or it is broken.
    """
    check_run(folder)
    try:
        return kind(**_with_teacher(read_yaml(folder / "settings.yaml")))
    except (InputError, TypeError) as error:
        raise InputError(f"{folder / 'settings.yaml'}: not the settings of a run: {error}") from error


def _with_teacher(stored: dict[str, Any]) -> dict[str, Any]:
    """Add the teacher to settings stored before there was a choice: EMLC's was the paper's."""
    with_teacher = {"teacher": "gate", **stored}
    return with_teacher if with_teacher.get("method") == "emlc" else stored
