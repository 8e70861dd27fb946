"""Export records for Argilla: each noisy sample with its corrected label as suggestion, worst label first.

The folder is what ``argilla.Dataset.to_disk`` writes, so that ``argilla.Dataset.from_disk`` loads it; see
https://docs.argilla.io/latest/how_to_guides/import_export.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from emlc.data import Samples
from emlc.data.images.formats import for_display, readable_formats
from emlc.errors import InputError
from emlc.exports.corrected import Corrected
from emlc.exports.shown import data_uri, iter_images, iter_values, shown_kind
from emlc.runs.run import Run
from emlc.runtime.files import atomic_folder, check_free, write_json, write_json_list
from emlc.runtime.progress import tracked

_LONGEST_LABEL = 200
"""Maximum number of characters of a label, and of the name of a data set, in Argilla."""
_MOST_SHOWN = 3_500_000
"""Maximum number of bytes of an image: Argilla refuses data URIs of more than 5 million characters."""
_SIDE = 2_000
"""Longer side in pixels of the copy that is shown of a larger image."""
_NUMBERS = ("label_quality", "corrected_probability", "retain_weight")
_WORDS = ("given_label", "predicted_label", "is_label_issue")


def export_argilla(run: Run, output: Path) -> str:
    """Write a folder that ``argilla.Dataset.from_disk`` loads.

    A record has a field ``image``, ``text`` or ``values``; a suggestion for the question ``label``, which is
    the corrected label, with its probability as score; and as metadata the given label, the student's, and
    the figures of the label table. Images are embedded; one that is too large for Argilla as a smaller copy.

    Raises:
        InputError: If there are fewer than two classes, or the name of one is too long for Argilla.
    """
    check_free(output)
    _check_classes(run.schema.classes)
    corrected = Corrected.of(run)
    order = np.argsort(corrected.labels["label_quality"].to_numpy(), kind="stable")
    samples, labels = corrected.noisy.take(order), corrected.labels.iloc[order]
    kind = shown_kind(samples)
    shown = _Shown(samples, kind, run.schema.feature_columns)
    with atomic_folder(output) as temporary:
        (temporary / ".argilla").mkdir()
        name = f"emlc-{run.folder.resolve().name}"[:_LONGEST_LABEL]
        write_json(temporary / ".argilla" / "dataset.json", {"name": name})
        write_json(temporary / ".argilla" / "settings.json", _settings(run.schema.classes, kind))
        rows: Any = zip(
            labels.itertuples(index=False), tracked(shown, "Writing records", len(samples)), strict=True
        )
        # Argilla reads files in the encoding of its machine.
        with (temporary / "records.json").open("w", encoding="ascii") as file:
            records = (_record(row, {kind: value}) for row, value in rows)
            write_json_list(file, records, ascii_only=True)
    smaller = f"; {shown.shrunk:,} images are smaller copies, as Argilla takes 5 MB" if shown.shrunk else ""
    return f"{len(samples):,} records, the worst label first{smaller}"


def _check_classes(classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise InputError(f"argilla: a question needs two labels or more; the run has {len(classes)} class")
    for name in classes:
        if len(name) > _LONGEST_LABEL:
            raise InputError(
                f"class {name[:40]!r}...: Argilla takes labels of up to {_LONGEST_LABEL} characters, "
                f"this one has {len(name)}"
            )


def _settings(classes: tuple[str, ...], kind: str) -> dict[str, Any]:
    """Return the settings of the data set, as ``argilla.Settings.to_json`` writes them."""
    field = {"type": "image"} if kind == "image" else {"type": "text", "use_markdown": False}
    options = [{"value": name, "text": name} for name in classes]
    choice = {"type": "label_selection", "options": options}
    numbers = [{"name": name, "settings": {"type": "float", "min": 0.0, "max": 1.0}} for name in _NUMBERS]
    words = [{"name": name, "settings": {"type": "terms"}} for name in _WORDS]
    return {
        "guidelines": "The suggestion is the corrected label of emlc. The worst given labels come first.",
        "fields": [{"name": kind, "title": kind, "required": True, "settings": field}],
        "questions": [{"name": "label", "title": "Label", "required": True, "settings": choice}],
        "metadata": [
            each | {"title": each["name"], "visible_for_annotators": True} for each in (*words, *numbers)
        ],
        "vectors": [],
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
    }


def _record(row: Any, shown: dict[str, Any]) -> dict[str, Any]:
    """Return the record for a row of the label table."""
    score = min(1.0, max(0.0, float(row.corrected_probability)))
    numbers = {name: min(1.0, max(0.0, float(getattr(row, name)))) for name in _NUMBERS}
    words = {name: str(getattr(row, name)) for name in _WORDS}
    return {
        "id": str(row.id),
        "fields": shown,
        "metadata": words | numbers,
        "suggestions": {"label": {"value": str(row.corrected_label), "score": score, "agent": "emlc"}},
        "responses": {},
        "vectors": {},
    }


class _Shown:
    """What is shown of n samples, one after another.

    Attributes:
        shrunk: Number of images, so far, of which a smaller copy is shown.
    """

    def __init__(self, samples: Samples, kind: str, names: tuple[str, ...]) -> None:
        self._samples, self._kind, self._names, self.shrunk = samples, kind, names, 0

    def __iter__(self) -> Iterator[str]:
        if self._kind == "image":
            return (self._image(*image) for image in iter_images(self._samples))
        if self._kind == "text":
            assert self._samples.texts is not None
            return iter(self._samples.texts.to_pylist())
        rows = iter_values(self._samples, self._names)
        return ("\n".join(f"{name}: {value}" for name, value in row.items()) for row in rows)

    def _image(self, kind: str, content: bytes) -> str:
        if len(content) <= _MOST_SHOWN:
            return data_uri(kind, content)
        self.shrunk += 1
        return data_uri("image/jpeg", _smaller(content))


def _smaller(content: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(content), formats=readable_formats()) as opened:
        picture = for_display(ImageOps.exif_transpose(opened)).convert("RGB")
        picture.thumbnail((_SIDE, _SIDE))
        picture.save(file, "JPEG", quality=85)
    return file.getvalue()
