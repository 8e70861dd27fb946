"""Export tasks for Label Studio: each noisy sample with its corrected label as prediction, worst label first.

https://labelstud.io/guide/predictions describes predictions, and how tasks and the labelling interface are
imported.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from emlc.data import Samples
from emlc.errors import InputError
from emlc.exports.corrected import Corrected
from emlc.exports.shown import data_uri, iter_images, iter_values, shown_kind
from emlc.runs.run import Run
from emlc.runtime.files import atomic_folder, check_free, write_json_list
from emlc.runtime.progress import tracked

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"[A-Za-z_][\w-]*")
_TAGS = {"image": "Image", "text": "Text", "values": "Table"}


def export_label_studio(
    run: Run,
    output: Path,
    *,
    from_name: str = "label",
    to_name: str | None = None,
    images: Literal["files", "data"] | None = None,
    document_root: str = "/",
) -> str:
    """Write ``tasks.json``, and ``config.xml`` with the labelling interface, into a folder.

    Args:
        run: The run.
        output: A new or empty folder.
        from_name: Name of the interface's choices, to which predictions refer.
        to_name: Name of the interface's labelled object (default: image, text or values).
        images: How tasks show images. files: by the address at which Label Studio serves local files. data:
            by their content, which needs no file storage. The default is files if the images are files.
        document_root: The folder whose files Label Studio serves.

    Raises:
        InputError: If the interface cannot hold a name, the samples are not images, or an image is not a
            file below ``document_root``.
    """
    check_free(output)
    corrected = Corrected.of(run)
    key = shown_kind(corrected.noisy)
    if images is not None and key != "image":
        raise InputError("images: the samples are not images")
    to_name = to_name or key
    config = labelling_interface(run.schema.classes, key, from_name, to_name)
    order = np.argsort(corrected.labels["label_quality"].to_numpy(), kind="stable")
    samples = corrected.noisy.take(order)
    labels = corrected.labels.iloc[order].itertuples(index=False)
    by_address = key == "image" and (images == "files" or (images is None and samples.files is not None))
    shown = _shown(samples, key, run.schema.feature_columns, document_root if by_address else None)
    version = f"emlc-{run.folder.resolve().name}"
    with atomic_folder(output) as temporary:
        (temporary / "config.xml").write_text(config, encoding="utf-8")
        rows = zip(labels, tracked(shown, "Writing tasks", len(samples)), strict=True)
        with (temporary / "tasks.json").open("w", encoding="utf-8") as file:
            write_json_list(
                file, (_task(row, {key: value}, from_name, to_name, version) for row, value in rows)
            )
    message = f"{len(samples):,} tasks, the worst label first; the labelling interface is in config.xml"
    if by_address:
        message += (
            "; Label Studio shows the images if the project has a source storage of the kind Local files for "
            f"{_common_folder(samples)}: see docs/export.md"
        )
    return message


def labelling_interface(classes: tuple[str, ...], key: str, from_name: str, to_name: str) -> str:
    """Return the XML of a labelling interface: a sample, and a choice of one class.

    Args:
        classes: Class names.
        key: Key of the sample in a task's data: image, text or values.
        from_name: Name of the choices.
        to_name: Name of the sample.

    Raises:
        InputError: If a class has a character that XML cannot hold, or a name is not valid.
    """
    for option, name in {"from_name": from_name, "to_name": to_name}.items():
        if not _NAME.fullmatch(name):
            raise InputError(f"{option}: expected letters, digits, _ and -, got {name!r}")
    if from_name == to_name:
        raise InputError(f"from_name and to_name: expected two names, both are {from_name!r}")
    for name in classes:
        if match := _NOT_XML.search(name):
            raise InputError(
                f"class {name!r}: the labelling interface cannot hold the character {match[0]!r}"
            )
    view = ET.Element("View")
    ET.SubElement(view, _TAGS[key], name=to_name, value=f"${key}")
    choices = ET.SubElement(
        view, "Choices", name=from_name, toName=to_name, choice="single", showInline="true"
    )
    for name in classes:
        ET.SubElement(choices, "Choice", value=name)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def _task(row: Any, shown: dict[str, Any], from_name: str, to_name: str, version: str) -> dict[str, Any]:
    """Return the task for a row of the label table."""
    evidence = {
        "emlc_id": str(row.id),
        "given_label": str(row.given_label),
        "corrected_probability": float(row.corrected_probability),
        "retain_weight": float(row.retain_weight),
    }
    choice = {
        "id": "corrected",
        "from_name": from_name,
        "to_name": to_name,
        "type": "choices",
        "value": {"choices": [str(row.corrected_label)]},
    }
    prediction = {"model_version": version, "score": float(row.label_quality), "result": [choice]}
    return {"data": shown | evidence, "predictions": [prediction]}


def _shown(samples: Samples, key: str, names: tuple[str, ...], root: str | None) -> Iterator[Any]:
    """Return what a task shows of each sample; of an image its address below a root, or else its content."""
    if key == "text":
        assert samples.texts is not None
        return iter(samples.texts.to_pylist())
    if key == "values":
        return iter_values(samples, names)
    if root is None:
        return (data_uri(kind, content) for kind, content in iter_images(samples))
    if samples.files is None:
        raise InputError(
            "images: they are not files of their own; --images data writes the images themselves"
        )
    return iter([_address(file, root) for file in samples.files.to_pylist()])


def _common_folder(samples: Samples) -> str:
    """Return the innermost folder that holds all image files."""
    assert samples.files is not None
    folders: set[str] = {os.path.dirname(os.path.abspath(file)) for file in samples.files.to_pylist()}
    return os.path.commonpath(folders)


def _address(file: str, root: str) -> str:
    """Return the address at which Label Studio serves a file of its local storage."""
    relative = os.path.relpath(file, os.path.abspath(root))
    if relative.split(os.sep)[0] == os.pardir:
        raise InputError(f"document_root: {file} is not below {root}")
    return f"/data/local-files/?d={quote(relative)}"
