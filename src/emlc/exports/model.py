"""Export the student as a file that other programs run: ONNX, torch.export's format, or plain weights.

The exported network takes float32: features as they are, or images scaled to [0, 1]. Standardisation is its
first layer; in a run on embeddings of images, the network that embeds them comes before it. Its output are
class probabilities.
"""

import io
import json
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from emlc.config import NoiseSettings, Settings, names_of, paths_of
from emlc.data import Schema
from emlc.data.columns.encoding import is_plain
from emlc.data.embeddings.images import ImageEmbedder
from emlc.errors import InputError
from emlc.networks.standardize import Standardize
from emlc.runs.checkpoint import save_networks
from emlc.runs.images import embedder
from emlc.runs.run import Run
from emlc.runtime.files import (
    atomic_folder,
    atomic_write,
    check_file,
    check_free,
    write_json,
    write_text,
)
from emlc.runtime.streams import RandomStream, torch_generator

_TOLERANCE = 1e-3
"""Largest difference in probability between an exported network and the run's: kernels round differently."""


class Deployed(nn.Module):
    """A student followed by a softmax: float32 inputs (n, ...) become probabilities (n, C), on the CPU.

    Args:
        student: Inputs to logits.
        embed: What comes before the student: images to embeddings.
    """

    def __init__(self, student: nn.Module, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = nn.Identity() if embed is None else deepcopy(embed).cpu()
        self.student = deepcopy(student).cpu()
        for module in self.student.modules():
            if isinstance(module, Standardize):
                module.memory_format = torch.contiguous_format  # channels_last only speeds up training
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.student(self.embed(inputs))
        return logits.softmax(dim=1)


def describe(run: Run) -> dict[str, Any]:
    """Describe, for JSON, what a program has to know to use an exported network."""
    schema, settings = run.schema, run.settings
    is_image = schema.has_images
    shape = _input_shape(run)
    meaning = "channels, height, width; 0 to 1" if is_image else "features as they are in the data"
    if not is_plain(schema.encoding):
        meaning = "features, computed from the feature_columns as columns tells"
    if schema.text_column:
        meaning = "embeddings of texts by text_model"
    return {
        "classes": list(schema.classes),
        "input": {
            "name": "inputs",
            "dtype": "float32",
            "shape": ["batch", *shape],
            "meaning": meaning,
            "feature_columns": list(schema.feature_columns) or None,
            "features": list(schema.feature_names) or None,
            "columns": list(schema.columns) or None,
            "text_column": schema.text_column,
            "text_model": _portable(schema).text_model,
            "image_model": _portable(schema).image_model,
            "image_size": settings.image_size if schema.image_model is None else shape[-1],
            "resize": settings.resize if is_image else None,
        },
        "output": {
            "name": "probabilities",
            "dtype": "float32",
            "shape": ["batch", len(schema.classes)],
        },
        "emlc": version("emlc"),
    }


def export_onnx(run: Run, output: Path) -> str:
    """Write an ONNX file; ``emlc`` in its metadata is :func:`describe` as JSON.

    Raises:
        InputError: If onnx is not installed, or the network cannot be exported.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(f"--to onnx needs {', '.join(missing)}: pip install 'emlc[onnx]'")
    import onnxruntime

    check_file(output)
    network, example = _deployed(run), _example(run, 2)
    program = _exported(
        lambda: torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=_BATCH,
            input_names=["inputs"],
            output_names=["probabilities"],
            verbose=False,
        ),
        "ONNX",
    )
    for node in program.model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # paths of the code on this machine
    program.model.metadata_props["emlc"] = json.dumps(describe(run))
    with atomic_write(output) as temporary:
        program.save(temporary)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        difference = _difference(
            run, lambda x: torch.from_numpy(session.run(["probabilities"], {"inputs": x.numpy()})[0])
        )
    return f"run by onnxruntime {onnxruntime.__version__}: {difference}"


def export_torch(run: Run, output: Path) -> str:
    """Write a file for ``torch.export.load``; its extra file ``emlc.json`` is :func:`describe`.

    Raises:
        InputError: If the network cannot be exported, or the file's name does not end in .pt2.
    """
    if output.suffix != ".pt2":
        raise InputError(f"output: torch.export.load needs a name that ends in .pt2, got {output}")
    check_file(output)
    network, example = _deployed(run), _example(run, 2)
    program = _exported(
        lambda: torch.export.export(network, (example,), dynamic_shapes=_BATCH), "torch.export"
    )
    for graph in (m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)):
        for node in graph.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of the code on this machine
    with atomic_write(output) as temporary:
        # Not saved to the file directly: on a full disk torch's own writer would kill the process.
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={"emlc.json": json.dumps(describe(run))})
        temporary.write_bytes(buffer.getbuffer())
        difference = _difference(run, torch.export.load(temporary).module())
    return f"run by torch {torch.__version__}: {difference}"


def export_safetensors(run: Run, output: Path) -> str | None:
    """Write a folder that :meth:`Run.load` reads: networks and what is needed to build them, no data.

    Returns:
        If the folder cannot correct labels, the reason. With the last epoch's weights, the threshold below
        which a label counts as wrong has to be computed from the run's own samples, which may be gone.

    Raises:
        InputError: If the folder exists and is not empty.
    """
    check_free(output)
    remark = None
    networks = {"student": run.student} | ({} if run.teacher is None else {"teacher": run.teacher})
    with atomic_folder(output) as temporary:
        save_networks(temporary / "chosen", networks)
        write_json(temporary / "model.json", asdict(_portable(run.schema)))
        write_text(temporary / "settings.yaml", yaml.safe_dump(_without_paths(run.settings), sort_keys=False))
        write_text(temporary / "README.md", _README.format(description=json.dumps(describe(run), indent=2)))
        try:
            if run.teacher is not None:
                run.decision.save(temporary / "decision.json")
        except InputError as error:
            remark = f"predicts, but cannot correct labels: {error}"
    return remark


_BATCH = {"inputs": {0: torch.export.Dim("batch")}}

_README = """# A classifier trained by emlc

```python
from emlc import Run

run = Run.load("FOLDER")            # this folder; nothing in it is code, and none is run
run.predict_proba(inputs)           # a tensor (n, ...) of float32, or images of uint8
```

`emlc predict FOLDER DATA` and `emlc correct FOLDER DATA` read this folder, too.

```json
{description}
```
"""


def _without_paths(settings: Settings) -> dict[str, Any]:
    """Return the settings that build the networks and read further data, without the run's own sources.

    Other files, and a text model, are reduced to their names.
    """
    named = {name: Path(path).name for name, path in paths_of(settings, "file").items()}
    named |= {name: _in_working_directory(path) for name, path in paths_of(settings, "model").items()}
    of_this_run = names_of(
        Settings, lambda facts: facts.draws or facts.path in ("source", "folder", "output")
    )
    defaults = {name: getattr(Settings, name) for name in of_this_run | names_of(NoiseSettings)}
    return replace(settings, **(named | defaults)).as_dict()


def _portable(schema: Schema) -> Schema:
    """Return a schema whose model of texts or images, if a path, is looked for in the working directory."""
    models = {"text_model": schema.text_model, "image_model": schema.image_model}
    paths = {name: model for name, model in models.items() if model is not None and os.path.isabs(model)}
    changes: dict[str, Any] = {name: _in_working_directory(path) for name, path in paths.items()}
    return replace(schema, **changes)


def _in_working_directory(model: str) -> str:
    """Return a path in the working directory; the name alone could be that of a model on the hub."""
    return f".{os.sep}{Path(model).name}"


def _embedder(run: Run) -> ImageEmbedder | None:
    """Return what embeds the run's images; what it embeds here is not kept."""
    schema = run.schema
    if schema.image_model is None:
        return None
    return embedder(schema, replace(run.settings, embedding_cache=None, device="cpu"))


def _deployed(run: Run) -> Deployed:
    embed = _embedder(run)
    return Deployed(run.student, None if embed is None else embed.model.network)


def _input_shape(run: Run) -> tuple[int, ...]:
    embed = _embedder(run)
    return run.schema.input_shape if embed is None else embed.form.shape


def _example(run: Run, n: int) -> Tensor:
    """Draw inputs (n, ...): images of uniform noise, or features distributed like the training data."""
    shape, generator = _input_shape(run), torch_generator(0, RandomStream.EXAMPLE_INPUTS)
    if len(shape) == 3:
        return (255 * torch.rand(n, *shape, generator=generator)).round() / 255
    standardize = next(m for m in run.student.modules() if isinstance(m, Standardize))
    noise = torch.randn(n, standardize.std.shape[1], generator=generator) * standardize.std.cpu()
    basis = standardize.basis
    return (noise if basis is None else noise @ basis.T.cpu()) + standardize.mean.cpu()


def _real_inputs(run: Run, n: int) -> Iterator[Tensor]:
    """Yield one batch of up to n of the run's noisy samples, if they can be read again."""
    try:
        noisy = run.split().noisy
    except InputError:  # the data are gone, or were arrays from Python: examples have to suffice
        return
    embed, inputs = _embedder(run), noisy.inputs if noisy.pictures is None else noisy.pictures
    rows = torch.linspace(0, len(inputs) - 1, min(n, len(inputs))).long()
    yield inputs[rows] if embed is None else embed.pixels(inputs[rows])


def _exported(export: Callable[[], Any], to: str) -> Any:
    try:
        return export()
    except Exception as error:  # the exporter may raise anything for a user's network
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise InputError(f"this network cannot be exported to {to}: {reason}") from error


def _difference(run: Run, exported: Callable[[Tensor], Tensor]) -> str:
    """Compare the probabilities with the run's own, on examples in batches of two sizes and on its samples.

    Raises:
        InputError: If the difference is too large, or not a number.
    """
    differences = []
    without_cache = replace(run, settings=replace(run.settings, embedding_cache=None))
    for inputs in (_example(run, 1), _example(run, 5), *_real_inputs(run, 5)):
        scaled = inputs / 255 if inputs.dtype == torch.uint8 else inputs.float()
        with torch.no_grad():
            differences.append((exported(scaled) - without_cache.predict_proba(inputs)).abs().max())
    largest = torch.stack(differences).max().item()  # NaN if one of them is
    if not largest <= _TOLERANCE:
        raise InputError(f"the exported network is not the run's: its probabilities differ by {largest:.2g}")
    return f"probabilities differ by {largest:.1e} at most from those of the run"
