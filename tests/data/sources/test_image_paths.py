"""Which columns are image paths, whatever they are called, and what is said of paths that lead nowhere."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tiny
from emlc.config import NoiseSettings
from emlc.data import check_files, check_split, make_split, read
from emlc.data.sources.image_paths import look_like_image_paths
from emlc.data.sources.read import open_source
from emlc.errors import InputError

CLEAN = NoiseSettings()


@pytest.fixture
def table(tmp_path, save_image):
    """A function that writes a table of image paths beside numbers, as CSV or parquet; returns its path."""

    def make(column="image_path", kind="csv", prefix="photos/", folder="photos", n=6, **more):
        for k in range(n):
            save_image(tmp_path / folder / f"{k}.jpg", k)
        numbers = {"label": ["u", "v"] * (n // 2), "width": range(n), "height": range(n)}
        frame = pd.DataFrame({column: [f"{prefix}{k}.jpg" for k in range(n)], **numbers, **more})
        path = tmp_path / f"data.{kind}"
        frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
        return str(path)

    return make


@pytest.mark.parametrize("column", ["image_path", "file_name", "whatever", "Foto Nr. 1"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_of_image_paths_is_the_image_column_whatever_its_name(table, settings, logged, column, kind):
    samples = read(table(column, kind), settings(), role="data")
    assert samples.inputs.shape == (6, 3, 6, 5)
    assert f"images: {column}; columns not used: width, height" in logged.text


def test_absolute_paths_are_read_too(table, settings, tmp_path):
    assert read(table(prefix=f"{tmp_path}/photos/"), settings(), role="data").inputs.ndim == 4


def test_paths_in_categories_are_read_too(table, settings, tmp_path):
    path = table(kind="parquet")
    frame = pd.read_parquet(path)
    frame.astype({"image_path": "category"}).to_parquet(path)
    assert pa.types.is_dictionary(pq.read_schema(path).field("image_path").type)
    assert read(path, settings(), role="data").inputs.ndim == 4


@pytest.mark.parametrize("column", ["image", "id"])
@pytest.mark.parametrize("kind", ["plain", "category"])
def test_paths_are_relative_to_the_folder_of_their_own_file(
    tmp_path, save_image, settings, monkeypatch, column, kind
):
    absolute = str(tmp_path / "else" / "2.png")
    values = {"a": ["1.png", None], "b": ["1.png", absolute, "./1.png"]}
    save_image(tmp_path / "else" / "2.png", 2)
    for k, (folder, paths) in enumerate(values.items()):
        save_image(tmp_path / "parts" / folder / "1.png", k)
        frame = pd.DataFrame({column: paths if column == "image" else paths[:1], "label": "v"})
        frame = frame if kind == "plain" else frame.astype({column: "category"})
        frame.to_parquet(tmp_path / "parts" / folder / "t.parquet")
    monkeypatch.chdir(tmp_path)
    source = open_source("parts/*/t.parquet", settings(repeated_ids="number"), role="data")
    rows = np.arange(len(source))
    read_from = [
        None if image is None else Path(image).resolve().relative_to(tmp_path.resolve())
        for _, images in source.inputs.fetch(rows, 8)
        for image in images
    ]
    files = [Path("parts/a/1.png"), None, Path("parts/b/1.png"), Path("else/2.png"), Path("parts/b/1.png")]
    assert read_from == (files if column == "image" else [files[0], files[2]])
    fingerprint = source.inputs.fingerprint()
    monkeypatch.chdir(tmp_path / "parts")
    again = open_source(f"{tmp_path}/parts/*/t.parquet", settings(repeated_ids="number"), role="data")
    assert again.inputs.fingerprint() == fingerprint


def test_bare_images_in_a_column_are_found_too(table, settings, tmp_path):
    files = [(tmp_path / "photos" / f"{k}.jpg") for k in range(6)]
    path = table()
    pq.write_table(
        pa.table({"n": [1, 2], "picture": [f.read_bytes() for f in files[:2]], "label": ["u", "v"]}),
        tmp_path / "data.parquet",
    )
    assert path.endswith(".csv")
    assert read(str(tmp_path / "data.parquet"), settings(), role="data").inputs.shape == (2, 3, 6, 5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a.jpg", "b/c.PNG", None, ""], True),
        (["a.jpg", "no", "nor this"], False),
        (["a.webp ", "x.tif", "y.avif"], True),
        (["https://example.org/a.jpg?size=3"], True),
        (["a.csv", "a.txt"], False),
        ([1.5, 2], False),
        ([], False),
    ],
)
def test_what_looks_like_image_paths(values, expected):
    assert look_like_image_paths(values) is expected


@pytest.mark.parametrize(
    ("prefix", "folder", "right"),
    [
        ("", "photos", "photos/0.jpg"),  # one level down
        ("data/photos/", "photos", "photos/0.jpg"),  # begins one folder too high
        ("/home/someone/photos/", "photos", "photos/0.jpg"),
        ("photos\\", "photos", "photos/0.jpg"),
        ("photos/", "../photos", "../photos/0.jpg"),  # one level up
        ("Photos/", "photos", "photos/0.jpg"),
    ],
)
@pytest.mark.parametrize("named", [{}, {"image_column": "file_name"}])
def test_paths_that_lead_nowhere_are_an_error_with_what_would_be_right(
    tmp_path, save_image, settings, prefix, folder, right, named
):
    (tmp_path / "in").mkdir()
    for k in range(4):
        save_image(tmp_path / "in" / folder / f"{k}.jpg", k)
    frame = pd.DataFrame({"file_name": [f"{prefix}{k}.jpg" for k in range(4)], "label": list("uvuv"), "w": 1})
    frame.to_csv(tmp_path / "in" / "data.csv", index=False)
    with pytest.raises(InputError) as caught:
        read(str(tmp_path / "in" / "data.csv"), settings(**named), role="data")
    message = str(caught.value)
    assert (
        f"column 'file_name': none of 4 image paths exists, relative to {tmp_path}/in; the first: " in message
    )
    assert all(repr(f"{prefix}{k}.jpg") in message for k in range(3))
    assert f"would be right as {right!r}" in message


def test_addresses_are_not_downloaded(table, settings):
    with pytest.raises(InputError, match="They are addresses: download the images"):
        read(table(prefix="https://example.org/"), settings(), role="data")


def test_the_way_out_is_to_name_the_features_or_the_ids(table, settings):
    path = table(prefix="gone/")
    samples = read(path, settings(feature_columns=["width"]), role="data")
    assert samples.inputs.tolist() == [[k] for k in range(6)]
    samples = read(path, settings(id_column="image_path"), role="data")
    assert samples.input_shape == (2,)
    assert samples.ids[0] == "gone/0.jpg"


def test_ids_that_are_images_are_images_if_they_exist(table, settings, logged):
    assert read(table("id"), settings(), role="data").inputs.ndim == 4
    assert read(table("id", prefix="gone/"), settings(), role="data").input_shape == (2,)
    assert "the ids in column 'id' look like image files" in logged.text


def test_of_two_image_columns_one_has_to_be_named(table, settings):
    path = table("front", back=[f"photos/{k}.jpg" for k in range(6)])
    with pytest.raises(InputError, match="columns front, back hold image paths; --image_column names one"):
        read(path, settings(), role="data")
    assert read(path, settings(image_column="back"), role="data").inputs.ndim == 4


# Images that are moved after training


@pytest.fixture
def folder_run(tmp_path, save_image):
    """Settings and the saved split of a run on folders of images."""
    for part, n in {"data": 8, "sure": 4}.items():
        for k in range(n):
            save_image(tmp_path / part / "ab"[k % 2] / f"{k}.png", 10 * k + n)
    named = tiny.settings(
        trusted_per_class=None,
        data=str(tmp_path / "data"),
        trusted=str(tmp_path / "sure"),
        validation_fraction=0.5,
    )
    split, _ = make_split(named, CLEAN, seed=0)
    split.save(tmp_path / "split.csv")
    return named


@pytest.mark.parametrize(
    ("moved", "role"), [("data/a/2.png", "noisy"), ("sure/b/1.png", "(trusted|validation)")]
)
def test_missing_files_of_a_folder_are_named(folder_run, tmp_path, moved, role):
    check_files(tmp_path / "split.csv", folder_run)
    (tmp_path / moved).rename(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match=rf"1 of \d {role} images .* are missing: {moved[5:]}; put them"):
        check_files(tmp_path / "split.csv", folder_run)


def test_missing_samples_are_named_where_the_split_differs(table, tmp_path, settings):
    path = table(id=[f"p{k}" for k in range(6)], trusted=[True, True, False, False, False, False])
    named = settings(path, trusted_column="trusted")
    split, _ = make_split(named, CLEAN, seed=0)
    split.save(tmp_path / "split.csv")
    pd.read_csv(path).drop(index=[3, 5]).to_csv(path, index=False)
    now, _ = make_split(named, CLEAN, seed=0)
    with pytest.raises(InputError, match="2 samples are missing, with the ids p3, p5"):
        check_split(now, tmp_path / "split.csv")


def test_moved_images_of_a_table_are_named(table, tmp_path, settings):
    path = table(trusted=[True, True, False, False, False, False])
    named = settings(path, trusted_column="trusted")
    make_split(named, CLEAN, seed=0)
    (tmp_path / "photos").rename(tmp_path / "pictures")
    with pytest.raises(InputError, match=r"none of 6 .*'photos/0\.jpg' would be right as 'pictures/0\.jpg'"):
        make_split(named, CLEAN, seed=0)
