"""A data set for FiftyOne: the documents, and what FiftyOne itself makes of them where it is installed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emlc import InputError
from emlc.exports import export


def documents(folder):
    return json.loads((folder / "samples.json").read_text(encoding="utf-8"))["samples"]


def test_pixels_with_hostile_names(pixel_run, tmp_path):
    folder, said = export(pixel_run, "fiftyone", tmp_path / "out")
    split = pixel_run.split()
    table = pixel_run.correct_labels(split.noisy)
    found = documents(folder)
    noisy, trusted = found[: len(table)], found[len(table) :]
    assert said == f"48 samples, {table['is_label_issue'].sum()} of them tagged label_issue"
    assert table["is_label_issue"].any()
    for sample, row in zip(noisy, table.itertuples(), strict=True):
        assert sample["ground_truth"]["label"] == row.given_label
        assert sample["corrected"]["label"] == row.corrected_label
        assert sample["corrected"]["confidence"] == pytest.approx(row.corrected_probability)
        assert sample["mistakenness"] == pytest.approx(1 - row.label_quality)
        assert sample["retain_weight"] == pytest.approx(row.retain_weight)
        assert sample["tags"] == (["label_issue"] if row.is_label_issue else [])
    assert [s["emlc_id"] for s in found] == [*split.noisy.ids, *split.trusted.ids]
    assert [s["tags"] for s in trusted] == [["trusted"]] * len(split.trusted)
    pictures = [np.asarray(Image.open(folder / s["filepath"])) for s in found]
    np.testing.assert_array_equal(pictures, np.concatenate([split.noisy.inputs, split.trusted.inputs])[:, 0])
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*.png")}
    assert on_disk == {s["filepath"] for s in found}


def test_files_are_named_by_their_path_from_the_folder(file_run, tmp_path):
    folder, _ = export(file_run, "fiftyone", tmp_path / "out")
    split = file_run.split()
    paths = [*split.noisy.files.to_pylist(), *split.trusted.files.to_pylist()]
    named = [Path(s["filepath"]) for s in documents(folder)]
    assert not any(path.is_absolute() for path in named)
    assert [(folder / path).resolve() for path in named] == [Path(path).resolve() for path in paths]


def test_rows_of_numbers_are_refused(table_run, tmp_path):
    with pytest.raises(InputError, match="fiftyone: shows images"):
        export(table_run, "fiftyone", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_fiftyone_reads_the_documents(pixel_run, tmp_path):
    """By its own importer, which needs no database."""
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    folder, _ = export(pixel_run, "fiftyone", tmp_path / "out")
    with importers.FiftyOneDatasetImporter(str(folder))._to_legacy_importer() as importer:
        samples = list(importer)
    table = pixel_run.correct_labels(pixel_run.split().noisy)
    assert len(samples) == 48
    assert [s.ground_truth.label for s in samples[: len(table)]] == table["given_label"].tolist()
    assert [s.corrected.label for s in samples[: len(table)]] == table["corrected_label"].tolist()
    assert samples[0].mistakenness == pytest.approx(1 - table["label_quality"][0])
    assert Path(samples[0].filepath).is_file()
