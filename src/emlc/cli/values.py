"""Read the text of an option as a value of the option's type."""

import types
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from emlc.errors import InputError

_NAMES = {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "a mapping"}


def parse(text: str, kind: Any) -> Any:
    """Read a text as a value of a type.

    Raises:
        InputError: The text is no such value; the message names what was expected and what was found.
    """
    for member in _members(kind):
        try:
            return _read(text, member)
        except (ValueError, yaml.YAMLError):
            continue
    raise InputError(f"expected {describe(kind)}, got {text!r}")


def describe(kind: Any) -> str:
    """Describe a type in words; None is left out of an optional type."""
    return " or ".join(_describe(member) for member in _members(kind) if member is not types.NoneType)


def item(kind: Any) -> Any:
    """Return the item type of a list or mapping, optional or not; any other type is returned as it is."""
    inner = [get_args(member)[-1] for member in _members(kind) if get_origin(member) in (list, dict)]
    return inner[0] if inner else kind


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, None first; of another type, the type alone."""
    if get_origin(kind) not in (Union, types.UnionType):
        return (kind,)
    return tuple(sorted(get_args(kind), key=lambda member: member is not types.NoneType))


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is list:
        return f"a list in brackets, each item {describe(get_args(kind)[0])}"
    return _NAMES[get_origin(kind) or kind]


def _read(text: str, kind: Any) -> Any:
    if kind in (int, float, str):
        return kind(text)
    value = text if get_origin(kind) is Literal else yaml.safe_load(text)
    if not _is(value, kind):
        raise ValueError
    return value


def _is(value: Any, kind: Any) -> bool:
    """Whether a value, and every item of a list, is of the type."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return value in arguments
    items = value if origin is list and isinstance(value, list) else ()
    return isinstance(value, origin) and all(_is(item, arguments[0]) for item in items)
