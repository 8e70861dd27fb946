"""Write the student's predicted class and its probability for every sample of DATA.

DATA needs no labels. The result is a CSV file with the columns id, predicted_label and
predicted_probability, and with --all_probabilities one column probability_CLASS per class.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show

USAGE = "RUN DATA [options]"


def add_arguments(parser: ArgumentParser) -> None:
    run_arguments.add_run_arguments(
        parser, "samples to classify, of any kind that `emlc train` reads", data_required=True
    )
    parser.add_argument("--output", type=str | None, help="CSV file (default: RUN/predictions-DATA.csv)")
    parser.add_argument("--all_probabilities", action="store_true", help="also write one column per class")


@run_arguments.alone_in_run
def run(arguments: Namespace) -> None:
    trained = run_arguments.load_run(arguments)
    from emlc.runs.outputs import check_keeps_sources, check_ours
    from emlc.runtime.files import check_file

    path = run_arguments.output_file(trained, arguments, "predictions")
    check_file(path)
    check_keeps_sources(trained, path, data=arguments.data)
    check_ours(path, "predicted_probability", usual=arguments.output is None)
    samples = run_arguments.read_samples(trained, arguments, role="predict")
    from emlc.labels.table import prediction_table
    from emlc.runs.outputs import remember_output
    from emlc.runtime.files import write_csv

    table = prediction_table(
        samples.ids,
        trained.schema.classes,
        trained.predict_proba(samples.inputs),
        all_probabilities=arguments.all_probabilities,
    )
    remember_output(trained.folder, path, arguments.data)
    write_csv(path, table)
    show(f"{len(table):,} samples classified: {path}")
