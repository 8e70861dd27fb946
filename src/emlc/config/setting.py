"""Facts about a setting, in the metadata of its field, so that no other code keeps a list of names."""

import math
import os.path
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, Literal, NamedTuple

PathKind = Literal["source", "file", "model", "folder", "output"]
"""What a path leads to. source: samples. file: another file that is read. model: a folder or file with a
model, not the name of one on a hub. folder: a cache, or the data sets of this machine. output: the run
directory."""


class SettingFacts(NamedTuple):
    """Facts about a setting beside its type, its default and its meaning.

    Attributes:
        path: What its value is a path of; None: it is no path.
        names: Values that are names and not paths.
        draws: Whether it decides which samples there are, or which role they have.
        free_on_resume: Whether it may change when a run is resumed, as the result does not depend on it.
        common: Whether most users should know it: the help shows it, without being asked for all settings.
        expert: Whether few users will ever change it.
        at_least: Lower bound, inclusive.
        above: Lower bound, exclusive.
        at_most: Upper bound, inclusive.
        below: Upper bound, exclusive; the default admits all finite numbers.
    """

    path: PathKind | None = None
    names: tuple[str, ...] = ()
    draws: bool = False
    free_on_resume: bool = False
    common: bool = False
    expert: bool = False
    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set, by the words for them, such as ``at least``."""
        bounds = {
            "at least": self.at_least,
            "more than": self.above,
            "at most": self.at_most,
            "below": self.below,
        }
        return {words: bound for words, bound in bounds.items() if not math.isinf(bound)}

    def expected(self, value: float) -> str | None:
        """Return the range in words if the value is outside it or not finite, else None."""
        if self.at_least <= value <= self.at_most and self.above < value < self.below:
            return None
        if self.bounds.keys() in ({"at least", "at most"}, {"more than", "below"}):
            return "between {} and {}".format(*self.bounds.values())
        return " and ".join(f"{words} {bound}" for words, bound in self.bounds.items())

    def is_path(self, value: object) -> bool:
        """Return whether a value of the setting is a path, and not None or a name."""
        if self.path is None or not isinstance(value, str) or value in self.names:
            return False
        return self.path != "model" or value.startswith("~") or os.path.isabs(value) or os.path.exists(value)


WIDEST = 2**24
"""Upper bound of widths: a layer between two of them takes a petabyte, and its size is still a number."""


def setting(default: Any, **facts: Any) -> Any:
    """Define a field of a dataclass by its default and its :class:`SettingFacts`."""
    return field(default=default, metadata={"facts": SettingFacts(**facts)})


def facts_of(kind: type[Any]) -> dict[str, SettingFacts]:
    """Return the facts about each setting of a class of settings, or of a group, by its name."""
    return {f.name: f.metadata.get("facts", SettingFacts()) for f in fields(kind)}


def names_of(kind: type[Any], condition: Callable[[SettingFacts], object] = lambda facts: True) -> set[str]:
    """Return the names of the settings whose facts meet a condition, by default of all."""
    return {name for name, facts in facts_of(kind).items() if condition(facts)}


def paths_of(settings: Any, *kinds: PathKind) -> dict[str, str]:
    """Return the paths in settings by the names of the settings: those of the given kinds, by default all."""
    values = {name: getattr(settings, name) for name in names_of(type(settings), lambda facts: facts.path)}
    facts = facts_of(type(settings))
    return {
        name: value
        for name, value in values.items()
        if facts[name].is_path(value) and (not kinds or facts[name].path in kinds)
    }


def expand_home(settings: Any) -> None:
    """Replace the ``~`` that paths in frozen settings begin with by the home folder.

    Shells leave it in ``--output=~/x``, and YAML knows none. Folders keep it, so that a run can go to another
    machine: who opens one expands it.
    """
    for name, path in paths_of(settings, "source", "file", "model", "output").items():
        object.__setattr__(settings, name, os.path.expanduser(path))
