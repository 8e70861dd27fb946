"""Settings that ship with the package: a YAML file a row of the paper's tables, and a kind of data."""

from difflib import get_close_matches
from pathlib import Path

from emlc.errors import InputError

COMMANDS = ("train", "pretrain")
"""The commands that have presets."""

_FOLDER = Path(__file__).parent


def preset_names(command: str) -> list[str]:
    """The names of a command's presets, the rows of a table together."""
    return sorted(path.stem for path in (_FOLDER / command).glob("*.yaml"))


def preset_path(name: str, command: str) -> Path:
    """The YAML file of a preset.

    Raises:
        InputError: the command has no such preset; names those that are near, or all.
    """
    names = preset_names(command)
    if name not in names:
        near = get_close_matches(name, names, n=5) or names
        raise InputError(f"preset: `emlc {command}` has no preset {name!r}; did you mean {', '.join(near)}?")
    return _FOLDER / command / f"{name}.yaml"


def preset_summary(name: str, command: str) -> str:
    """The first line of a preset's comment: what it is, and what to expect of it."""
    return preset_path(name, command).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
