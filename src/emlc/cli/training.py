"""What `emlc train` and `emlc pretrain` have in common: settings, processes, and the figures at the end."""

import os
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.arguments import S, add_settings, settings_from
from emlc.config import names_of

Told = tuple[str, dict[str, Any]]
"""What to say of a finished run: where its result is, and its figures."""


def add_training_arguments(parser: ArgumentParser, kind: type[S]) -> None:
    add_settings(parser, kind)
    experts = names_of(kind, lambda facts: facts.expert)
    for option in parser._actions:
        if option.dest in experts:
            option.help = f"[expert] {option.help}"
    parser.add_argument(
        "--resume", action="store_true", help="go on where the run in the output directory was interrupted"
    )


def run_training(arguments: Namespace, kind: type[S], work: Callable[[S, bool], Told]) -> int:
    """Do the work, given the settings and whether to resume, in as many processes as they ask for.

    Returns:
        The exit status.
    """
    settings = settings_from(arguments, kind)
    # torch takes seconds to import: not before the settings are known to be right.
    from rich.console import Console

    from emlc.runtime.distributed import launch, under_torchrun

    if settings.devices > 1 and not under_torchrun():
        return launch(settings.devices, arguments.argv)
    where, summary = work(settings, arguments.resume)
    console = Console(quiet=int(os.environ.get("RANK", 0)) > 0)
    console.out(where, highlight=False)
    for name, value in summary.items():
        if value is not None and name != "versions":
            console.out(f"  {name}: {value}", highlight=False)
    return 0
