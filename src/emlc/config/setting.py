"""What a setting says of itself, in its field's metadata, so that no code has to keep a list of names."""

import math
import os.path
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, Literal, NamedTuple

PathKind = Literal["source", "file", "model", "folder", "output"]
"""source: of samples; file: another one that is read; model: of texts, where it is a folder, and no name on
the hub; folder: a cache, or the data sets of this machine; output: the run itself."""


class SettingFacts(NamedTuple):
    """What is known of a setting beside its type, its default and its meaning.

    Attributes:
        path: What it is the path of, if of anything.
        names: Values that are names, and no paths.
        draws: Whether it says which samples there are, or which role they have.
        free_on_resume: Whether it may change when a run goes on, as the result does not depend on it.
        expert: Whether few will ever change it.
        at_least: Lower bound, itself allowed.
        above: Lower bound, itself not allowed.
        at_most: Upper bound, itself allowed.
        below: Upper bound, itself not allowed; every number is below infinity.
    """

    path: PathKind | None = None
    names: tuple[str, ...] = ()
    draws: bool = False
    free_on_resume: bool = False
    expert: bool = False
    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that it has, by what they are called."""
        bounds = {
            "at least": self.at_least,
            "more than": self.above,
            "at most": self.at_most,
            "below": self.below,
        }
        return {words: bound for words, bound in bounds.items() if not math.isinf(bound)}

    def expected(self, value: float) -> str | None:
        """The range in words, if the value is not in it, or not finite."""
        if self.at_least <= value <= self.at_most and self.above < value < self.below:
            return None
        if self.bounds.keys() in ({"at least", "at most"}, {"more than", "below"}):
            return "between {} and {}".format(*self.bounds.values())
        return " and ".join(f"{words} {bound}" for words, bound in self.bounds.items())

    def is_path(self, value: object) -> bool:
        """Whether the value is a path, and not none or a name."""
        if self.path is None or not isinstance(value, str) or value in self.names:
            return False
        return self.path != "model" or value.startswith("~") or os.path.isabs(value) or os.path.isdir(value)


def setting(default: Any, **facts: Any) -> Any:
    """A field with a default, which says of itself what :class:`SettingFacts` has."""
    return field(default=default, metadata={"facts": SettingFacts(**facts)})


def facts_of(kind: type[Any]) -> dict[str, SettingFacts]:
    """What each setting of such settings, or of a group, says of itself."""
    return {f.name: f.metadata.get("facts", SettingFacts()) for f in fields(kind)}


def names_of(kind: type[Any], wanted: Callable[[SettingFacts], object] = lambda facts: True) -> set[str]:
    """Names of the settings that are such."""
    return {name for name, facts in facts_of(kind).items() if wanted(facts)}


def paths_of(settings: Any, *kinds: PathKind) -> dict[str, str]:
    """The paths in settings, of these kinds or of all, by the setting's name."""
    values = {name: getattr(settings, name) for name in names_of(type(settings), lambda facts: facts.path)}
    facts = facts_of(type(settings))
    return {
        name: value
        for name, value in values.items()
        if facts[name].is_path(value) and (not kinds or facts[name].path in kinds)
    }
