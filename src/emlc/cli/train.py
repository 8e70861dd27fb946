"""Train a student, and a teacher that corrects its labels, into a run directory.

DATA is one of: cifar10 | cifar100 | clothing1m | digits | a .csv, .parquet or .npz file | a folder or a
quoted glob of parquet files | a folder with one sub-folder of images a class.
"""

import os

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.arguments import add_settings, settings_from
from emlc.config import Settings

SETTINGS = Settings
USAGE = "DATA (--trusted T | --trusted_column C | --trusted_per_class N) [options]"


def add_arguments(parser: ArgumentParser) -> None:
    add_settings(parser, Settings)
    parser.add_argument(
        "--resume", action="store_true", help="go on where the run in the output directory was interrupted"
    )


def run(arguments: Namespace) -> int:
    settings = settings_from(arguments, Settings)
    # torch takes seconds to import: not before the settings are known to be right.
    from rich.console import Console

    from emlc.distributed import launch, under_torchrun

    if settings.devices > 1 and not under_torchrun():
        return launch(settings.devices, arguments.argv)
    from emlc.run import train

    finished = train(settings, resume=arguments.resume)
    console = Console(quiet=int(os.environ.get("RANK", 0)) > 0)
    console.print(f"run: {finished.folder}", highlight=False)
    for name, value in finished.summary.items():
        if value is not None and name != "versions":
            console.print(f"  {name}: {value}", highlight=False)
    return 0
