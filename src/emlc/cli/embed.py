"""Embed images or texts with a pretrained network; write ids, labels and embeddings as a parquet file.

DATA is of any kind that `emlc train` reads, with images, or with texts in --text_column.
"""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.results import show
from emlc.config import BUNDLED_IMAGE_MODEL, NAMED_SOURCES, DataSettings, names_of
from emlc.config.sources import check_source
from emlc.errors import InputError

USAGE = "DATA --output FILE.parquet [options]"

_OPTIONS = {
    *("data_root", "label_column", "true_label_column", "id_column", "image_column", "text_column"),
    *("text_model", "image_model", "embedding_cache", "image_size", "resize", "skip_unreadable", "classes"),
    *("separator", "encoding", "background", "image_range", "drop_unlabelled"),
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", type=str, help="the images or texts")
    parser.add_argument("--output", type=str, required=True, help="the .parquet file to write")
    parser.add_argument("--unlabelled", action="store_true", help="read no labels: DATA need not have any")
    parser.add_argument("--device", type=str, default="auto", help="auto | cpu | cuda | cuda:N")
    parser.add_class_arguments(DataSettings, skip=names_of(DataSettings) - _OPTIONS)


def run(arguments: Namespace) -> None:
    output = Path(arguments.output)
    if output.suffix != ".parquet":
        raise InputError(f"output: expected a .parquet file, got {output}")
    check_source(arguments.data)
    from emlc.data import read
    from emlc.data.writing.embeddings import EMBEDDINGS, write_embeddings
    from emlc.runs.outputs import check_apart, check_ours
    from emlc.runtime.files import check_file

    check_file(output)
    check_apart(output, {} if arguments.data in NAMED_SOURCES else {"DATA": arguments.data})
    check_ours(output, EMBEDDINGS, usual=False)
    values = {name: arguments[name] for name in _OPTIONS}
    if values["image_model"] == "auto":
        values["image_model"] = "none" if values["text_column"] else BUNDLED_IMAGE_MODEL
    settings = DataSettings(**values)
    samples = read(arguments.data, settings, role="predict" if arguments.unlabelled else "data")
    write_embeddings(output, samples)
    (d,) = samples.input_shape
    show(f"{len(samples):,} embeddings of {d:,} numbers: {output}")
