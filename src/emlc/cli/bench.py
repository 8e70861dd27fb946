"""Measure what a step costs: every method and engine beside plain training, in turns.

`emlc bench step` prints a table a network and batch, sorted by the ratio to plain training (ERM), and writes
every measurement to bench.json. Images are random; nothing is read or learned.
"""

import shlex
from dataclasses import asdict, fields
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from emlc.timing.options import StepOptions

USAGE = "WHAT [options]"
_WIDTH = 160
"""Columns of text in a file, in which the table fits without wrapping."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=["step"], help="what to measure: step, training steps")
    parser.add_class_arguments(StepOptions)


def run(arguments: Namespace) -> None:
    options = StepOptions(**{f.name: arguments[f.name] for f in fields(StepOptions)})
    from rich.console import Console

    from emlc.runtime.distributed import pick_device
    from emlc.runtime.files import write_json
    from emlc.timing.hardware import describe_hardware, describe_versions
    from emlc.timing.report import save_plot, tables
    from emlc.timing.step import measure_steps

    records = measure_steps(options)
    hardware = describe_hardware(pick_device(options.device))
    write_json(
        Path(options.output),
        {
            "versions": describe_versions(),
            "hardware": hardware,
            "command": shlex.join(["emlc", *arguments.argv]),
            "records": [asdict(record) for record in records],
        },
    )
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    for table in tables(records, hardware["device"]):
        console.print(table)
    written = [options.output]
    if options.plot is not None:
        save_plot(records, Path(options.plot))
        written.append(options.plot)
    for path in written:
        console.out(f"written: {path}", highlight=False)
