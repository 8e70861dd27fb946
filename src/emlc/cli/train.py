"""Train a student and a teacher that corrects its labels; write a run directory.

DATA is one of: cifar10 | cifar100 | clothing1m | digits | a .csv, .parquet or .npz file | a folder or a
quoted glob of parquet files | a folder with one sub-folder of images per class.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.training import RunSummary, add_training_arguments, run_training
from emlc.config import Settings

SETTINGS = Settings
USAGE = "DATA (--trusted T | --trusted_column C | --trusted_per_class N) [options]"


def add_arguments(parser: ArgumentParser) -> None:
    add_training_arguments(parser, Settings)


def run(arguments: Namespace) -> int:
    return run_training(arguments, Settings, _work)


def _work(settings: Settings, resume: bool) -> RunSummary:
    from emlc.cli.outcome import outcome
    from emlc.runs.train import train

    return outcome(train(settings, resume=resume))
