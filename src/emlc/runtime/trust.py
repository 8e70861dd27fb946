"""What the settings of a run or a configuration file may do here: run code, and write to folders.

A backbone ``module:factory`` is code, and caches are written to. Whoever names them as an option or in Python
means them; from a run they are taken only if something was trained with them here before. ``trusted.json``
remembers that, in ``$XDG_STATE_HOME/emlc`` or else ``~/.local/state/emlc``: of code its name together with
the file that it comes from, so that another file with a module of that name is not trusted.
"""

import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from emlc.config import AnySettings, DataSettings, facts_of
from emlc.errors import InputError
from emlc.runtime.files import read_json, write_json

_log = logging.getLogger(__name__)

NETWORKS = ("backbone", "teacher_backbone")
"""Names of the settings that may name code, as ``module:factory``."""
FOLDERS = tuple(name for name, facts in facts_of(DataSettings).items() if facts.path == "folder")
"""Names of the settings that name folders which reading data writes to."""

USUAL: dict[str, Any] = {field.name: field.default for field in fields(DataSettings) if field.name in FOLDERS}
"""Default of each of the folders."""


def check_code(settings: object, where: object, *, names: Iterable[str] = NETWORKS) -> None:
    """Check that settings which come from a file name no code, or code that was named here before.

    Args:
        settings: The settings, or any object with attributes of their names.
        where: The file they come from, for messages.
        names: Names of those that come from the file.

    Raises:
        InputError: there is other code. Nothing of it has been imported.
    """
    for name, code in _code(settings, names).items():
        file = file_of(code)
        if [code, file] not in _known("code"):
            raise InputError(
                f"{where}: {name}: {code} is code{f' of {file}' if file else ''} that was not used here "
                "before; if you trust it, --trust_code (trust_code=True in Python) lets it run"
            )


def unknown_folders(settings: object, names: Iterable[str] = FOLDERS) -> dict[str, str]:
    """Return those folders of settings, by the setting's name, that were not named on this machine before."""
    folders = {name: getattr(settings, name, None) for name in names}
    return {name: folder for name, folder in folders.items() if folder and not is_known_folder(folder)}


def is_known_folder(folder: str) -> bool:
    """Return whether a folder is a usual one to write to, or was named on this machine before."""
    usual = {_absolute(each) for each in USUAL.values() if each is not None}
    return _absolute(folder) in [*usual, *_known("folders")]  # what the file holds may not be hashable


def remember(settings: AnySettings) -> None:
    """Note that somebody has named the code and the folders of these settings on this machine."""
    named = {name: getattr(settings, name, None) for name in FOLDERS}
    new: dict[str, list[Any]] = {
        "code": [[code, file] for code in _code(settings).values() if (file := file_of(code))],
        "folders": [_absolute(each) for each in named.values() if each and not is_known_folder(each)],
    }
    if all(each in _known(kind) for kind, values in new.items() for each in values):
        return
    try:
        _store().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_store().with_suffix(".lock")):
            write_json(_store(), {kind: _joined(_known(kind), values) for kind, values in new.items()})
    except OSError as error:
        _log.warning(f"{_store()}: cannot be written: {error}; opening this run will need --trust_code")


def file_of(code: str) -> str | None:
    """Return the file of the outermost package or module of ``module:factory``, without importing it."""
    name = code.partition(":")[0].partition(".")[0]
    here = os.getcwd()
    sys.path.insert(0, here)  # where backbones are imported from first
    try:
        spec = find_spec(name)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    except (ImportError, ValueError):  # such as __main__, which has no specification
        places = [getattr(sys.modules.get(name), "__file__", None)]
    finally:
        sys.path.remove(here)
    return next((_absolute(place) for place in places if place is not None), None)


def _code(settings: object, names: Iterable[str] = NETWORKS) -> dict[str, str]:
    values = {name: getattr(settings, name, None) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, str) and ":" in value}


def _store() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "emlc" / "trusted.json"


def _known(kind: str) -> list[Any]:
    """Return what is remembered of a kind; a broken file is as good as none."""
    try:
        values = read_json(_store()).get(kind)
    except InputError:
        return []
    return values if isinstance(values, list) else []


def _joined(known: list[Any], new: list[Any]) -> list[Any]:
    return [*known, *(each for n, each in enumerate(new) if each not in known and each not in new[:n])]


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
