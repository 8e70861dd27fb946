"""Every problem of a command line, where the parser names only the first, by the types of its options."""

import json
import re
from argparse import Action, ArgumentError
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jsonargparse import ArgumentParser

from emlc.cli.values import describe, item, parse
from emlc.config import AnySettings, Settings
from emlc.config.presets import left_open, preset_path
from emlc.errors import InputError, InputErrors
from emlc.runtime.files import read_yaml


class Given(NamedTuple):
    """A value as it was given.

    Attributes:
        name: Of the option or argument; ``NAME+`` appends to a list, ``NAME.KEY`` is in a mapping.
        text: The value, or None without one.
        file: The configuration file that it is from, or None for the command line.
    """

    name: str
    text: str | None
    file: str | None = None


def explain(
    parser: ArgumentParser, argv: Sequence[str], error: ArgumentError, kind: type[AnySettings] | None
) -> InputError:
    """Name all problems of the arguments that a command's parser refuses.

    Args:
        parser: The command's.
        argv: The arguments.
        error: What the parser says, for what is not understood here.
        kind: The settings that the arguments are, if they are any.
    """
    try:
        given = list(_given(parser, argv, kind))
    except InputError as unreadable:
        return unreadable
    values, problems = _values(parser, given, kind)
    names = {_base(each.name) for each in given}
    if kind is None:
        problems += _missing(parser, names)
    else:
        problems += _left_open(given, names)
        failed = names.intersection(f.name for f in fields(kind)) - values.keys()
        problems += _clashes(kind, values, failed)
    if not problems:
        return InputError(" ".join(error.message.split()))
    return InputErrors(problems, "the options" if kind is None else "the settings")


def _given(parser: ArgumentParser, argv: Sequence[str], kind: type[AnySettings] | None) -> Iterator[Given]:
    """The options and arguments of ``argv``, with the content of its configuration files in their place."""
    switches = {name for name, action in _actions(parser).items() if action.nargs == 0}
    positionals = iter([action.dest for action in parser._actions if not action.option_strings])
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            yield Given(next(positionals, token), token)
            continue
        name, separator, value = token[2:].partition("=")
        text = value if separator else None
        if text is None and name not in switches and rest and not rest[0].startswith("--"):
            text = rest.pop(0)
        if kind is not None and text is not None and name in ("config", "preset"):
            command = "train" if kind is Settings else "pretrain"
            yield from _of_file(str(preset_path(text, command)) if name == "preset" else text)
        else:
            yield Given(name, text)


def _of_file(file: str) -> Iterator[Given]:
    for name, value in read_yaml(file).items():
        yield Given(str(name), value if isinstance(value, str) else json.dumps(value, default=str), file)


def _actions(parser: ArgumentParser) -> dict[str, Action]:
    """The options and arguments that a command has, by name."""
    actions = {action.dest: action for action in parser._actions if not action.option_strings}
    return actions | {
        name.removeprefix("--"): action for action in parser._actions for name in action.option_strings
    }


def _base(name: str) -> str:
    return name.removesuffix("+").partition(".")[0]


def _values(
    parser: ArgumentParser, given: Sequence[Given], kind: type[AnySettings] | None
) -> tuple[dict[str, Any], list[str]]:
    """The values that are of their types, by name, and the problems of the others."""
    actions = _actions(parser)
    known = actions.keys() if kind is None else {f.name for f in fields(kind)}
    in_files = known | ({action.dest for action in parser._actions} - {"config", "help", "print_config"})
    unknown = "no such option or argument" if kind is None else "no such setting"
    values: dict[str, Any] = {}
    problems = []
    for each in given:
        try:
            if _base(each.name) not in (actions if each.file is None else in_files):
                raise InputError(unknown)
            _enter(values, each, actions[_base(each.name)])
        except InputError as error:
            where = "" if each.file is None else f"{each.file}: "
            problems.append(f"{where}{each.name.removesuffix('+')}: {error}")
            values.pop(_base(each.name), None)
    return {name: value for name, value in values.items() if name in known}, problems


def _enter(values: dict[str, Any], given: Given, action: Action) -> None:
    """Add a value to the others.

    Raises:
        InputError: it is not of the option's type.
    """
    base, _, key = given.name.removesuffix("+").partition(".")
    kind = _kind(action)
    if key or given.name.endswith("+"):
        kind = item(kind)
    if action.nargs == 0:
        if given.text is not None and (given.file is None or given.text not in ("true", "false")):
            raise InputError(f"takes no value, got {given.text!r}")
        return
    if given.text is None:
        raise InputError(f"expected {describe(kind)}, got nothing")
    value = parse(given.text, kind)
    if key:
        values[base] = {**(values.get(base) or {}), key: value}
    elif given.name.endswith("+"):
        values[base] = [*(values.get(base) or []), value]
    else:
        values[base] = value


def _kind(action: Action) -> Any:
    """The type of an option's values."""
    choices = action.choices and tuple(action.choices)
    return Literal.__getitem__(choices) if choices else getattr(action, "_typehint", str)


def _missing(parser: ArgumentParser, names: set[str]) -> list[str]:
    """Arguments that have to be given, and are not."""
    missing = [action.dest for action in parser._actions if action.required and action.dest not in names]
    return [f"missing: {', '.join(missing)}; expected {parser.usage}"] if missing else []


def _left_open(given: Sequence[Given], names: set[str]) -> list[str]:
    files = sorted({each.file for each in given if each.file is not None})
    return [problem for file in files for problem in left_open(Path(file), names)]


def _clashes(kind: type[AnySettings], values: dict[str, Any], failed: set[str]) -> list[str]:
    """What the settings say of the values together."""
    try:
        kind(**({"data": "-"} | values))
    except InputErrors as error:
        # What a setting clashes with, or lacks, cannot be told while its own value is wrong.
        return [p for p in error.problems if not any(re.search(rf"\b{name}\b", p) for name in failed)]
    return []
