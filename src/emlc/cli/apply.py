"""Apply a reviewer's decisions: write the next data set, ready for `emlc train`.

DECISIONS is the decisions.csv downloaded from the report of RUN, or the review.sqlite of `emlc review`.
Reviewed samples join the trusted set with the label that the reviewer chose, excluded ones are left out;
samples that are undecided or were not reviewed stay in the noisy set.
"""

import shlex
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show
from emlc.errors import InputError

USAGE = "RUN DECISIONS [options]"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run directory of `emlc train`")
    parser.add_argument("decisions", type=str, help="decisions.csv or review.sqlite")
    parser.add_argument("--output", type=str | None, help="folder (default: RUN/reviewed)")
    parser.add_argument(
        "--unreviewed",
        type=Literal["keep", "correct", "drop"],
        default="keep",
        help="noisy samples without a decision: keep the given label | take the run's corrected label | drop "
        "those whose label the run would correct",
    )
    parser.add_argument(
        "--weights",
        type=Literal["chosen", "last"],
        default="chosen",
        help="weights that correct unreviewed labels: of the chosen or the last epoch",
    )
    parser.add_argument("--device", type=str, default="auto", help="auto | cpu | cuda | cuda:N")
    run_arguments.add_trust_argument(parser, "the run names")


@run_arguments.alone_in_run
def run(arguments: Namespace) -> None:
    decisions = Path(arguments.decisions)
    if not decisions.exists():
        raise InputError(f"{decisions}: cannot be read: No such file or directory")
    trained = run_arguments.load_run(arguments)
    from emlc.review import apply_decisions

    output = Path(arguments.output) if arguments.output else trained.folder / "reviewed"
    summary = apply_decisions(trained, decisions, output, unreviewed=arguments.unreviewed)
    for line in _summary_lines(summary):
        show(line)
    show(f"written: {output}")
    if summary["noisy_after"] > 1:
        show(f"train again: emlc train --config {shlex.quote(str(output / 'train.yaml'))} --output ...")


def _rarer(decisions: dict[str, int]) -> str:
    counts = {"excluded": decisions["exclude"], "to be looked at again": decisions["recheck"]}
    return "".join(f"{count:,} {words}; " for words, count in counts.items() if count)


def _summary_lines(summary: dict[str, Any]) -> list[str]:
    decisions = summary["decisions"]
    lines = [
        f"decisions: {decisions['accept']:,} accepted, {decisions['keep']:,} kept, "
        f"{decisions['other']:,} other, {decisions['skip']:,} skipped; {_rarer(decisions)}"
        f"{summary['labels_changed']:,} labels changed",
        f"trusted samples: {summary['trusted_before']:,} before, {summary['trusted_after']:,} now",
        f"noisy samples: {summary['noisy_before']:,} before, {summary['noisy_after']:,} now; labels of those "
        f"not reviewed: {summary['unreviewed']}",
    ]
    if others := summary["not_at_random"]:
        lines.append(
            f"{others:,} reviewed samples were not chosen at random: each weighs as much as a noisy sample"
        )
    if known := summary["with_known_truth"]:
        lines.append(
            f"the true labels of {known:,} reviewed samples are known: {summary['right']:,} decisions are "
            f"right, and {summary['given_right']:,} given labels were right"
        )
    if summary["noisy_after"] < 2:
        lines.append("too few noisy samples are left: `emlc train` needs at least 2")
    return lines
