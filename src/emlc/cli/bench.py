"""Measure what a training step costs: every method and engine, in turns with plain training (ERM).

`emlc bench step` prints one table per network and batch size, sorted by the ratio to plain training, and
writes every measurement to bench.json; with --features one table of small networks on features. Inputs are
random; no data are read and no run is written. The exit status is 1 if a step could not be measured.
"""

import shlex
from dataclasses import asdict, fields
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.results import show
from emlc.timing.options import StepOptions

USAGE = "WHAT [options]"
_WIDTH = 180
"""Width of the table in characters when the output is not a terminal: wide enough not to wrap."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=["step"], help="what to measure; step: training steps")
    parser.add_class_arguments(StepOptions)


def run(arguments: Namespace) -> int:
    """Measure the steps; return the exit status, 1 if one could not be measured."""
    options = StepOptions(**{f.name: arguments[f.name] for f in fields(StepOptions)})
    from rich.console import Console

    from emlc.runs.outputs import check_ours
    from emlc.runtime.distributed import pick_device
    from emlc.runtime.files import write_json
    from emlc.timing.features import feature_table, measure_features
    from emlc.timing.hardware import describe_hardware, describe_versions
    from emlc.timing.report import PLOT, save_plot, tables
    from emlc.timing.step import measure_steps

    check_ours(Path(options.output), '"command": "emlc bench', usual=False)
    if options.plot is not None:
        check_ours(Path(options.plot), PLOT, usual=False)
    hardware = describe_hardware(pick_device(options.device))
    features = measure_features(options) if options.features else []
    if features:
        hardware["threads"] = features[0].threads
    steps = [] if options.features else measure_steps(options)
    write_json(
        Path(options.output),
        {
            "versions": describe_versions(),
            "hardware": hardware,
            "command": shlex.join(["emlc", *arguments.argv]),
            "records": [*map(asdict, features), *map(asdict, steps)],
        },
    )
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    for table in tables(steps, hardware["device"]):
        console.print(table)
    if features:
        console.print(feature_table(features, hardware["device"], options))
    written = [options.output]
    if options.plot is not None and save_plot(steps, Path(options.plot)):
        written.append(options.plot)
    elif options.plot is not None:
        show(f"not written: {options.plot}, as no step could be compared with plain training")
    for path in written:
        show(f"written: {path}")
    return int(any(record.problem is not None for record in steps))
