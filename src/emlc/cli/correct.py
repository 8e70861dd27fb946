"""Write the corrected labels of the training set, or of other labelled data.

The result is a CSV file, one row a sample: see docs/labels.md.
"""

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import using

USAGE = "RUN [DATA] [options]"


def add_arguments(parser: ArgumentParser) -> None:
    using.add_run_arguments(parser, "labelled samples (default: the noisy samples the run was trained on)")
    parser.add_argument(
        "--output", type=str | None, help="CSV file (default: RUN/labels.csv, RUN/labels-DATA.csv)"
    )


def run(arguments: Namespace) -> None:
    trained = using.load_run(arguments)
    trained.require_teacher()
    from emlc.files import write_csv

    if arguments.data is None:
        samples = trained.split().noisy
    else:
        samples = using.read_samples(trained, arguments, role="data")
    table = trained.correct_labels(samples)
    path = using.default_output(trained, arguments, "labels")
    write_csv(path, table)
    issues = int(table["is_label_issue"].sum())
    print(f"{len(table):,} labels, {issues:,} of them ({issues / len(table):.1%}) corrected: {path}")
