"""The settings of a run that somebody else may have made: nothing is written where only they wanted it."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from emlc.config import Settings
from emlc.data.sources.cifar import CIFAR, is_complete
from emlc.runtime.trust import FOLDERS, USUAL, is_known_folder

_log = logging.getLogger(__name__)


def with_known_folders(settings: Settings, where: Path) -> Settings:
    """Return a run's settings with no folder to write to that was not named on this machine before.

    Without caches the data are decoded and embedded again; ``data_root`` stays where the data lie in it.
    """
    folders = {name: getattr(settings, name) for name in FOLDERS}
    unknown = [name for name, folder in folders.items() if folder and not is_known_folder(folder)]
    sources = {settings.data, settings.trusted, settings.validation, settings.test} & CIFAR.keys()
    if all(source and is_complete(source, settings) for source in sources):
        unknown = [name for name in unknown if name != "data_root"]
    changes: dict[str, Any] = {name: USUAL[name] if name == "data_root" else None for name in unknown}
    for name, value in changes.items():
        _log.info(
            f"{where}: {name}: {folders[name]} was not used here before, and nothing is written to it; "
            f"{value or 'no folder'} is used instead, unless --trust_code is given"
        )
    return replace(settings, **changes)
