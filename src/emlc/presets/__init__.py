"""The settings of the paper's tables, one YAML file a row, shipped with the package."""

from difflib import get_close_matches
from pathlib import Path

from emlc.errors import InputError

_FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """The names of all presets, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def preset_path(name: str) -> Path:
    """The YAML file of a preset.

    Raises:
        InputError: there is no such preset; names those that are near, or all.
    """
    names = preset_names()
    if name not in names:
        near = get_close_matches(name, names, n=5) or names
        raise InputError(f"preset: there is no preset {name!r}; did you mean {', '.join(near)}?")
    return _FOLDER / f"{name}.yaml"


def preset_summary(name: str) -> str:
    """The first line of a preset's comment: what it is."""
    return preset_path(name).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
