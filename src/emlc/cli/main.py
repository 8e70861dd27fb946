"""Entry point: find the command, and turn bad input into one message and exit status 2."""

import os
import sys
import time
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType
from typing import Literal

from jsonargparse import ArgumentParser

from emlc.cli import (
    apply,
    bench,
    correct,
    demo,
    draw,
    embed,
    evaluate,
    export,
    methods,
    predict,
    presets,
    pretrain,
    report,
    reproduce,
    review,
    train,
)
from emlc.cli.arguments import check_configs, normalized, show_common_only, without_help_on_all
from emlc.cli.problems import explain
from emlc.config import Settings
from emlc.errors import EMLCWarning, InputError, readable
from emlc.runtime.files import FULL
from emlc.runtime.signals import Terminated, is_launched, stoppable

COMMANDS: dict[str, ModuleType] = {
    "demo": demo,
    "draw": draw,
    "pretrain": pretrain,
    "train": train,
    "methods": methods,
    "presets": presets,
    "embed": embed,
    "evaluate": evaluate,
    "predict": predict,
    "correct": correct,
    "report": report,
    "review": review,
    "apply": apply,
    "export": export,
    "bench": bench,
    "reproduce": reproduce,
}

LogLevel = Literal["debug", "info", "warning", "error"]

_SPINS = "10000"
"""How often a waiting OpenMP thread looks before it sleeps, some 50 microseconds; GNU's own is 300,000.

On a quiet machine steps of small networks take as long, beside other busy processes three quarters."""


def build_parsers(command: str | None = None) -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """Build the parser of ``emlc`` and, by name, those of its commands.

    With ``command``, only that one gets its arguments: building all takes as long as a short command.
    """
    parser = ArgumentParser(
        prog="emlc",
        description="Learn from many doubtful labels and a few trusted ones; correct the doubtful ones.",
        version=version("emlc"),
        exit_on_error=False,
    )
    subcommands = parser.add_subcommands(required=True, dest="command", metavar="COMMAND")
    parsers: dict[str, ArgumentParser] = {}
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        parsers[name] = ArgumentParser(
            usage=f"emlc {name} {module.USAGE}",
            description=module.__doc__,
            exit_on_error=False,
            allow_abbrev=False,
        )
        if command in (None, name):
            module.add_arguments(parsers[name])
            parsers[name].add_argument(
                "--log_level",
                type=LogLevel,
                default="info",
                help="lowest level of the messages shown on standard error",
            )
        subcommands.add_subcommand(name, parsers[name], help=summary)
    return parser, parsers


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 on success, 2 for bad input, 130 if interrupted, 143 if terminated, 1 if a run or a measurement
        failed or a process of a run died.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)  # read when torch is imported
    argv, help_on_all = without_help_on_all(normalized(sys.argv[1:] if argv is None else argv))
    parser, parsers = build_parsers(next((word for word in argv if word in COMMANDS), None))
    if not help_on_all and {"-h", "--help"} & {*argv}:  # what the help leaves out, --print_config would, too
        show_common_only(parsers["train"], Settings)
    try:
        try:
            check_configs(argv)
            arguments = parser.parse_args(argv)
        except ArgumentError as error:
            if not argv or argv[0] not in COMMANDS:
                given = argv[0] if argv else "none"
                raise InputError(f"expected a command, one of {', '.join(COMMANDS)}, got {given}") from None
            kind = getattr(COMMANDS[argv[0]], "SETTINGS", None)
            raise explain(parsers[argv[0]], argv[1:], error, kind) from None
        chosen = arguments[arguments.command]
        chosen.argv = argv  # several processes are started with the same command line
        with stoppable(), _messages(chosen.log_level):
            return COMMANDS[arguments.command].run(chosen) or 0
    except (InputError, FloatingPointError) as error:
        _print_error(error)
        return 2
    except OSError as error:  # a folder that cannot be written, a full disk
        if isinstance(error, BrokenPipeError):
            # The reader of our output is gone, as with `| head`; Python must not complain when it closes it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        print(f"emlc: error: {readable(_os_message(argv, error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        return _interrupted(argv, error)
    except RuntimeError as error:
        if type(error).__name__ != "RankLost":  # importing the class would import torch, which takes seconds
            raise
        _print_error(error)
        return 1


def _os_message(argv: Sequence[str], error: OSError) -> str:
    """Say which file an error is about, and of a full disk what to do."""
    if error.errno not in FULL:
        return str(error)
    then = " and --resume" if argv and hasattr(COMMANDS.get(argv[0]), "SETTINGS") else ""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}cannot be written: {error.strerror}; free some space{then}, or name another output"


def _interrupted(argv: Sequence[str], error: KeyboardInterrupt) -> int:
    """Tell of Ctrl-C or SIGTERM once, however many processes there are; return the exit status."""
    is_told = not is_launched() and int(os.environ.get("RANK", 0)) == 0
    resumes = hasattr(COMMANDS.get(argv[0] if argv else ""), "SETTINGS")
    hint = f"; `emlc {argv[0]} ... --resume` goes on from the last checkpoint" if resumes else ""
    how, status = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
    if is_told:
        print(f"emlc: {how}{hint}", file=sys.stderr)
    return status


@contextmanager
def _messages(level: LogLevel) -> Iterator[None]:
    """Show log messages from this level on, and warnings unless the level is error."""
    from emlc.runtime.messages import (
        show_messages,
    )  # imported late: wrong options are refused faster without it

    as_before = warnings.formatwarning
    warnings.formatwarning = lambda *facts, **more: readable(as_before(*facts, **more))
    try:
        with warnings.catch_warnings(), show_messages(level=level):
            if level == "error":
                warnings.simplefilter("ignore", EMLCWarning)
            yield
    finally:
        warnings.formatwarning = as_before


def _print_error(error: Exception) -> None:
    rank = int(os.environ.get("RANK", 0))
    if rank > 0:
        # Usually all ranks meet the same error: rank 0 prints it, and its exit ends the others within
        # seconds. An error that only this rank met is printed after the wait.
        time.sleep(10)
        print(f"emlc: error on rank {rank}: {readable(str(error))}", file=sys.stderr)
    else:
        print(f"emlc: error: {readable(str(error))}", file=sys.stderr)
