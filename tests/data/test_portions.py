"""Sources read some rows at a time, against the same sources read at once."""

import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import sources
import tiny
from emlc.config import DataSettings
from emlc.data import Schema, read
from emlc.data.portions import SamplesInMemory, open_portions
from emlc.data.sources.read import open_source
from emlc.errors import InputError

CLASSES = ("cat", "cow", "dog")


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """How the numbers, categories and words of a table become features in a run."""
    folder = tmp_path_factory.mktemp("run")
    frame().to_parquet(folder / "data.parquet")
    source = open_source(str(folder / "data.parquet"), DataSettings(), role="data")
    shape = source.take(np.arange(60)).input_shape
    return replace(source.fitted(np.arange(60)).schema, classes=CLASSES, input_shape=shape)


def frame(n=60, seed=0):
    table = sources.frame(seed, n).drop(columns="truth")
    return table.assign(kind=[("red", "green")[k % 2] if k % 5 else None for k in range(n)])


def portions(source, schema=None, role="data", **settings):
    return open_portions(str(source), DataSettings(**settings), tiny.ALONE, role=role, schema=schema)


def assert_same(opened, whole, size=7):
    parts = [opened.read(start, min(start + size, opened.rows)) for start in range(0, opened.rows, size)]
    parts = [part for part in parts if part is not None]
    assert np.concatenate([part.ids for part in parts]).tolist() == whole.ids.tolist()
    assert np.array_equal(np.concatenate([part.inputs.numpy() for part in parts]), whole.inputs.numpy())
    for name in ("labels", "true_labels"):
        expected = getattr(whole, name)
        if expected is None:
            assert all(getattr(part, name) is None for part in parts)
        else:
            assert np.concatenate([getattr(part, name) for part in parts]).tolist() == expected.tolist()
    assert {part.classes for part in parts} == {whole.classes}


def write(path, table):
    if path.suffix == ".parquet":
        table.to_parquet(path, row_group_size=11)
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        features = table[["a", "b, c", 'd"', "e"]].to_numpy()
        labels = table["label"].to_numpy(dtype=np.str_)
        more = {"ids": table["id"].to_numpy(dtype=np.str_)} if "id" in table else {}
        (np.savez_compressed if "small" in path.name else np.savez)(path, X=features, y=labels, **more)
    return path


@pytest.mark.parametrize("role", ["data", "predict"])
@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize(
    ("name", "in_memory"),
    [("new.parquet", False), ("new.csv", True), ("new.npz", False), ("small.npz", True)],
)
def test_portions_are_the_rows_of_the_source(name, in_memory, ids, role, schema, tmp_path):
    table = frame(45, seed=3)
    path = write(tmp_path / name, table if ids else table.drop(columns="id"))
    known = of_arrays() if path.suffix == ".npz" else schema
    opened = portions(path, known, role)
    assert opened.rows == 45
    assert isinstance(opened, SamplesInMemory) == in_memory
    assert_same(opened, read(str(path), DataSettings(), role=role, schema=known))


def of_arrays():
    return Schema(classes=CLASSES, input_shape=(4,))


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        (lambda k: str(k % 2) if k < 20 else f"{k % 2}.0", {"classes": ["0", "1"]}),
        (lambda k: f"{k % 2}.0" if k < 20 else ("x", "1.0", "0.0")[k % 3], {"classes": ["0.0", "1.0", "x"]}),
        (lambda k: ("Cat ", "cat", "dog")[k % 3], {"classes": ["cat", "dog"], "merge_spellings": True}),
        (lambda k: None if k > 15 else ("cat", "dog")[k % 2], {"drop_unlabelled": True}),
        (lambda k: "ox" if 6 < k < 22 else "cat", {"classes": ["cat"], "drop_untrusted_classes": True}),
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".npz"])
def test_labels_mean_what_they_mean_in_the_whole_source(labels, settings, ending, tmp_path):
    values = [labels(k) for k in range(30)]
    table = frame(30).assign(label=values)
    if ending == ".npz":
        table["label"] = ["" if value is None else value for value in values]
    path = write(tmp_path / f"data{ending}", table)
    columns = {} if ending == ".npz" else {"feature_columns": ["a", "e"]}
    known = tiny_schema_of(settings.get("classes", ["cat", "dog"]), columns)
    values = {**settings, **columns}
    assert_same(
        portions(path, known, **values), read(str(path), DataSettings(**values), role="data", schema=known)
    )


def tiny_schema_of(classes, columns):
    from emlc.data import Schema

    return Schema(classes=tuple(classes), feature_columns=tuple(columns.get("feature_columns", ())))


@pytest.mark.parametrize("repeated", ["first", "number"])
def test_repeated_ids_in_different_portions_are_treated_as_in_the_whole_source(repeated, schema, tmp_path):
    table = frame(30)
    table.loc[25, "id"] = table.loc[2, "id"]
    path = write(tmp_path / "data.parquet", table)
    whole = read(str(path), DataSettings(repeated_ids=repeated), role="data", schema=schema)
    assert_same(portions(path, schema, repeated_ids=repeated), whole)
    with pytest.raises(InputError, match=r"1 ids occur more than once: 's2' in rows 2, 25"):
        portions(path, schema)


def test_a_value_that_is_not_finite_is_found_by_its_row(schema, tmp_path):
    table = frame(30)
    table.loc[17, "a"] = np.inf
    opened = portions(write(tmp_path / "data.parquet", table), schema)
    assert opened.read(0, 14) is not None
    with pytest.raises(
        InputError, match=r"data.parquet, counted from row 14: row 3 \(id 's17'\), column 'a'"
    ):
        opened.read(14, 28)


def test_a_flipped_bit_in_an_archive_is_found(tmp_path):
    path = write(tmp_path / "data.npz", frame(30))
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("X.npy").header_offset + 300
    content = bytearray(path.read_bytes())
    content[start] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"data.npz: cannot be read as an .npz file"):
        portions(path, of_arrays())


def test_the_identity_changes_with_the_file(schema, tmp_path):
    path = write(tmp_path / "data.parquet", frame(30))
    before = portions(path, schema).identity()
    assert portions(path, schema).identity() == before
    pq.write_table(pq.read_table(path), path)
    assert portions(path, schema).identity() != before


def test_a_column_that_is_missing_is_named_as_ever(schema, tmp_path):
    path = write(tmp_path / "data.parquet", frame(30).drop(columns="e"))
    with pytest.raises(InputError, match="no column 'e'"):
        portions(path, schema)


def test_labels_that_are_fewer_than_the_rows_are_found(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.zeros((4, 4)), y=np.array(["cat", "dog"]))
    with pytest.raises(InputError, match="4 samples but 2 labels"):
        portions(tmp_path / "data.npz", of_arrays())


def test_empty_arrays_are_no_samples(tmp_path):
    np.savez(tmp_path / "data.npz", X=np.zeros((0, 4)), y=np.array([], dtype=str))
    with pytest.raises(InputError, match="no samples"):
        portions(tmp_path / "data.npz", of_arrays())


def test_images_are_read_when_they_are_wanted(tmp_path):
    pixels = (np.arange(20 * 64) % 200).reshape(20, 8, 8).astype(np.uint8)
    np.savez(tmp_path / "data.npz", X=pixels, y=np.array(["cat", "dog"] * 10))
    opened = portions(tmp_path / "data.npz", image_model="none")
    part = opened.read(3, 9)
    assert part is not None
    assert np.array_equal(part.inputs.numpy()[:, 0], pixels[3:9])


def test_a_table_in_memory_keeps_its_texts_for_later(tmp_path):
    table = pd.DataFrame({"text": ["a", "b", "", "d"], "label": ["x", "y"] * 2})
    table.to_csv(tmp_path / "data.csv", index=False)
    assert portions(tmp_path / "data.csv", text_column="text").rows == 4
