"""Tasks for Label Studio: what its guide asks of them, and what its own SDK says where it is installed."""

import base64
import io
import json
import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image

from emlc import InputError
from emlc.data.writing.images import browser_image
from emlc.exports import export
from emlc.exports.labelstudio import _address, labelling_interface


def exported(run, folder, **options):
    """The tasks and the labelling interface."""
    written, _ = export(run, "labelstudio", folder, **options)
    tasks = json.loads((written / "tasks.json").read_text(encoding="utf-8"))
    return tasks, (written / "config.xml").read_text(encoding="utf-8")


def check(tasks, config):
    """Each prediction names controls and choices that the interface has, each task the data it shows."""
    view = ET.fromstring(config)
    shown, choices = view
    assert view.tag == "View"
    assert choices.get("toName") == shown.get("name")
    labels = [choice.get("value") for choice in choices]
    for task in tasks:
        assert shown.get("value").removeprefix("$") in task["data"]
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        assert 0 <= prediction["score"] <= 1
        assert (result["from_name"], result["to_name"]) == (choices.get("name"), shown.get("name"))
        assert result["type"] == choices.tag.lower()
        assert result["value"]["choices"][0] in labels
    return labels


def test_pixels_with_hostile_names(pixel_run, tmp_path):
    tasks, config = exported(pixel_run, tmp_path / "out")
    assert check(tasks, config) == list(pixel_run.schema.classes)
    table = pixel_run.correct_labels(pixel_run.split().noisy).set_index("id")
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert scores == sorted(scores)
    assert len(tasks) == len(table)
    pixels = dict(zip(pixel_run.split().noisy.ids, pixel_run.split().noisy.inputs, strict=True))
    for task in tasks:
        row = table.loc[task["data"]["emlc_id"]]
        assert task["predictions"][0]["result"][0]["value"]["choices"] == [row["corrected_label"]]
        assert task["predictions"][0]["score"] == pytest.approx(row["label_quality"])
        assert task["data"]["given_label"] == row["given_label"]
        kind, content = task["data"]["image"].split(",")
        assert kind == "data:image/png;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        np.testing.assert_array_equal(picture, pixels[task["data"]["emlc_id"]][0])


def test_a_file_may_begin_with_two_dots_and_none_may_be_above(tmp_path):
    root = str(tmp_path)
    assert _address(f"{root}/..x.png", root) == "/data/local-files/?d=..x.png"
    for above in (str(tmp_path.parent / "x.png"), f"{root}/../x.png"):
        with pytest.raises(InputError, match="is not below"):
            _address(above, root)


def test_files_by_their_path_and_by_their_content(file_run, tmp_path):
    files = set(file_run.split().noisy.files.to_pylist())
    tasks, config = exported(file_run, tmp_path / "out")
    check(tasks, config)
    addresses = [task["data"]["image"] for task in tasks]
    assert all(a.startswith("/data/local-files/?d=") for a in addresses)
    assert {"/" + unquote(a.split("d=")[1]) for a in addresses} == files
    root = str(file_run.folder)
    tasks, _ = exported(file_run, tmp_path / "rooted", document_root=root)
    addresses = [task["data"]["image"] for task in tasks]
    assert {f"{root}/{unquote(a.split('d=')[1])}" for a in addresses} == files
    _, message = export(file_run, "labelstudio", tmp_path / "told")
    folder = os.path.commonpath([Path(file).parent for file in files])
    assert f"Local files for {folder}: see" in message
    _, message = export(file_run, "labelstudio", tmp_path / "untold", images="data")
    assert "storage" not in message
    tasks, _ = exported(file_run, tmp_path / "data", images="data")
    contents = {base64.b64decode(task["data"]["image"].split(",")[1]) for task in tasks}
    assert contents == {Path(file).read_bytes() for file in files}


def test_rows_of_numbers(table_run, tmp_path):
    tasks, config = exported(table_run, tmp_path / "out", from_name="class", to_name="row")
    check(tasks, config)
    assert '<Table name="row" value="$values" />' in config
    noisy = table_run.split().noisy
    values = {task["data"]["emlc_id"]: task["data"]["values"] for task in tasks}
    for sample_id, features in zip(noisy.ids, noisy.inputs, strict=True):
        assert list(values[sample_id].values()) == features.tolist()
        assert list(values[sample_id]) == list(table_run.schema.feature_columns)


def test_texts(table_run, tmp_path, monkeypatch):
    """Samples whose inputs stand for texts are shown as these."""
    split = table_run.split()
    texts = [f"</script> {k}\n$x" for k in range(len(split.noisy))]
    split = replace(split, noisy=replace(split.noisy, texts=pa.array(texts, pa.large_string())))
    monkeypatch.setattr(type(table_run), "split", lambda self: split)
    tasks, config = exported(table_run, tmp_path / "out")
    check(tasks, config)
    assert '<Text name="text" value="$text" />' in config
    shown = {task["data"]["emlc_id"]: task["data"]["text"] for task in tasks}
    assert shown == dict(zip(split.noisy.ids, texts, strict=True))


def test_refused(pixel_run, file_run, table_run, tmp_path):
    def refused(run, message, **options):
        with pytest.raises(InputError, match=message):
            export(run, "labelstudio", tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    refused(pixel_run, "images: they are not files of their own", images="files")
    refused(table_run, "images: the samples are not images", images="data")
    refused(file_run, "document_root: .* is not below /nowhere", document_root="/nowhere")
    refused(table_run, "from_name and to_name: expected two names, both are 'x'", from_name="x", to_name="x")
    refused(table_run, "from_name: expected letters, digits, _ and -, got '<x>'", from_name="<x>")
    with pytest.raises(InputError, match=r"class 'a\\x00': the labelling interface cannot hold"):
        labelling_interface(("a\0", "b"), "image", "label", "image")


def test_images_that_browsers_do_not_show_become_png():
    """Others are kept as they are, such as an MPO, which is a JPEG file with further images behind it."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise

    def encoded(form, **options):
        file = io.BytesIO()
        picture.save(file, form, exif=exif, **options)
        assert Image.open(file).format == form
        return file.getvalue()

    album = encoded("MPO", save_all=True, append_images=[picture])
    kept = {"image/jpeg": album, "image/png": encoded("PNG"), "image/gif": encoded("GIF")}
    for kind, content in kept.items():
        assert browser_image(content) == (kind, content)
    for form in [form for form in ("TIFF", "AVIF") if form in Image.SAVE]:
        content = encoded(form)
        kind, shown = browser_image(content)
        assert kind == "image/png"
        stored = picture if form == "TIFF" else Image.open(io.BytesIO(content))  # AVIF loses details
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(shown))), np.rot90(stored, -1))


def test_the_sdk_of_label_studio_takes_them(pixel_run, table_run, tmp_path):
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    for run in (pixel_run, table_run):
        tasks, config = exported(run, tmp_path / run.folder.name)
        parsed = interface.LabelInterface(config)
        parsed.validate()
        assert parsed.get_control("label").labels == list(run.schema.classes)
        assert all(parsed.validate_task({"data": task["data"]}) for task in tasks)
        problems = [parsed.validate_prediction(t["predictions"][0], return_errors=True) for t in tasks]
        assert problems == [[]] * len(tasks)
