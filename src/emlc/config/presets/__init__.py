"""Presets, settings that ship with the package: YAML files for published experiments and kinds of data."""

from collections.abc import Collection
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path

import yaml

from emlc.errors import InputError

COMMANDS = ("train", "pretrain")
"""Names of the commands that have presets."""

_FOLDER = Path(__file__).parent
_CORRECTLY_LABELLED = ("cifar10", "cifar100")
"""Names of data sets without label noise of their own."""


def preset_names(command: str) -> list[str]:
    """Return the names of a command's presets, sorted."""
    return sorted(path.stem for path in (_FOLDER / command).glob("*.yaml"))


def preset_path(name: str, command: str) -> Path:
    """Return the path of a preset's YAML file.

    Raises:
        InputError: the command has no such preset; lists those with a similar name, or all.
    """
    names = preset_names(command)
    if name not in names:
        starts = [each for each in names if name.startswith(f"{each}-")]
        near = starts or get_close_matches(name, names, n=5) or names
        hint = " Noise and k are options beside it" if starts else ""
        raise InputError(
            f"preset: `emlc {command}` has no preset {name!r}; did you mean {', '.join(near)}?{hint}"
        )
    return _FOLDER / command / f"{name}.yaml"


def is_preset(file: Path) -> bool:
    """Return whether a file is one of the presets."""
    return file.is_relative_to(_FOLDER)


def preset_comment(name: str, command: str) -> str:
    """Return the comment at the top of a preset's file: what it is for, and the accuracy to expect."""
    lines = preset_path(name, command).read_text(encoding="utf-8").splitlines()
    return "\n".join(line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


def preset_summary(name: str, command: str) -> str:
    """Return the first line of :func:`preset_comment`."""
    return preset_comment(name, command).splitlines()[0]


def left_open(file: Path, names: Collection[str]) -> list[str]:
    """List the settings that a preset leaves open and that the user has to give.

    Args:
        file: A configuration file; one that is no preset leaves nothing open.
        names: Names of the settings that the user has given.

    Returns:
        One message per setting that is still open.
    """
    if file.parent != _FOLDER / "train":
        return []
    preset = yaml.safe_load(file.read_text(encoding="utf-8"))
    if "human_labels" in preset and "human_labels_key" not in names:
        return [
            f"human_labels_key: preset {file.stem} leaves it to you: --human_labels_key worst, aggregate, "
            "random1, random2 or random3"
        ]
    if preset.get("data") in _CORRECTLY_LABELLED and not {"noise", "human_labels"} & {*names}:
        return [
            f"noise: preset {file.stem} leaves it to you: --noise symmetric --noise_rate 0.8, say, or "
            "--noise none for the labels as they are"
        ]
    return []
