"""Reproduce a table or a figure of the paper: make the missing runs, tabulate and plot them.

EXPERIMENT is one of: table1 | table2 | table3 | table4 | fig1 | fig4 | fig5 | fig6 | fig7 | fig8. Writes
table.md, table.csv, picture.png and results.json to FOLDER/EXPERIMENT-SCALE, with the paper's figures beside
ours. Finished runs are kept in FOLDER/runs and shared by all experiments; repeat an interrupted command to
continue it.
"""

import re
import shlex
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.results import show
from emlc.errors import InputError
from emlc.reproduce.choice import Choice
from emlc.reproduce.experiments import EXPERIMENTS, restricted
from emlc.reproduce.plan import Timing

USAGE = "EXPERIMENT [options]"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("experiment", choices=list(EXPERIMENTS), help="what to reproduce")
    parser.add_argument(
        "--scale",
        type=Literal["small", "features", "paper"],
        default="small",
        help="small: digits and a small network, for a laptop | features: all of CIFAR as features of a "
        "pretrained network, for a laptop, in hours | paper: the full protocol, for a GPU",
    )
    parser.add_argument(
        "--seeds", type=list[int] | None, help="one run per seed (default: 0 to 2; other scales: 0 to 4)"
    )
    parser.add_argument(
        "--methods",
        type=list[str] | None,
        help="only these methods, or rows of the table by their labels (default: all)",
    )
    parser.add_argument(
        "--shard",
        type=str | None,
        help="I/N, from 0/N to N-1/N: train only this share of the runs; other machines train the others",
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="runs trained at the same time on this machine"
    )
    parser.add_argument("--folder", type=str, default="runs/reproduce", help="folder for runs and results")
    parser.add_argument(
        "--data",
        type=str | None,
        help="scale small: digits | cifar10 instead of digits; other scales: run this data set only",
    )
    parser.add_argument(
        "--data_root", type=str | None, help="folder that holds cifar10, cifar100 and clothing1m"
    )
    parser.add_argument(
        "--trusted_per_class",
        type=int | None,
        help="scale features: trusted samples per class, for a table of its own (default: 1,000 in all)",
    )


def run(arguments: Namespace) -> int:
    """Reproduce the experiment; return the exit status, 1 if a run or a measurement failed."""
    seeds, processes = arguments.seeds, arguments.processes
    shard = parse_shard(arguments.shard)
    if seeds is not None and (not seeds or len(set(seeds)) < len(seeds)):
        raise InputError(f"seeds: expected at least one, and each once, got {seeds}")
    if processes < 1:
        raise InputError(f"processes: expected at least 1, got {processes}")
    experiment = EXPERIMENTS[arguments.experiment](
        Choice(arguments.scale, arguments.data, arguments.data_root, arguments.trusted_per_class)
    )
    if isinstance(experiment, Timing):
        options = {name: arguments[name] for name in ("seeds", "methods", "shard", "data", "data_root")}
        options["processes"] = None if processes == 1 else processes
        if refused := [name for name, value in options.items() if value is not None]:
            raise InputError(
                f"{', '.join(refused)}: cannot be given with {experiment.name}, which measures times in one "
                "process"
            )
    else:
        experiment = restricted(experiment, seeds, arguments.methods)
    # torch takes seconds to import: check the options first.
    from emlc.reproduce.engine import Shard, reproduce, time_steps
    from emlc.runs.outputs import check_our_folder

    folder = Path(arguments.folder) / _folder_name(arguments)
    check_our_folder(folder, "table.csv")
    command = shlex.join(["emlc", *arguments.argv])
    if isinstance(experiment, Timing):
        failed = time_steps(experiment, folder, command=command)
    else:
        part = None if shard is None else Shard(*shard)
        home = Path(arguments.folder) / "runs"
        failed = reproduce(experiment, home, folder, shard=part, processes=processes, command=command).failed
    show((folder / "table.md").read_text(encoding="utf-8"))
    for name in ("table.md", "table.csv", "picture.png", "results.json"):
        if (folder / name).exists():
            show(f"written: {folder / name}")
    return int(bool(failed))


def _folder_name(arguments: Namespace) -> str:
    """Name the folder of the results: options that select other columns or rows have another."""
    per_class = arguments.trusted_per_class
    is_part = arguments.methods is not None or arguments.seeds is not None
    parts = [
        *(arguments.experiment, arguments.scale, arguments.data),
        None if per_class is None else f"{per_class}-per-class",
        "selection" if is_part else None,
    ]
    return "-".join(part for part in parts if part is not None)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Parse the value of --shard, I/N, into I and N.

    Raises:
        InputError: it is not of this form, or I is not below N.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise InputError(f"shard: expected I/N with I from 0 to N - 1, such as 0/4, got {text!r}")
    return int(match[1]), int(match[2])
