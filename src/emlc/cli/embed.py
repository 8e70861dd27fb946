"""Embed images or texts with a pretrained network; write ids, labels and embeddings as a parquet file.

DATA is of any kind that `emlc train` reads, with images, or with texts in --text_column. `torchrun` starts
several processes, each of which embeds a share: see docs/scale.md.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from emlc.cli.results import show
from emlc.cli.run_arguments import ReadSettings, add_parts_argument
from emlc.config import BUNDLED_IMAGE_MODEL, NAMED_SOURCES, DataSettings, names_of
from emlc.config.sources import check_source
from emlc.errors import InputError

if TYPE_CHECKING:
    from emlc.data import Samples
    from emlc.runtime.distributed import Ranks

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
    add_parts_argument(parser)
    parser.add_class_arguments(DataSettings, skip=names_of(DataSettings) - _OPTIONS)


def run(arguments: Namespace) -> None:
    output, settings = _checked(arguments)
    from emlc.runtime.distributed import start_workers

    with start_workers(arguments.device) as ranks:
        _embed(arguments, output, settings, ranks)


def _checked(arguments: Namespace) -> tuple[Path, ReadSettings]:
    """Return the file to write, if the command may write there, and how DATA is read."""
    if arguments.part_rows < 1:
        raise InputError(f"part_rows: expected at least 1, got {arguments.part_rows}")
    output = Path(arguments.output)
    if output.suffix != ".parquet":
        raise InputError(f"output: expected a .parquet file, got {output}")
    check_source(arguments.data)
    from emlc.data.writing.embeddings import EMBEDDINGS
    from emlc.runs.outputs import check_apart, check_ours
    from emlc.runtime.files import check_file

    check_file(output)
    check_apart(output, {} if arguments.data in NAMED_SOURCES else {"DATA": arguments.data})
    check_ours(output, EMBEDDINGS, usual=False)
    values = {name: arguments[name] for name in _OPTIONS}
    if values["image_model"] == "auto":
        values["image_model"] = "none" if values["text_column"] else BUNDLED_IMAGE_MODEL
    return output, ReadSettings(**values)


def _embed(arguments: Namespace, output: Path, settings: ReadSettings, ranks: "Ranks") -> None:
    from emlc.data.portions import open_portions
    from emlc.data.writing.embeddings import write_embeddings
    from emlc.runs.joined import join_parquet, longest_schema
    from emlc.runs.parts import finished_parts
    from emlc.runtime.files import atomic_write

    role: Literal["predict", "data"] = "predict" if arguments.unlabelled else "data"
    here = replace(settings, device=str(ranks.device), waits=ranks.size == 1)
    portions = open_portions(arguments.data, here, ranks, role=role)
    with ranks.errors_everywhere():
        made_of = {"role": role, "settings": asdict(settings), "model": _model(settings)}

    def make(samples: "Samples", file: Callable[[str], Path]) -> dict[str, Any]:
        write_embeddings(file(".parquet"), samples)
        return {"d": samples.input_shape[0]}

    with finished_parts(output, portions, arguments.part_rows, made_of, make, ranks) as parts:
        if parts is None:
            return
        with atomic_write(output) as temporary:
            for _ in join_parquet(parts, temporary, longest_schema(parts)):
                pass
        (d,) = {facts["d"] for part in range(parts.count) if "d" in (facts := parts.facts(part))}
        rows = parts.rows
    show(f"{rows:,} embeddings of {d:,} numbers: {output}")


def _model(settings: DataSettings) -> str | None:
    """Return a hash of the model that embeds, if there is one."""
    from emlc.data.embeddings.image_models import load_image_model
    from emlc.data.embeddings.text_models import find_model, model_identity

    if settings.text_column is not None:
        return model_identity(find_model(settings.text_model))
    return None if settings.image_model == "none" else load_image_model(settings.image_model).digest
