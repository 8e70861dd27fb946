"""Write the student's predicted class and its probability for every sample of DATA.

DATA needs no labels. The result is a CSV file with the columns id, predicted_label and
predicted_probability, and with --all_probabilities one column probability_CLASS per class.
`torchrun` starts several processes, each of which classifies a share: see docs/scale.md.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show

if TYPE_CHECKING:
    from emlc.data import Samples
    from emlc.runs.run import Run
    from emlc.runtime.distributed import Ranks

USAGE = "RUN DATA [options]"


def add_arguments(parser: ArgumentParser) -> None:
    run_arguments.add_run_arguments(
        parser, "samples to classify, of any kind that `emlc train` reads", data_required=True
    )
    parser.add_argument("--output", type=str | None, help="CSV file (default: RUN/predictions-DATA.csv)")
    parser.add_argument("--all_probabilities", action="store_true", help="also write one column per class")
    run_arguments.add_parts_argument(parser)


@partial(run_arguments.alone_in_run, shares=True)
def run(arguments: Namespace) -> None:
    run_arguments.check_before_torch(arguments)
    from emlc.runtime.distributed import start_workers

    with start_workers(arguments.device) as ranks:
        _predict(arguments, ranks)


def _predict(arguments: Namespace, ranks: "Ranks") -> None:
    from emlc.labels.table import prediction_columns
    from emlc.runs.joined import join_csv
    from emlc.runs.outputs import remember_output
    from emlc.runs.parts import finished_parts
    from emlc.runtime.files import atomic_write

    with ranks.errors_everywhere():
        trained = run_arguments.load_run(arguments, str(ranks.device))
        path = _output(trained, arguments)
    portions, settings = run_arguments.open_portions(trained, arguments, "predict", ranks)
    made_of = run_arguments.made_of(trained, arguments, settings=settings)

    def make(samples: "Samples", file: Callable[[str], Path]) -> dict[str, Any]:
        return _write_part(trained, samples, file(".csv"), all_probabilities=arguments.all_probabilities)

    if ranks.is_first:
        remember_output(trained.folder, path, arguments.data)
    with finished_parts(path, portions, arguments.part_rows, made_of, make, ranks) as parts:
        if parts is None:
            return
        columns = prediction_columns(trained.schema.classes, all_probabilities=arguments.all_probabilities)
        with atomic_write(path) as temporary:
            join_csv(parts, temporary, columns)
        rows = parts.rows
    show(f"{rows:,} samples classified: {path}")


def _output(trained: "Run", arguments: Namespace) -> Path:
    """Return the file to write, if the command may write there."""
    from emlc.runs.outputs import check_keeps_sources, check_ours
    from emlc.runtime.files import check_file

    path = run_arguments.output_path(trained, arguments, "predictions")
    check_file(path)
    check_keeps_sources(trained, path, data=arguments.data)
    check_ours(path, "predicted_probability", usual=arguments.output is None)
    return path


def _write_part(trained: "Run", samples: "Samples", path: Path, *, all_probabilities: bool) -> dict[str, Any]:
    from emlc.labels.table import prediction_table
    from emlc.runs.joined import write_csv_part

    probabilities = trained.predict_proba(samples.inputs)
    classes = trained.schema.classes
    write_csv_part(
        path, prediction_table(samples.ids, classes, probabilities, all_probabilities=all_probabilities)
    )
    return {}
