"""What a run can be handed on as: its corrected labels for other tools, and its networks.

A target is a module of this package, imported when it is asked for, and its function there::

    export(run, output, **options) -> str | None

which writes ``output``, a file or a folder, and returns what to say beside where it is. The options are
those of ``emlc export`` that the target names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emlc.errors import InputError
from emlc.runs.outputs import check_keeps_sources

if TYPE_CHECKING:
    from emlc.runs.run import Run


@dataclass(frozen=True)
class Target:
    """Something to export to.

    Attributes:
        function: ``module:function`` in this package.
        output: The default output, relative to the run directory.
        options: Names of the options that it has.
    """

    function: str
    output: str
    options: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {
    "csv": Target("table:export_table", "corrected.csv"),
    "imagefolder": Target("imagefolder:export_image_folder", "imagefolder", ("link",)),
    "labelstudio": Target(
        "labelstudio:export_label_studio",
        "labelstudio",
        ("from_name", "to_name", "images", "document_root"),
    ),
    "fiftyone": Target("fiftyone:export_fiftyone", "fiftyone"),
    "onnx": Target("model:export_onnx", "model.onnx"),
    "torch-export": Target("model:export_torch", "model.pt2"),
    "safetensors": Target("model:export_safetensors", "safetensors"),
}


def given_options(to: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, which are neither None nor False.

    Raises:
        InputError: the target has no such option.
    """
    given = {name: value for name, value in options.items() if value not in (None, False)}
    for name in given.keys() - set(TARGETS[to].options):
        those = [target for target, each in TARGETS.items() if name in each.options]
        raise InputError(f"{name}: goes with --to {' or '.join(those)}, not with {to}")
    return given


def export(run: "Run", to: str, output: Path | None = None, **options: Any) -> tuple[Path, str | None]:
    """Write a run to a target; see :data:`TARGETS`.

    Returns:
        Where it was written to, and what else there is to say.

    Raises:
        InputError: the target has no such option, cannot take what this run has, or would replace its data.
    """
    target = TARGETS[to]
    written = output or run.folder / target.output
    given = given_options(to, options)
    check_keeps_sources(run, written)
    module, function = target.function.split(":")
    write = getattr(import_module(f"{__name__}.{module}"), function)
    return written, write(run, written, **given)
