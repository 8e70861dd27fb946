"""Figures that are kept in a file beside what decides them, and measured again when that differs."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from emlc.config.methods import METHODS
from emlc.reproduce.code import code_digest
from emlc.reproduce.key import contents_of
from emlc.runtime.files import read_json, write_json

_ROOMS = ("emlc.", "benchmarks.")


class Kept:
    """Measured figures in a JSON file: name -> what decides them, and the figures.

    Args:
        file: The file; it need not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._entries: dict[str, Any] = read_json(file) if file.exists() else {}

    def figures(
        self, name: str, decided_by: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return the figures of this name; measure and keep them if there are none, or of something else.

        Args:
            name: Name of the figures in the file.
            decided_by: What decides them, of :func:`decided_by`.
            measure: Returns the figures, as JSON can hold them.
        """
        entry = self._entries.get(name, {})
        if entry.get("decided_by") != decided_by:
            entry = {"decided_by": decided_by, "figures": measure()}
            self._entries[name] = entry
            write_json(self.file, self._entries)
        figures: dict[str, Any] = entry["figures"]
        return figures


def decided_by(
    script: str, settings: Mapping[str, Any], sources: Iterable[str | Path] = ()
) -> dict[str, Any]:
    """Return what decides the figures of a script, as JSON has it.

    Args:
        script: Its module, such as ``benchmarks.drawn``.
        settings: Settings, ``method`` among them if it is not emlc.
        sources: Files and folders whose contents count, and names of data sets, which stand for themselves.
    """
    values = {
        "settings": dict(settings),
        "contents": {str(source): contents_of(str(source), thorough=True) for source in sources},
        "code": script_digest(script, settings.get("method", "emlc")),
    }
    return dict(json.loads(json.dumps(values)))


def script_digest(script: str, *methods: str) -> str:
    """Return a hash of the code of a script's module, of methods, and of all that they import of emlc."""
    return code_digest(script, *(METHODS[name].partition(":")[0] for name in methods), rooms=_ROOMS)


def short_key(decided_by: Mapping[str, Any]) -> str:
    """Return a hash of what decides figures, for names of folders; 12 characters."""
    text = json.dumps(decided_by, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
