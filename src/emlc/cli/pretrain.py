"""Pretrain a backbone without labels (SimCLR), for `emlc train` to start from.

DATA is one of: cifar10 | cifar100 | clothing1m | digits | a .csv, .parquet or .npz file | a folder or a
quoted glob of parquet files | a folder of images. Trusted samples, named as for `emlc train`, are used to
probe the features: labels play no other part.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.training import RunSummary, add_training_arguments, run_training
from emlc.config import PretrainSettings

SETTINGS = PretrainSettings
USAGE = "DATA [--trusted T | --trusted_column C | --trusted_per_class N] [options]"


def add_arguments(parser: ArgumentParser) -> None:
    add_training_arguments(parser, PretrainSettings)


def run(arguments: Namespace) -> int:
    return run_training(arguments, PretrainSettings, _work)


def _work(settings: PretrainSettings, resume: bool) -> RunSummary:
    from emlc.pretraining import pretrain

    finished = pretrain(settings, resume=resume)
    figures = {name: value for name, value in finished.summary.items() if name != "versions"}
    lines = [f"  {name}: {value}" for name, value in figures.items() if value is not None]
    return [f"backbone: {finished.backbone}", *lines]
