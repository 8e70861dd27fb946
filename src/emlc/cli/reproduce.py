"""Reproduce a table or a figure of the paper: train what is missing, tabulate it, and draw it.

EXPERIMENT is one of: table1 | table2 | table3 | table4 | fig1 | fig4 | fig5 | fig6 | fig7 | fig8. Written are
table.md, table.csv, picture.png and results.json in FOLDER/EXPERIMENT-SCALE, with the paper's figures beside
ours. Finished runs are kept in FOLDER/runs and shared by all experiments; an interrupted command goes on when
it is given again.
"""

import re
import shlex
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from emlc.errors import InputError
from emlc.reproduce.experiments import EXPERIMENTS, Choice, restricted
from emlc.reproduce.plan import Timing

USAGE = "EXPERIMENT [options]"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("experiment", choices=list(EXPERIMENTS), help="what to reproduce")
    parser.add_argument(
        "--scale",
        type=Literal["small", "paper"],
        default="small",
        help="small: digits and a small network, for a laptop | paper: the full protocol, for a GPU",
    )
    parser.add_argument(
        "--seeds", type=list[int] | None, help="a run each (default: 0 to 2; of paper 0 to 4)"
    )
    parser.add_argument("--methods", type=list[str] | None, help="these alone (default: all)")
    parser.add_argument(
        "--shard",
        type=str | None,
        help="I/N, from 0/N to N-1/N: make this share of the runs, and let other machines make the others",
    )
    parser.add_argument("--processes", type=int, default=1, help="how many runs are made side by side here")
    parser.add_argument("--folder", type=str, default="runs/reproduce", help="where runs and results go")
    parser.add_argument(
        "--data",
        type=str | None,
        help="digits | cifar10, in small in place of digits | of paper the only data set wanted",
    )
    parser.add_argument("--data_root", type=str | None, help="folder of cifar10, cifar100 and clothing1m")


def run(arguments: Namespace) -> int:
    """Returns 1 if a run failed."""
    seeds, processes = arguments.seeds, arguments.processes
    shard = shard_of(arguments.shard)
    if seeds is not None and (not seeds or len(set(seeds)) < len(seeds)):
        raise InputError(f"seeds: expected at least one, and each once, got {seeds}")
    if processes < 1:
        raise InputError(f"processes: expected at least 1, got {processes}")
    experiment = EXPERIMENTS[arguments.experiment](
        Choice(arguments.scale, arguments.data, arguments.data_root)
    )
    if isinstance(experiment, Timing):
        given = {name: arguments[name] for name in ("seeds", "methods", "shard", "data", "data_root")}
        given["processes"] = None if processes == 1 else processes
        if named := [name for name, value in given.items() if value is not None]:
            raise InputError(
                f"{', '.join(named)}: {experiment.name} measures times, by one process and all at once"
            )
    else:
        experiment = restricted(experiment, seeds, arguments.methods)
    # torch takes seconds to import: not before what is asked for is known to be right.
    from rich.console import Console

    from emlc.reproduce.engine import Shard, reproduce, time_steps

    folder = Path(arguments.folder) / f"{arguments.experiment}-{arguments.scale}"
    command = shlex.join(["emlc", *arguments.argv])
    console = Console()
    failed = {}
    if isinstance(experiment, Timing):
        time_steps(experiment, folder, command=command)
    else:
        part = None if shard is None else Shard(*shard)
        home = Path(arguments.folder) / "runs"
        failed = reproduce(experiment, home, folder, shard=part, processes=processes, command=command).failed
    console.out((folder / "table.md").read_text(encoding="utf-8"), highlight=False)
    for name in ("table.md", "table.csv", "picture.png", "results.json"):
        if (folder / name).exists():
            console.out(f"written: {folder / name}", highlight=False)
    return int(bool(failed))


def shard_of(text: str | None) -> tuple[int, int] | None:
    """What --shard I/N says: I and N."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise InputError(f"shard: expected I/N with I from 0 to N - 1, such as 0/4, got {text!r}")
    return int(found[1]), int(found[2])
