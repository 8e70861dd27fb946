"""Write the corrected labels of the training set, or of other labelled data.

Writes a CSV and a parquet file with one row per sample: see docs/labels.md. Where true labels are known, the
quality of the corrected labels is printed beside cleanlab's on the same samples, and written to a JSON file.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show

if TYPE_CHECKING:
    from pandas import DataFrame

    from emlc.data import Samples
    from emlc.labels.decision import Decision
    from emlc.labels.quality import QualityMeter
    from emlc.runs.run import Run

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


@run_arguments.alone_in_run
def run(arguments: Namespace) -> None:
    trained = run_arguments.load_run(arguments)
    trained.require_teacher()
    from emlc.labels.files import label_paths
    from emlc.runs.outputs import check_keeps_sources, check_ours, remember_output
    from emlc.runtime.files import check_file

    output = run_arguments.output_file(trained, arguments, "labels")
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
    if arguments.data is None:
        split = trained.split()
        trained = trained.with_decision(split)
        samples = split.noisy
    else:
        samples = run_arguments.read_samples(trained, arguments, role="data")
    remember_output(trained.folder, csv, arguments.data)
    meter = _write(trained, samples, csv, all_probabilities=arguments.all_probabilities)
    share = meter.issues / meter.total
    show(f"{meter.total:,} labels, {meter.issues:,} of them ({share:.1%}) corrected: {csv}, {parquet.name}")
    decision = trained.decision
    if decision.threshold == 0:
        show(
            f"no label counts as wrong: the {decision.trusted_samples:,} {decision.calibrated_on} samples do "
            "not show, beyond chance, that corrected labels would be better: trust more samples, or hold "
            "some of them out by --validation_fraction"
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
        f"an issue is a label with a label_quality below {decision.threshold:.3f}, by "
        f"{decision.trusted_samples:,} {decision.calibrated_on} samples; in training the estimated share of "
        f"wrong labels is {rate}, and the issues' F1 is {f1}"
    )


def _write(trained: "Run", samples: "Samples", path: Path, *, all_probabilities: bool) -> "QualityMeter":
    from rich.console import Console
    from rich.progress import Progress

    from emlc.labels.files import write_blocks
    from emlc.labels.quality import QualityMeter
    from emlc.labels.table import label_schema

    meter = QualityMeter()
    known = samples.true_labels is not None
    schema = label_schema(samples.classes, true_labels=known, all_probabilities=all_probabilities)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("Correcting labels", total=len(samples))

        def tables() -> Iterator["DataFrame"]:
            for block, table, predictions in trained.iter_label_tables(
                samples, all_probabilities=all_probabilities
            ):
                meter.add(block, table, predictions)
                yield table

        for table in write_blocks(path, tables(), schema):
            bar.advance(task, len(table))
    return meter


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
