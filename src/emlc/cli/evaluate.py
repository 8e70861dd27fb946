"""Measure a run's student: accuracy overall and per class, confusion, calibration.

Prints a table; writes evaluation.json, per_class.csv, confusion.csv, calibration.csv, and pictures of the
confusion matrix and the calibration.
"""

import math

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show
from emlc.errors import InputError, readable

USAGE = "RUN [DATA] [options]"


def add_arguments(parser: ArgumentParser) -> None:
    run_arguments.add_run_arguments(parser, "samples with true labels (default: the run's own test set)")
    parser.add_argument(
        "--output",
        type=str | None,
        help="directory (default: RUN/evaluation, RUN/evaluation-DATA; for the last weights "
        "RUN/evaluation-last, RUN/evaluation-DATA-last)",
    )


@run_arguments.alone_in_run
def run(arguments: Namespace) -> None:
    trained = run_arguments.load_run(arguments)
    from emlc.runs.metrics import has_noisy_test
    from emlc.runs.outputs import check_our_folder, check_ours, known_as, remember_output

    folder = run_arguments.output_path(trained, arguments, "evaluation", "")
    check_our_folder(folder, "evaluation.json")
    check_ours(folder / "evaluation.json", '"expected_calibration_error"', usual=True)
    is_noisy = None
    if arguments.data is None:
        split = trained.split()
        if split.test is None:
            raise InputError(f"{trained.folder}: the run has no test set; name DATA to evaluate on")
        samples, is_noisy = split.test, has_noisy_test(trained.settings, split)
    else:
        samples = run_arguments.read_samples(trained, arguments, role="test")
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from emlc.runs.evaluation import evaluate_probabilities

    evaluation = evaluate_probabilities(
        trained.predict_proba(samples.inputs), samples.given, trained.schema.classes
    )
    remember_output(trained.folder, folder, arguments.data)
    evaluation.save(
        folder,
        weights=arguments.weights,
        data=None if arguments.data is None else known_as(arguments.data),
        noisy_test_labels=is_noisy,
    )
    table = Table(title=f"{len(samples):,} samples, {arguments.weights} weights")
    for heading in evaluation.per_class.columns:
        table.add_column(str(heading), justify="left" if heading == "class" else "right")
    for row in evaluation.per_class.itertuples(index=False):
        table.add_row(*(Text(readable(_cell(value))) for value in row))  # names are no markup
    Console().print(table)
    if is_noisy:
        show(
            "the test labels are as noisy as the others: the figures tell how far the student agrees with "
            "them, not how often it is right"
        )
    for name, value in evaluation.figures.items():
        show(f"{name}: {value}")
    show(f"written: {folder}")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.1f}"
    return str(value)
