"""Settings that ship with the package: YAML files for published experiments and for kinds of data."""

from collections.abc import Collection
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path

import yaml

from emlc.errors import InputError

COMMANDS = ("train", "pretrain")
"""The commands that have presets."""

_FOLDER = Path(__file__).parent
_WITH_RIGHT_LABELS = ("cifar10", "cifar100")
"""Data sets without noise of their own."""


def preset_names(command: str) -> list[str]:
    """The names of a command's presets."""
    return sorted(path.stem for path in (_FOLDER / command).glob("*.yaml"))


def preset_path(name: str, command: str) -> Path:
    """The YAML file of a preset.

    Raises:
        InputError: the command has no such preset; names those that are near, or all.
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


def preset_comment(name: str, command: str) -> str:
    """What a preset's file says of it in its first lines, such as the accuracy to expect."""
    lines = preset_path(name, command).read_text(encoding="utf-8").splitlines()
    return "\n".join(line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


def preset_summary(name: str, command: str) -> str:
    """The first line of it."""
    return preset_comment(name, command).splitlines()[0]


def left_open(file: Path, names: Collection[str]) -> list[str]:
    """Say what a configuration file, if it is a preset, leaves to the user who has given other settings.

    Args:
        file: The file.
        names: Of the settings that are given.
    """
    if file.parent != _FOLDER / "train":
        return []
    preset = yaml.safe_load(file.read_text(encoding="utf-8"))
    if "human_labels" in preset and "human_labels_key" not in names:
        return [
            f"human_labels_key: preset {file.stem} leaves it to you: --human_labels_key worst, aggregate, "
            "random1, random2 or random3"
        ]
    if preset.get("data") in _WITH_RIGHT_LABELS and not {"noise", "human_labels"} & {*names}:
        return [
            f"noise: preset {file.stem} leaves it to you: --noise symmetric --noise_rate 0.8, say, or "
            "--noise none for the labels as they are"
        ]
    return []
