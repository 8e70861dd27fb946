"""Export a run: its corrected labels for other tools, or its networks.

Each target names a module of this package, imported only when needed, and a function in it::

    export(run, output, **options) -> str | None

which writes ``output``, a file or a folder, and returns a remark to print after its path, if any. The target
also names those options of ``emlc export`` that the function takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emlc.config import paths_of
from emlc.errors import InputError
from emlc.runs.outputs import check_apart, check_keeps_sources, check_name, check_ours

if TYPE_CHECKING:
    from emlc.runs.run import Run


@dataclass(frozen=True)
class Target:
    """A format that a run can be exported to.

    Attributes:
        function: ``module:function`` in this package.
        output: The default output, relative to the run directory.
        mark: Text that is in each file that the function writes; None: it writes a folder, to a free place.
        options: Names of the options that the function takes.
    """

    function: str
    output: str
    options: tuple[str, ...] = ()
    mark: str | None = None


TARGETS: dict[str, Target] = {
    "csv": Target("table:export_table", "corrected.csv", mark="corrected_probability"),
    "imagefolder": Target("imagefolder:export_image_folder", "imagefolder", ("link",)),
    "labelstudio": Target(
        "labelstudio:export_label_studio",
        "labelstudio",
        ("from_name", "to_name", "images", "document_root"),
    ),
    "argilla": Target("argilla:export_argilla", "argilla"),
    "fiftyone": Target("fiftyone:export_fiftyone", "fiftyone"),
    "datalab": Target("datalab:export_datalab", "datalab"),
    "onnx": Target("model:export_onnx", "model.onnx", mark="emlc"),
    "torch-export": Target("model:export_torch", "model.pt2", mark="emlc.json"),
    "safetensors": Target("model:export_safetensors", "safetensors"),
}
"""All targets, by the name that ``emlc export --to`` takes."""


def given_options(to: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the user set, which are those that are neither None nor False.

    Raises:
        InputError: If the target does not take one of them.
    """
    arguments = {name: value for name, value in options.items() if value not in (None, False)}
    for name in arguments.keys() - set(TARGETS[to].options):
        takers = [other for other, target in TARGETS.items() if name in target.options]
        raise InputError(f"{name}: goes with --to {' or '.join(takers)}, not with {to}")
    return arguments


def export(run: "Run", to: str, output: Path | None = None, **options: Any) -> tuple[Path, str | None]:
    """Write a run to a target; see :data:`TARGETS`.

    Returns:
        The path that was written, and a remark on it, if any.

    Raises:
        InputError: If the target does not take an option, cannot hold this run, or would replace its data.
    """
    target = TARGETS[to]
    destination = output or run.folder / target.output
    arguments = given_options(to, options)
    check_keeps_sources(run, destination)
    if target.mark is None:
        check_name(destination)
        check_apart(destination, paths_of(run.settings, "source"))
    else:
        check_ours(destination, target.mark, usual=output is None)
    module, function = target.function.split(":")
    write = getattr(import_module(f"{__name__}.{module}"), function)
    return destination, write(run, destination, **arguments)
