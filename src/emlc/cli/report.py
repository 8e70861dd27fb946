"""Write a run's report: one HTML file with its figures and a gallery for reviewing labels.

The file opens offline in any browser: see docs/report.md.
"""

import logging
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show
from emlc.errors import InputError

_log = logging.getLogger(__name__)

USAGE = "RUN [options]"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run directory of `emlc train`")
    parser.add_argument("--output", type=str | None, help="HTML file (default: RUN/report.html)")
    parser.add_argument("--samples", type=int, default=500, help="samples in the gallery; 0 for no gallery")
    parser.add_argument("--map_samples", type=int, default=2000, help="samples on the t-SNE map; 0 for none")
    parser.add_argument(
        "--weights",
        type=Literal["chosen", "last"],
        default="chosen",
        help="weights of the chosen or of the last epoch",
    )
    parser.add_argument("--device", type=str, default="auto", help="auto | cpu | cuda | cuda:N")
    run_arguments.add_trust_argument(parser, "the run names")


@run_arguments.alone_in_run
def run(arguments: Namespace) -> None:
    for name in ("samples", "map_samples"):
        if arguments[name] < 0:
            raise InputError(f"{name}: expected 0 or more, got {arguments[name]}")
    trained = run_arguments.load_run(arguments)
    path = Path(arguments.output) if arguments.output else trained.folder / "report.html"
    from rich.console import Console

    from emlc.report import collect, render
    from emlc.runs.outputs import check_keeps_sources, check_ours
    from emlc.runtime.files import check_file, write_text

    check_file(path)
    check_keeps_sources(trained, path)
    check_ours(path, " · emlc report</title>", usual=arguments.output is None)
    _log.info(f"report of {trained.folder}{_longest(arguments.map_samples)}")
    console = Console(stderr=True)
    with console.status("report") as status:
        facts = collect(
            trained,
            weights=arguments.weights,
            samples=arguments.samples,
            map_samples=arguments.map_samples,
            show_progress=lambda message: status.update(f"report: {message}"),
        )
        status.update("report: writing the page")
        write_text(path, render(facts))
    if "data" in facts.missing:
        _log.warning(f"{facts.missing['data']}; parts of the report are missing")
    show(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def _longest(map_samples: int) -> str:
    """Say before the map is made what takes so long."""
    if map_samples == 0:
        return ""
    return (
        f"; what takes longest is the map of up to {map_samples:,} samples, which --map_samples 0 leaves out"
    )
