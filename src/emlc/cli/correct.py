"""Write the corrected labels of the training set, or of other labelled data.

Writes a CSV and a parquet file with one row per sample: see docs/labels.md. `torchrun` starts several
processes, each of which corrects a share: see docs/scale.md. Where true labels are known, the quality of the
corrected labels is printed beside cleanlab's on the same samples, and written to a JSON file.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show

if TYPE_CHECKING:
    from emlc.data import Samples
    from emlc.data.rows_on_disk import Portions
    from emlc.labels.decision import Decision
    from emlc.labels.quality import QualityMeter
    from emlc.runs.run import Run
    from emlc.runtime.distributed import Ranks

USAGE = "RUN [DATA] [options]"


def add_arguments(parser: ArgumentParser) -> None:
    run_arguments.add_run_arguments(
        parser, "labelled samples (default: the noisy samples the run was trained on)"
    )
    parser.add_argument(
        "--true_label_column", type=str | None, help="column of DATA with true labels, to measure the quality"
    )
    parser.add_argument(
        "--output",
        type=str | None,
        help="CSV file; the parquet file is written beside it (default: RUN/labels.csv, RUN/labels-DATA.csv; "
        "for the last weights RUN/labels-last.csv)",
    )
    parser.add_argument("--all_probabilities", action="store_true", help="also write one column per class")
    run_arguments.add_parts_argument(parser)


@partial(run_arguments.alone_in_run, shares=True)
def run(arguments: Namespace) -> None:
    run_arguments.check_before_torch(arguments)
    from emlc.runtime.distributed import start_workers

    with start_workers(arguments.device) as ranks:
        _correct(arguments, ranks)


def _correct(arguments: Namespace, ranks: "Ranks") -> None:
    from emlc.runs.outputs import remember_output

    with ranks.errors_everywhere():
        trained = run_arguments.load_run(arguments, str(ranks.device))
        trained.require_teacher()
        csv = _output(trained, arguments)
    trained, portions, settings = _open(trained, arguments, ranks)
    if ranks.is_first:
        remember_output(trained.folder, csv, arguments.data)
    meter = _write(trained, portions, settings, csv, arguments, ranks)
    if meter is not None:
        _show(trained, meter, csv)


def _output(trained: "Run", arguments: Namespace) -> Path:
    """Return the CSV file to write, if the command may write there."""
    from emlc.labels.files import label_paths
    from emlc.runs.outputs import check_keeps_sources, check_ours
    from emlc.runtime.files import check_file

    output = run_arguments.output_path(trained, arguments, "labels")
    check_file(output)
    csv, parquet = label_paths(output)
    is_own = arguments.data is None and os.path.realpath(csv) == os.path.realpath(
        trained.folder / "labels.csv"
    )
    usual = arguments.output is None or is_own
    for path in (csv, parquet):
        check_file(path)
        check_keeps_sources(trained, path, data=arguments.data)
        check_ours(path, "corrected_label", usual=usual)
    check_ours(_quality_path(csv), '"cleanlab"', usual=usual)
    return csv


def _open(trained: "Run", arguments: Namespace, ranks: "Ranks") -> "tuple[Run, Portions, dict[str, object]]":
    """Return the run with its decision, which the first rank makes if need be, and the labelled samples."""
    from emlc.data.portions import SamplesInMemory

    if arguments.data is not None:
        portions, settings = run_arguments.open_portions(trained, arguments, "data", ranks)
        decision = ranks.from_first(lambda: trained.decision)
        return replace(trained, known_decision=decision), portions, settings
    with ranks.errors_everywhere():
        split = trained.split()
        # The samples were compared with this table.
        own = SamplesInMemory(split.noisy, [(trained.folder / "split.csv").read_text(encoding="utf-8")])
    decision = ranks.from_first(lambda: trained.with_decision(split).decision)
    return replace(trained, known_decision=decision), own, {}


def _show(trained: "Run", meter: "QualityMeter", csv: Path) -> None:
    share = meter.issues / meter.total
    parquet = csv.with_suffix(".parquet").name
    show(f"{meter.total:,} labels, {meter.issues:,} of them ({share:.1%}) corrected: {csv}, {parquet}")
    decision = trained.decision
    if decision.threshold == 0:
        show(
            f"no label counts as wrong: the {decision.trusted_samples:,} {decision.calibrated_on} samples do "
            "not show that corrected labels are better than the given ones. Check more labels, or hold some "
            "trusted samples out with --validation_fraction"
        )
    else:
        _print_decision(decision)
    _print_quality(meter, csv)
    _print_advice(trained.folder)


def _print_advice(folder: Path) -> None:
    """Say again what speaks against the labels of a run, by its comparison with simpler ways."""
    from emlc.labels.advice import advice_on
    from emlc.runs.beside import load_comparison

    comparison = load_comparison(folder)
    for advice in [] if comparison is None else advice_on(comparison):
        show(advice)


def _print_decision(decision: "Decision") -> None:
    figures = (decision.noise_rate, decision.expected_f1)
    rate, f1 = ("unknown" if figure is None else f"{figure:.1%}" for figure in figures)
    show(
        f"labels with a label_quality below {decision.threshold:.3f} count as issues. Estimated from "
        f"{decision.trusted_samples:,} {decision.calibrated_on} samples, for the training set: wrong labels "
        f"{rate}, F1 score of the issues {f1}"
    )


def _write(
    trained: "Run",
    portions: "Portions",
    settings: dict[str, object],
    path: Path,
    arguments: Namespace,
    ranks: "Ranks",
) -> "QualityMeter | None":
    """Write the labels, this rank its share of the parts; return what measures them on the first rank."""
    from emlc.runs.label_parts import join_label_parts, write_label_part
    from emlc.runs.parts import finished_parts

    every = {"all_probabilities": arguments.all_probabilities}
    decision = asdict(trained.decision)
    made_of = run_arguments.made_of(trained, arguments, settings=settings, decision=decision)

    def make(samples: "Samples", file: Callable[[str], Path]) -> dict[str, Any]:
        return write_label_part(trained, samples, file, **every)

    with finished_parts(path, portions, arguments.part_rows, made_of, make, ranks) as parts:
        if parts is None:
            return None
        return join_label_parts(parts, path, trained.schema.classes, **every)


def _quality_path(csv: Path) -> Path:
    return csv.with_name("label_quality.json" if csv.stem == "labels" else f"{csv.stem}-quality.json")


def _print_quality(meter: "QualityMeter", csv: Path) -> None:
    figures = meter.figures()
    if figures is None:
        return
    from rich.console import Console
    from rich.table import Table

    from emlc.labels.quality import FIGURES, figures_rows
    from emlc.runtime.files import write_json

    path = _quality_path(csv)
    write_json(path, figures)
    table = Table(title="against the true labels, %")
    table.add_column("")
    for name in FIGURES:
        table.add_column(name.replace("_", " "), justify="right")
    for row in figures_rows((name, values) for name, values in figures.items() if values is not None):
        table.add_row(*row)
    Console().print(table)
    if figures["cleanlab"] is None:
        show(meter.why_no_cleanlab())
    show(f"written: {path}")
