"""Find every problem of a command line: jsonargparse stops at the first."""

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


class OptionText(NamedTuple):
    """The text given for an option or argument, before it is read as a value.

    Attributes:
        name: Option or argument; ``NAME+`` appends to a list, ``NAME.KEY`` sets a key of a mapping.
        text: The text, or None for an option without a value.
        file: The configuration file it comes from, or None for the command line.
    """

    name: str
    text: str | None
    file: str | None = None


def explain(
    parser: ArgumentParser, argv: Sequence[str], error: ArgumentError, kind: type[AnySettings] | None
) -> InputError:
    """Name all problems of the arguments that a command's parser refuses.

    Args:
        parser: The command's parser.
        argv: The arguments after the command's name.
        error: The parser's error, whose message is used if no problem is found here.
        kind: The settings class of the command, or None if it has none.
    """
    try:
        options = list(_options(parser, argv, kind))
    except InputError as unreadable:
        return unreadable
    values, problems = _values(parser, options, kind)
    names = {_base(option.name) for option in options}
    if kind is None:
        problems += _missing(parser, names)
    else:
        problems += _left_open(options, names)
        failed = names.intersection(f.name for f in fields(kind)) - values.keys()
        problems += _clashes(kind, values, failed)
    if not problems:
        return InputError(" ".join(error.message.split()))
    return InputErrors(problems, "the options" if kind is None else "the settings")


def _options(
    parser: ArgumentParser, argv: Sequence[str], kind: type[AnySettings] | None
) -> Iterator[OptionText]:
    """Yield the options and arguments of ``argv``; a configuration file yields its own in its place."""
    switches = {name for name, action in _actions(parser).items() if action.nargs == 0}
    positionals = iter([action.dest for action in parser._actions if not action.option_strings])
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            yield OptionText(next(positionals, token), token)
            continue
        name, separator, value = token[2:].partition("=")
        text = value if separator else None
        if text is None and name not in switches and rest and not rest[0].startswith("--"):
            text = rest.pop(0)
        if kind is not None and text is not None and name in ("config", "preset"):
            command = "train" if kind is Settings else "pretrain"
            yield from _options_of_file(str(preset_path(text, command)) if name == "preset" else text)
        else:
            yield OptionText(name, text)


def _options_of_file(file: str) -> Iterator[OptionText]:
    for name, value in read_yaml(file).items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        yield OptionText(str(name), text, file)


def _actions(parser: ArgumentParser) -> dict[str, Action]:
    """Return the options and arguments that a command takes, by name."""
    actions = {action.dest: action for action in parser._actions if not action.option_strings}
    return actions | {
        name.removeprefix("--"): action for action in parser._actions for name in action.option_strings
    }


def _base(name: str) -> str:
    return name.removesuffix("+").partition(".")[0]


def _values(
    parser: ArgumentParser, options: Sequence[OptionText], kind: type[AnySettings] | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the values that have the right type, by name, and the problems of all others."""
    actions = _actions(parser)
    known = actions.keys() if kind is None else {f.name for f in fields(kind)}
    in_files = known | ({action.dest for action in parser._actions} - {"config", "help", "print_config"})
    unknown = "no such option or argument" if kind is None else "no such setting"
    values: dict[str, Any] = {}
    problems = []
    for option in options:
        try:
            if _base(option.name) not in (actions if option.file is None else in_files):
                raise InputError(unknown)
            _add_value(values, option, actions[_base(option.name)])
        except InputError as error:
            where = "" if option.file is None else f"{option.file}: "
            problems.append(f"{where}{option.name.removesuffix('+')}: {error}")
            values.pop(_base(option.name), None)
    return {name: value for name, value in values.items() if name in known}, problems


def _add_value(values: dict[str, Any], option: OptionText, action: Action) -> None:
    """Read the option's text as its type, and add the value to the others.

    Raises:
        InputError: The text is not of the option's type.
    """
    base, _, key = option.name.removesuffix("+").partition(".")
    kind = _kind(action)
    if key or option.name.endswith("+"):
        kind = item(kind)
    if action.nargs == 0:
        switch_in_file = option.file is not None and option.text in ("true", "false")
        if option.text is not None and not switch_in_file:
            raise InputError(f"takes no value, got {option.text!r}")
        return
    if option.text is None:
        raise InputError(f"expected {describe(kind)}, got nothing")
    value = parse(option.text, kind)
    if key:
        values[base] = {**(values.get(base) or {}), key: value}
    elif option.name.endswith("+"):
        values[base] = [*(values.get(base) or []), value]
    else:
        values[base] = value


def _kind(action: Action) -> Any:
    """Return the type of an option's values."""
    choices = action.choices and tuple(action.choices)
    return Literal.__getitem__(choices) if choices else getattr(action, "_typehint", str)


def _missing(parser: ArgumentParser, names: set[str]) -> list[str]:
    """Name the required arguments that are missing."""
    missing = [action.dest for action in parser._actions if action.required and action.dest not in names]
    return [f"missing: {', '.join(missing)}; expected {parser.usage}"] if missing else []


def _left_open(options: Sequence[OptionText], names: set[str]) -> list[str]:
    files = sorted({option.file for option in options if option.file is not None})
    return [problem for file in files for problem in left_open(Path(file), names)]


def _clashes(kind: type[AnySettings], values: dict[str, Any], failed: set[str]) -> list[str]:
    """Return the problems that the settings class finds in the values together."""
    try:
        kind(**({"data": "-"} | values))
    except InputErrors as error:
        # Clashes that involve a setting mean nothing while its own value is wrong.
        return [p for p in error.problems if not any(re.search(rf"\b{name}\b", p) for name in failed)]
    return []
