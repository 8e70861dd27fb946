"""Turn the command line and YAML files into settings."""

import logging
import os
from argparse import SUPPRESS
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, Namespace

from emlc.config import NAMED_SOURCES, AnySettings, PretrainSettings, Settings, groups, names_of
from emlc.config.presets import is_preset, left_open, preset_names, preset_path
from emlc.config.sources import check_source
from emlc.errors import InputError, raise_together
from emlc.runtime.files import read_yaml
from emlc.runtime.signals import is_launched
from emlc.runtime.trust import FOLDERS, NETWORKS, check_code, unknown_folders
from emlc.timing.options import StepOptions

_log = logging.getLogger(__name__)

S = TypeVar("S", Settings, PretrainSettings)

_MOST_VALUES = 10_000
"""Number of values in a configuration file, of which the parser reads a thousand or two per second."""


def add_settings(parser: ArgumentParser, kind: type[AnySettings]) -> None:
    """Add DATA, every setting as an option, ``--config``, ``--preset`` and ``--print_config``."""
    parser.add_argument("data", nargs="?", type=str | None, help="the samples to learn from")
    parser.add_argument(
        "--config",
        "--preset",
        action="config",
        metavar="FILE|NAME",
        help="YAML file, or one of `emlc presets`; options after it override its values",
    )
    for group in groups(kind):
        parser.add_class_arguments(group, skip={"data"})


def show_common_only(parser: ArgumentParser, kind: type[AnySettings]) -> None:
    """Leave out of the help of a command what few users need, and say how to see it."""
    common = names_of(kind, lambda facts: facts.common) | {"data"}
    settings = names_of(kind)
    hidden = [option for option in parser._actions if option.dest in settings - common]
    for option in hidden:
        option.help = SUPPRESS
    if hidden:
        parser.epilog = f"{len(hidden)} further settings, for experiments and for experts: --help all"


def without_help_on_all(argv: Sequence[str]) -> tuple[list[str], bool]:
    """Return a normalised command line with ``--help`` in place of ``--help all`` or ``--help_all``.

    Returns:
        The command line, and whether help on all settings is asked for.
    """
    words = list(argv)
    for at, word in enumerate(words):
        if word == "--help_all":
            return [*words[:at], "--help", *words[at + 1 :]], True
        if word in ("--help", "-h") and words[at + 1 : at + 2] == ["all"]:
            return [*words[: at + 1], *words[at + 2 :]], True
    return words, False


def normalized(argv: Sequence[str]) -> list[str]:
    """Rewrite the command line in its normal form.

    ``--noise-rate`` becomes ``--noise_rate``, a switch without a value gets the value true, ``~/`` becomes
    the home folder (shells leave it in ``--output=~/x``), and ``--preset NAME`` becomes ``--config`` with its
    file. An unknown preset is left to :func:`emlc.cli.problems.explain`.
    """
    switches = {f"--{f.name}" for kind in (Settings, StepOptions) for f in fields(kind) if f.type is bool}
    tokens, rest = [], list(argv)
    while rest:
        token = rest.pop(0)
        token = "--number" if token == "-n" else token
        if token.startswith("--"):
            name, *value = token.split("=", 1)
            token = "=".join([name.replace("-", "_").replace("__", "--", 1), *map(_expanded, value)])
        else:
            token = _expanded(token)
        if token in switches and rest[:1] not in (["true"], ["false"]):
            token += "=true"
        if token == "--preset" and rest:
            token += f"={rest.pop(0)}"
        tokens.append(_preset_as_file(token, argv[0]))
    return tokens


def check_configs(argv: Sequence[str]) -> None:
    """Raise an :class:`InputError` for a configuration file that the parser must not see: it reads any."""
    for option, value in zip(argv, [*argv[1:], ""], strict=False):
        name, separator, text = option.partition("=")
        file = text if separator else value
        if name == "--config" and os.path.isfile(file):
            read_yaml(file, most_values=_MOST_VALUES)


def _expanded(word: str) -> str:
    return os.path.expanduser(word) if word.startswith("~/") else word  # a separator may be "~"


def _preset_as_file(token: str, command: str) -> str:
    option, _, name = token.partition("=")
    is_known = option == "--preset" and name in preset_names(command)
    return f"--config={preset_path(name, command)}" if is_known else token


def check_sources(arguments: Namespace, kind: type[S]) -> None:
    """Raise an :class:`InputError` if samples do not exist, before torch is imported, as settings may do."""
    values = _values(arguments, kind)
    for name in names_of(kind, lambda facts: facts.path == "source"):
        if isinstance(values[name], str):  # other types are told of with the settings
            check_source(values[name])


def settings_from(arguments: Namespace, kind: type[S]) -> S:
    """Build settings from parsed arguments; DATA may also come from the configuration file.

    Raises:
        InputError: DATA or a setting that a preset leaves open is missing, or a value is out of range.
    """
    values, files = _values(arguments, kind), _files(arguments)
    if values["data"] is None:
        raise InputError(
            f"DATA is missing: {', '.join(NAMED_SOURCES)}, a .csv, .parquet or .npz file, or a folder"
        )
    typed = {token.partition("=")[0].removeprefix("--") for token in arguments.argv}
    names = typed.union(*map(read_yaml, files))
    raise_together([problem for file in files for problem in left_open(file, names)], "the settings")
    settings = kind(**values)
    if "--trust_code" not in arguments.argv:  # that a file says so does not count
        where = ", ".join(map(str, files))
        check_code(settings, where, names=[n for n in NETWORKS if n not in typed])
        if unknown := unknown_folders(settings, [n for n in FOLDERS if n not in typed]):
            from emlc.runs.foreign import check_folders  # imports torch, which takes seconds

            check_folders(settings, unknown, where)
    of_files = set[str]().union(*(read_yaml(file) for file in files if not is_preset(file)))
    if settings.output and "output" in of_files - typed and not is_launched():
        _log.info(f"output: {settings.output}, as the configuration file says")
    return settings


def _values(arguments: Namespace, kind: type[S]) -> dict[str, Any]:
    """Return the values of the settings, DATA among them."""
    values = {f.name: arguments[f.name] for f in fields(kind)}
    for file in _files(arguments):
        if arguments.data is None:
            values["data"] = read_yaml(file).get("data", values["data"])
    if arguments.argv[1:] and not arguments.argv[1].startswith("--"):
        values["data"] = arguments.argv[1]  # the parser would let a later configuration file override it
    return values


def _files(arguments: Namespace) -> list[Path]:
    return [Path(path.absolute) for path in arguments.config or []]
