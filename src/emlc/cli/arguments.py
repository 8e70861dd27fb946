"""Turning the command line and YAML files into settings, with every problem reported at once."""

import json
import re
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, Namespace

from emlc.config import NAMED_SOURCES, AnySettings, PretrainSettings, Settings, groups
from emlc.config.presets import preset_names, preset_path
from emlc.errors import InputError, InputErrors, raise_together
from emlc.runtime.files import read_yaml

S = TypeVar("S", Settings, PretrainSettings)

_NO_SETTINGS = ("resume", "log_level")
"""Options of the commands that train which are no settings; ``--print_config`` writes them, too."""


def add_settings(parser: ArgumentParser, kind: type[AnySettings]) -> None:
    """Add DATA, every setting as an option, ``--config``, ``--preset`` and ``--print_config``."""
    parser.add_argument("data", nargs="?", type=str | None, help="what to learn from")
    parser.add_argument(
        "--config",
        "--preset",
        action="config",
        metavar="FILE|NAME",
        help="YAML file, or one of `emlc presets`; options given after it win",
    )
    for group in groups(kind):
        parser.add_class_arguments(group, skip={"data"})


def normalized(argv: Sequence[str]) -> list[str]:
    """The command line in one way of writing it.

    ``--noise-rate`` becomes ``--noise_rate``, a switch without a value gets the value true, and
    ``--preset NAME`` becomes ``--config`` with its file. An unknown preset stays, for :func:`explain`.
    """
    switches = {f"--{f.name}" for f in fields(Settings) if f.type is bool}
    tokens, rest = [], list(argv)
    while rest:
        token = rest.pop(0)
        if token.startswith("--"):
            name, *value = token.split("=", 1)
            token = "=".join([name.replace("-", "_").replace("__", "--", 1), *value])
        if token in switches and rest[:1] not in (["true"], ["false"]):
            token += "=true"
        if token == "--preset" and rest:
            token += f"={rest.pop(0)}"
        tokens.append(_preset_as_file(token, argv[0]))
    return tokens


def _preset_as_file(token: str, command: str) -> str:
    option, _, name = token.partition("=")
    is_known = option == "--preset" and name in preset_names(command)
    return f"--config={preset_path(name, command)}" if is_known else token


def settings_from(arguments: Namespace, kind: type[S]) -> S:
    """Settings from parsed arguments; DATA may also stand in the configuration file."""
    values = {f.name: arguments[f.name] for f in fields(kind)}
    for path in arguments.config or []:
        if arguments.data is None:
            values["data"] = read_yaml(path.absolute).get("data", values["data"])
    if values["data"] is None:
        raise InputError(
            f"DATA is missing: {', '.join(NAMED_SOURCES)}, a .csv, .parquet or .npz file, or a folder"
        )
    return kind(**values)


def explain(
    parser: ArgumentParser, argv: Sequence[str], error: ArgumentError, kind: type[AnySettings]
) -> InputError:
    """Every problem in ``argv`` and its configuration files, where argparse names only the first.

    Each setting is parsed alone; those that pass are then checked together.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    failed: set[str] = set()
    known = {f.name for f in fields(kind)}
    try:
        for where, option, value in _given(argv, "train" if kind is Settings else "pretrain"):
            name = option.removesuffix("+")  # --classes+ NAME appends to a list
            if name.split(".")[0] not in known:
                problems.append(f"{where}{name}: no such setting")
            elif name != "data":
                try:
                    values[name] = parser.parse_args([f"--{option}={value}"])[name]
                except ArgumentError as e:
                    problems.append(f"{where}{name}: {_reason(e)}")
                    failed.add(name)
            else:
                values[name] = value
        kind(**({"data": "-"} | values))
    except InputErrors as e:
        # What a setting clashes with, or lacks, cannot be told while its own value is wrong.
        problems += [p for p in e.problems if not any(re.search(rf"\b{name}\b", p) for name in failed)]
    except InputError as e:
        return e
    if not problems:
        return InputError(plain_message(error))
    try:
        raise_together(problems, "the settings")
    except InputErrors as e:
        return e
    raise AssertionError


def _given(argv: Sequence[str], command: str) -> Iterator[tuple[str, str, str]]:
    """(where, name, value) of every setting in the configuration files and options of ``argv``."""
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            yield "", "data", token
            continue
        name, separator, value = token[2:].partition("=")
        if not separator and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        if name in ("config", "preset"):
            value = str(preset_path(value, command)) if name == "preset" else value
            for key, item in read_yaml(value).items():
                text = item if isinstance(item, str) else json.dumps(item, default=str)
                if key not in _NO_SETTINGS:
                    yield f"{value}: ", str(key), text
        elif name not in _NO_SETTINGS:
            yield "", name, value


def _reason(error: ArgumentError) -> str:
    """The message without the name of the setting, which the caller gives."""
    return plain_message(error).split(": ", 1)[-1]


def plain_message(error: ArgumentError) -> str:
    """The message of an error without the names of Python's types and of the parser's inner keys."""
    text = re.sub(r"<class '(\w+)'>", r"\1", " ".join(error.message.split()))
    # Of an optional setting the message lists every alternative of its type; the first one is enough.
    text = re.sub(
        r"Does not validate .*?- (Expected an? \w+).* Given value: (.*)", r"\1. Got value: \2", text
    )
    for python, english in {"a int": "an integer", "a float": "a number"}.items():
        text = text.replace(f"Expected {python}", f"expected {english}")
    text = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"expected one of \1", text)
    text = re.sub(r"\. Got value: ?(.*)", lambda m: f", got {m[1] or 'nothing'}", text)
    text = re.sub(r'^Parser key "([^"]*)":', r"\1:", text)
    return re.sub(r"(required: )\w+\.", r"\1", text)
