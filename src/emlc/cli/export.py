"""Export a run for other tools: its corrected labels, or its student.

csv: the corrected data set as one table. imagefolder: its images, one folder per class. labelstudio: tasks
with predictions, worst label first, and the labelling interface. argilla: records with suggestions, worst
label first. fiftyone: a data set that FiftyOne loads. datalab: given labels, class probabilities and
features for cleanlab's Datalab. See docs/export.md. onnx, torch-export: the student with a softmax, for
programs without emlc. safetensors: the networks without the data, for emlc. See docs/deploy.md.
"""

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show
from emlc.exports import TARGETS, export, given_options

USAGE = "RUN --to TARGET [options]"

_OPTIONS = sorted({option for target in TARGETS.values() for option in target.options})


def add_arguments(parser: ArgumentParser) -> None:
    run_arguments.add_weights_arguments(parser)
    parser.add_argument("--to", choices=list(TARGETS), required=True, help="what to write")
    parser.add_argument("--output", type=str | None, help="file or folder (default: in RUN, named as TARGET)")
    parser.add_argument("--link", action="store_true", help="imagefolder: symbolic links, not copies")
    parser.add_argument("--from_name", type=str | None, help="labelstudio: name of the choices control")
    parser.add_argument("--to_name", type=str | None, help="labelstudio: name of the labelled object")
    parser.add_argument(
        "--images",
        type=Literal["files", "data"] | None,
        help="labelstudio: refer to image files, or embed the images (default: files if there are any)",
    )
    parser.add_argument(
        "--document_root",
        type=str | None,
        help="labelstudio: folder from which Label Studio serves local files (default: /)",
    )


@run_arguments.alone_in_run
def run(arguments: Namespace) -> None:
    options = given_options(arguments.to, {name: arguments[name] for name in _OPTIONS})
    output = None if arguments.output is None else Path(arguments.output)
    written, message = export(run_arguments.load_run(arguments), arguments.to, output, **options)
    if message is not None:
        show(message)
    show(f"written: {written}")
