"""What `emlc train` and `emlc pretrain` share: settings, processes, and the figures printed at the end."""

import os
from collections.abc import Callable, Iterable

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.arguments import S, add_settings, check_sources, settings_from
from emlc.cli.results import show
from emlc.cli.run_arguments import add_trust_argument
from emlc.config import names_of

RunSummary = Iterable[str]
"""A finished run as it is printed: lines that say where the result is, and how good it is."""


def add_training_arguments(parser: ArgumentParser, kind: type[S]) -> None:
    """Add every setting, those for experts marked as such, and --resume."""
    add_settings(parser, kind)
    experts = names_of(kind, lambda facts: facts.expert)
    for option in parser._actions:
        if option.dest in experts:
            option.help = f"[expert] {option.help}"
    parser.add_argument(
        "--resume", action="store_true", help="continue the interrupted run in the output directory"
    )
    add_trust_argument(parser, "a configuration file names")


def run_training(arguments: Namespace, kind: type[S], work: Callable[[S, bool], RunSummary]) -> int:
    """Run ``work(settings, resume)`` in as many processes as the settings ask for, and print its summary.

    Returns:
        The exit status.
    """
    if not arguments.resume:
        check_sources(arguments, kind)
    settings = settings_from(arguments, kind)

    from emlc.runtime.distributed import launch, under_torchrun

    if settings.devices > 1 and not under_torchrun():
        return launch(settings.devices, arguments.argv)
    lines = work(settings, arguments.resume)
    if int(os.environ.get("RANK", 0)) == 0:
        for line in lines:
            show(line)
    return 0
