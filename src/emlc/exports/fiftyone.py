"""Export to FiftyOne, in its human-readable format ``fo.types.FiftyOneDataset``.

https://docs.voxel51.com/user_guide/import_datasets.html describes it: ``metadata.json`` without a version of
its database, and ``samples.json`` with one document per sample.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from emlc.data import Samples
from emlc.data.writing.images import pixel_images
from emlc.errors import InputError
from emlc.exports.corrected import Corrected, relative_files
from emlc.exports.names import safe_names
from emlc.runs.run import Run
from emlc.runtime.files import atomic_folder, check_free, write_json, write_json_list
from emlc.runtime.progress import tracked


def export_fiftyone(run: Run, output: Path) -> str:
    """Write a folder that ``fiftyone.Dataset.from_dir`` loads.

    The fields of a noisy sample are ``ground_truth``, its given label; ``corrected``, with its probability as
    confidence; ``predicted``; ``mistakenness`` (FiftyOne's name; **high** is bad), which is 1 -
    label_quality; and ``retain_weight``. Label issues have the tag ``label_issue``. Trusted samples have a
    ``ground_truth`` and the tag ``trusted``. Image files are named by their path relative to the folder;
    other images are written into it.

    Raises:
        InputError: If the samples are not images.
    """
    check_free(output)
    if not run.schema.has_images:
        raise InputError("fiftyone: shows images, and the samples are not images")
    corrected = Corrected.of(run)
    parts = {"noisy": corrected.noisy, "trusted": corrected.trusted}
    with atomic_folder(output) as temporary:
        (temporary / "data").mkdir()
        paths = {
            role: _write_images(samples, temporary, role)
            if samples.files is None
            else relative_files(samples, output)
            for role, samples in parts.items()
        }
        documents = chain(
            _noisy_documents(corrected, paths["noisy"]), _trusted_documents(corrected, paths["trusted"])
        )
        info = {"classes": list(run.schema.classes), "run": run.folder.resolve().name}
        write_json(
            temporary / "metadata.json",
            {"name": f"emlc-{run.folder.resolve().name}", "media_type": "image", "info": info},
        )
        with (temporary / "samples.json").open("w", encoding="utf-8") as file:
            file.write('{"samples":\n')
            write_json_list(file, documents)
            file.write("}\n")
    issues = int(corrected.labels["is_label_issue"].sum())
    return f"{sum(map(len, parts.values())):,} samples, {issues:,} of them tagged label_issue"


def _write_images(samples: Samples, folder: Path, role: str) -> list[str]:
    """Write the images as files into the folder, and return their paths relative to it."""
    paths = [
        f"data/{name}"
        for name in safe_names([f"{role}-{i}".removesuffix(".png") for i in samples.ids], ".png")
    ]
    images = tracked(pixel_images(samples), f"Writing the {role} images", len(samples))
    for path, image in zip(paths, images, strict=True):
        (folder / path).write_bytes(image)
    return paths


def _noisy_documents(corrected: Corrected, paths: list[str]) -> Iterator[dict[str, Any]]:
    row: Any  # its columns are attributes
    for row, path in zip(corrected.labels.itertuples(index=False), paths, strict=True):
        yield {
            "filepath": path,
            "tags": ["label_issue"] if row.is_label_issue else [],
            "metadata": None,
            "emlc_id": str(row.id),
            "ground_truth": _classification(row.given_label),
            "corrected": _classification(row.corrected_label, row.corrected_probability),
            "predicted": _classification(row.predicted_label),
            "mistakenness": 1 - float(row.label_quality),
            "retain_weight": float(row.retain_weight),
        }


def _trusted_documents(corrected: Corrected, paths: list[str]) -> Iterator[dict[str, Any]]:
    for sample_id, label, path in zip(corrected.trusted.ids, corrected.trusted_labels, paths, strict=True):
        yield {
            "filepath": path,
            "tags": ["trusted"],
            "metadata": None,
            "emlc_id": str(sample_id),
            "ground_truth": _classification(label),
        }


def _classification(label: object, confidence: float | None = None) -> dict[str, Any]:
    known = {} if confidence is None else {"confidence": float(confidence)}
    return {"_cls": "Classification", "tags": [], "label": str(label)} | known
