"""What the server shows of a run: its samples, their pictures, and samples that are like them."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from emlc.data import Samples, Split
from emlc.data.writing.images import browser_image, can_be_copied, original_images, pixel_images
from emlc.labels.advice import Advice, advice_on
from emlc.report.facts import identity_of
from emlc.report.gallery import Gallery, choose, make_gallery, plain_gallery
from emlc.report.rendering import render_served
from emlc.report.thumbnails import thumbnails
from emlc.runs.beside import comparable_features, load_comparison
from emlc.runs.run import Run
from emlc.server.neighbours import NEARLY_SAME, Neighbours

_TRUSTED_SHOWN = 4
"""Number of trusted samples shown of a class."""
_SIMILAR = 60
"""Number of similar samples that a page can be filled with."""
_KEPT_FACTS = ("quality", "retain", "confidence", "top")
"""What is kept with a decision of what was shown."""


@dataclass(frozen=True)
class Desk:
    """A run that is reviewed.

    Attributes:
        run: The run.
        split: Its samples.
        gallery: The noisy samples that are shown; their records have a ``row``, the row among all noisy ones.
        apply: The command that applies the decisions.
    """

    run: Run
    split: Split
    gallery: Gallery
    apply: str
    _lock: Lock = field(default_factory=Lock, compare=False)

    @cached_property
    def page(self) -> str:
        """The page as HTML."""
        folder = self.run.folder
        view = {
            "title": folder.resolve().name,
            "apply": self.apply,
            "advice": self._advice(),
            "interrupted": not (folder / "summary.json").is_file(),
        }
        return render_served(self.gallery, self.split.classes, identity_of(self.run), view)

    def _advice(self) -> list[Advice]:
        comparison = load_comparison(self.run.folder)
        return [] if comparison is None else advice_on(comparison)

    @cached_property
    def given(self) -> Mapping[str, str]:
        """Id -> given label, of all noisy samples."""
        noisy = self.split.noisy
        names = np.array(noisy.classes, dtype=object)[noisy.given]
        return dict(zip(noisy.ids, names, strict=True))

    @cached_property
    def shown(self) -> Mapping[str, str]:
        """Id -> what is shown of a sample beside its labels, as JSON."""
        return {
            record["id"]: json.dumps({name: record[name] for name in _KEPT_FACTS})
            for record in self.gallery.records
        }

    def similar(self, row: int) -> dict[str, Any]:
        """Return what a shown noisy sample is like, as plain values.

        Returns:
            ``trusted``: the nearest trusted samples of the given and of the suggested class; ``similar``:
            rows and similarities of the most similar noisy samples that are shown; ``duplicates``: those of
            them that are nearly the same.
        """
        neighbours, at = self._neighbours, self._position[row]
        record = self.gallery.records[at]
        classes = [c for c in (record["given"], record["suggested"]) if c is not None]
        found = [(self._rows[k], similarity) for k, similarity in neighbours.similar(at, _SIMILAR)]
        return {
            "trusted": [self._trusted(at, c) for c in classes],
            "similar": found,
            "duplicates": [pair for pair in found if pair[1] >= NEARLY_SAME],
        }

    def _trusted(self, at: int, class_index: int) -> dict[str, Any]:
        trusted = self.split.trusted
        among = np.flatnonzero(trusted.given == class_index)
        found = self._neighbours.trusted_of(at, among, _TRUSTED_SHOWN)
        rows = np.array([row for row, _ in found], dtype=np.int64)
        pictures = [f"trusted/{row}/small" for row in rows] if trusted.pictures is not None else None
        gallery = plain_gallery(trusted.take(rows), pictures, self.run.schema.feature_columns)
        records = zip(gallery.records, found, strict=True)
        samples = [record | {"similarity": similarity} for record, (_, similarity) in records]
        return {"label": trusted.classes[class_index], "samples": samples}

    @cached_property
    def _rows(self) -> list[int]:
        return [record["row"] for record in self.gallery.records]

    @cached_property
    def _position(self) -> dict[int, int]:
        return {row: at for at, row in enumerate(self._rows)}

    def is_shown(self, row: int) -> bool:
        """Return whether a row is one of a noisy sample that is shown."""
        return row in self._position

    @property
    def _neighbours(self) -> Neighbours:
        with self._lock:  # features of images take a while: they are computed once, when they are needed
            return self._computed

    @cached_property
    def _computed(self) -> Neighbours:
        shown = self.split.noisy.take(np.array(self._rows, dtype=np.int64))
        features = [comparable_features(self.run, each.inputs) for each in (shown, self.split.trusted)]
        return Neighbours.of(features[0], features[1])


def open_desk(run: Run, size: int, apply: str) -> Desk:
    """Collect what is to be reviewed of a run.

    Args:
        run: The run.
        size: Maximum number of samples that are shown.
        apply: The command that applies the decisions.

    Raises:
        InputError: the run's samples cannot be read again, or its method corrects no labels.
    """
    run.require_teacher()
    split = run.split()
    run = run.with_decision(split)
    table = run.correct_labels(split.noisy)
    choice = choose(table, size)
    rows = choice.rows
    samples = split.noisy.take(rows)
    pictures = [f"images/{row}/small" for row in rows] if samples.pictures is not None else None
    gallery = make_gallery(
        run.correct_labels(samples, all_probabilities=True),
        choice,
        run.schema.classes,
        samples,
        run.schema.feature_columns,
        pictures,
    )
    records = [record | {"row": int(row)} for record, row in zip(gallery.records, rows, strict=True)]
    return Desk(run, split, replace(gallery, records=records).with_rest(table, rows), apply)


def full_image(samples: Samples, row: int) -> tuple[str, bytes]:
    """Return the MIME type and content of a sample's picture: the original, or the pixels of an array.

    Raises:
        InputError: the image is no longer there.
        Exception: the image cannot be decoded.
    """
    one = samples.take([row])
    if can_be_copied(one):
        return browser_image(next(original_images(one)))
    return "image/png", next(pixel_images(one))


def small_image(samples: Samples, row: int) -> tuple[str, bytes]:
    """Return the MIME type and content of a sample's thumbnail."""
    (uri,) = thumbnails(samples.take([row]))
    header, _, content = uri.partition(",")
    return header.removeprefix("data:").removesuffix(";base64"), base64.b64decode(content)
