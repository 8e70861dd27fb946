"""Labels, ids and trusted marks as people's files have them, read by the names of their own file."""

import datetime
import decimal
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emlc.config import NoiseSettings
from emlc.data import Samples, Schema, make_split, read, split_samples
from emlc.data.sources.read import open_source
from emlc.errors import InputError

NUMERALS = [str(k) for k in sorted(map(str, range(12)))]  # as texts are sorted: 0, 1, 10, 11, 2, ...


def names(samples, codes=None):
    return [samples.classes[k] for k in (samples.labels if codes is None else codes)]


def save_class_labels(path, class_names, labels, **columns):
    """A table as Hugging Face's datasets writes it: integers, whose names are in the metadata."""
    features = {"label": {"names": class_names, "_type": "ClassLabel"}}
    table = pa.table({"x": np.arange(len(labels), dtype=float), "label": labels, **columns})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def save_npz(path, labels, **arrays):
    np.savez(path, X=np.arange(len(labels), dtype=float)[:, None], y=np.array(labels), **arrays)


# Integers, and what they stand for


def test_each_parquet_file_has_its_own_order_of_names(tmp_path, settings):
    truth = ["cat", "dog", "cow", "dog", "cat", "cow"]
    for name, order in {"data": ["cat", "cow", "dog"], "trusted": ["dog", "cow", "cat"]}.items():
        first = 0 if name == "data" else 100
        save_class_labels(
            tmp_path / f"{name}.parquet", order, [order.index(t) for t in truth], y=np.arange(6) + first
        )
    chosen = settings(tmp_path / "data.parquet", trusted=str(tmp_path / "trusted.parquet"))
    split, schema = make_split(chosen, NoiseSettings(), 0)
    assert schema.classes == ("cat", "cow", "dog")
    assert names(split.noisy) == names(split.trusted) == truth
    tested = read(str(tmp_path / "trusted.parquet"), settings(), role="test", schema=schema)
    assert names(tested) == truth


def test_each_npz_file_has_its_own_classes(tmp_path, settings):
    save_npz(tmp_path / "data.npz", [0, 1, 1], classes=["zebra", "ant"])
    save_npz(tmp_path / "test.npz", [0, 1, 1], classes=["ant", "zebra"])
    schema = open_source(str(tmp_path / "data.npz"), settings(), role="data").schema
    tested = read(str(tmp_path / "test.npz"), settings(), role="test", schema=schema)
    assert tested.classes == ("zebra", "ant")
    assert names(tested) == ["ant", "zebra", "zebra"]


def test_given_and_true_labels_have_names_of_their_own(tmp_path, settings):
    features = {
        "label": {"names": ["b", "a"], "_type": "ClassLabel"},
        "truth": {"names": ["a", "b", "c"], "_type": "ClassLabel"},
    }
    table = pa.table({"x": [1.0, 2.0], "label": [0, 1], "truth": [0, 2]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "data.parquet")
    samples = read(str(tmp_path / "data.parquet"), settings(true_label_column="truth"), role="data")
    assert samples.classes == ("b", "a", "c")
    assert names(samples) == ["b", "a"]
    assert names(samples, samples.true_labels) == ["a", "c"]


def test_files_of_one_table_must_agree_on_the_names(tmp_path, settings):
    save_class_labels(tmp_path / "part-0.parquet", ["cat", "dog"], [0, 1])
    save_class_labels(tmp_path / "part-1.parquet", ["dog", "cat"], [0, 1])
    with pytest.raises(
        InputError, match=r"part-1\.parquet: .*'label' stand for dog, cat, but in .*0\.parquet for cat, dog"
    ):
        read(str(tmp_path / "part-*.parquet"), settings(), role="data")


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_class_names_that_are_numbers_are_names(tmp_path, settings, kind):
    labels = [2, 4, 11, 0]  # "10", "2", "9", "0"
    if kind == "npz":
        save_npz(tmp_path / "data.npz", labels, classes=NUMERALS)
    else:
        save_class_labels(tmp_path / "data.parquet", NUMERALS, labels)
    samples = read(str(tmp_path / f"data.{kind}"), settings(), role="data")
    assert names(samples) == ["10", "2", "9", "0"]


def test_integers_that_are_both_names_and_indices_are_told(tmp_path, settings, logged):
    save_npz(tmp_path / "texts.npz", [1, 2, 0], classes=["2", "1", "0"])
    assert names(read(str(tmp_path / "texts.npz"), settings(), role="data")) == ["1", "0", "2"]
    assert "y has integers that are both names and indices of classes (2, 1, 0); they are read as ind" in (
        logged.text
    )
    save_npz(tmp_path / "numbers.npz", [1, 2, 1], classes=np.array([1, 2, 3]))
    assert names(read(str(tmp_path / "numbers.npz"), settings(), role="data")) == ["1", "2", "1"]
    assert "(1, 2, 3); they are read as names of classes" in logged.text
    save_npz(tmp_path / "indices.npz", [0, 2, 1], classes=np.array([1, 2, 3]))
    assert names(read(str(tmp_path / "indices.npz"), settings(), role="data")) == ["1", "3", "2"]
    save_npz(tmp_path / "names.npz", [5, 2, 3], classes=["2", "3", "5"])
    assert names(read(str(tmp_path / "names.npz"), settings(), role="data")) == ["5", "2", "3"]


def test_folders_called_by_numbers_and_a_table_of_these_numbers(tmp_path, settings, save_image):
    for k in range(1, 6):
        save_image(tmp_path / "images" / str(k) / f"{k}.png", k)
        save_image(tmp_path / "more" / f"{k}.png", 10 + k)
    pd.DataFrame({"image": [f"more/{k}.png" for k in range(1, 6)], "label": range(1, 6)}).to_parquet(
        tmp_path / "trusted.parquet"
    )
    chosen = settings(tmp_path / "images", trusted=str(tmp_path / "trusted.parquet"), image_column="image")
    split, _ = make_split(chosen, NoiseSettings(), 0)
    assert split.classes == ("1", "2", "3", "4", "5")
    assert names(split.trusted) == list("12345")


@pytest.mark.parametrize("values", [[1, 2, 3], ["1", "2", "3"], [1.0, 2.0, 3.0]], ids=str)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_numbers_are_the_same_classes_as_texts_and_as_integers(tmp_path, settings, kind, values):
    frame = pd.DataFrame({"a": [1.0, 2, 3], "label": values})
    getattr(frame, f"to_{kind}")(tmp_path / f"data.{kind}", index=False)
    assert read(str(tmp_path / f"data.{kind}"), settings(), role="data").classes == ("1", "2", "3")


@pytest.mark.parametrize("role", ["trusted", "test", "validation"])
def test_integers_without_names_do_not_fit_named_classes(tmp_path, settings, role):
    pd.DataFrame({"a": [1, 2, 3, 4.0], "label": ["cat", "dog"] * 2}).to_csv(tmp_path / "data.csv")
    pd.DataFrame({"a": [5, 6.0], "label": [1, 0]}).to_csv(tmp_path / "other.csv")
    pd.DataFrame({"a": [7, 8.0], "label": ["cat", "dog"]}).to_csv(tmp_path / "trusted.csv")
    sources = {"trusted": str(tmp_path / "trusted.csv")} | {role: str(tmp_path / "other.csv")}
    message = (
        rf"the labels of the {role} samples are integers \(0, 1\), .* names \(cat, dog\): --classes says"
    )
    with pytest.raises(InputError, match=message):
        make_split(settings(tmp_path / "data.csv", **sources), NoiseSettings(), 0)
    chosen = settings(tmp_path / "data.csv", **sources, classes=["dog", "cat"])
    split, _ = make_split(chosen, NoiseSettings(), 0)
    assert names(getattr(split, role)) == ["cat", "dog"]
    assert names(split.noisy) == ["cat", "dog"] * 2


def test_a_run_on_names_refuses_integers_until_it_is_told_what_they_are(tmp_path, settings):
    schema = Schema(classes=("cat", "cow", "dog"), feature_columns=("x",))
    pd.DataFrame({"x": [1.0, 2, 3], "label": [2, 0, 1]}).to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(InputError, match=r"integers without names \(2, 0, 1\): --classes says"):
        read(str(tmp_path / "test.csv"), settings(), role="test", schema=schema)
    told = settings(classes=["dog", "cat", "cow"])
    samples = read(str(tmp_path / "test.csv"), told, role="test", schema=schema)
    assert samples.classes == schema.classes
    assert names(samples) == ["cow", "dog", "cat"]


def test_integers_of_further_files_are_those_of_the_data_if_these_have_integers(tmp_path, settings):
    save_npz(tmp_path / "data.npz", [0, 1, 1], classes=["zebra", "ant"])
    save_npz(tmp_path / "test.npz", [1, 0, 0])
    schema = open_source(str(tmp_path / "data.npz"), settings(), role="data").schema
    schema = Schema.from_dict(json.loads(json.dumps(vars(schema))))
    tested = read(str(tmp_path / "test.npz"), settings(), role="test", schema=schema)
    assert names(tested) == ["ant", "zebra", "zebra"]


def test_unknown_classes_are_counted(tmp_path, settings, logged):
    schema = Schema(classes=("cat", "dog"), feature_columns=("x",))
    labels = ["cat", "fox", "owl", "fox", "dog"]
    pd.DataFrame({"x": np.arange(5.0), "label": labels}).to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(InputError, match=r"row 1 .*'fox'.* Unknown: 'fox' \(2\), 'owl' \(1\)"):
        read(str(tmp_path / "test.csv"), settings(), role="test", schema=schema)
    kept = read(str(tmp_path / "test.csv"), settings(drop_untrusted_classes=True), role="test", schema=schema)
    assert names(kept) == ["cat", "dog"]
    assert kept.inputs[:, 0].tolist() == [0, 4]
    assert "left out 3 samples of unknown classes: fox, owl" in logged.text


# Values of other types


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([b"barolo", "grüner".encode(), b"barolo"], ("barolo", "grüner")),
        ([decimal.Decimal("2.00"), decimal.Decimal(10), decimal.Decimal(2)], ("2", "10")),
        (pd.array([1, None, 2], dtype="Int64"), ("1", "2")),
        (pd.array([2**60 + 1, None, 2**60], dtype="Int64"), (str(2**60), str(2**60 + 1))),
        (pd.Categorical(["b", "a", "b"]), ("a", "b")),
        (pd.Categorical([2.0, 1.0, 2.0]), ("1", "2")),
        ([True, False, True], ("False", "True")),
        ([datetime.date(2024, 5, 1), datetime.date(2023, 5, 1), None], ("2023-05-01", "2024-05-01")),
        (pd.to_datetime(["2024-05-01", "2023-05-01", None]), ("2023-05-01", "2024-05-01")),
        (["NA", "None", "null"], ("NA", "None", "null")),
        (pd.array(["x", pd.NA, "y"], dtype="string"), ("x", "y")),
    ],
    ids=lambda value: str(value)[:20],
)
def test_labels_of_any_type_become_text(tmp_path, settings, values, classes):
    frame = pd.DataFrame({"a": [1.0, 2, 3], "label": values})
    frame.to_parquet(tmp_path / "data.parquet")
    samples = read(str(tmp_path / "data.parquet"), settings(drop_unlabelled=True), role="data")
    assert samples.classes == classes
    if frame["label"].dtype != object:  # Python's bytes and decimals are not as text what they are
        frame.to_csv(tmp_path / "data.csv", index=False)
        again = read(str(tmp_path / "data.csv"), settings(drop_unlabelled=True), role="data")
        assert (again.classes, names(again)) == (classes, names(samples))


@pytest.mark.parametrize("column", ["label", "id", "truth", "checked"])
@pytest.mark.parametrize(
    ("value", "found"),
    [(["u", "v"], "['u', 'v']"), ({"name": "u"}, "{'name': 'u'}"), (b"\xff\xfe\xfd", "bytes")],
    ids=["list", "struct", "no UTF-8"],
)
def test_values_that_are_no_text_are_one_clear_error(tmp_path, settings, column, value, found):
    columns = {"a": [1.0, 2], "label": ["u", "v"], "id": ["p", "q"], "truth": ["u", "v"], "checked": [1, 0]}
    pq.write_table(pa.table(columns | {column: [value, value]}), tmp_path / "data.parquet")
    chosen = settings(true_label_column="truth", trusted_column="checked")
    with pytest.raises(InputError, match=r"data\.parquet: .*row 0: expected") as caught:
        read(str(tmp_path / "data.parquet"), chosen, role="data")
    assert found in str(caught.value)


def test_bytes_in_npz_are_text(tmp_path, settings):
    save_npz(tmp_path / "data.npz", np.array([b"u", b"v"]), ids=np.array([b"p", b"q"]))
    samples = read(str(tmp_path / "data.npz"), settings(), role="data")
    assert (samples.classes, samples.ids.tolist()) == (("u", "v"), ["p", "q"])


def test_records_in_npz_are_one_clear_error(tmp_path, settings):
    save_npz(tmp_path / "data.npz", np.array([(1, 2), (3, 4)], dtype="i4,i4"))
    with pytest.raises(InputError, match=r"data\.npz: row 0: expected one string or integer, found tuple"):
        read(str(tmp_path / "data.npz"), settings(), role="data")


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_class_names_of_a_file_must_differ(tmp_path, settings, kind):
    if kind == "npz":
        save_npz(tmp_path / "data.npz", [0, 1], classes=["u", "u"])
    else:
        save_class_labels(tmp_path / "data.parquet", ["u", "u"], [0, 1])
    with pytest.raises(InputError, match=rf"data\.{kind}: class names must differ.*: u"):
        read(str(tmp_path / f"data.{kind}"), settings(), role="data")


def test_the_label_column_may_be_called_id(tmp_path, settings):
    (tmp_path / "data.csv").write_text("a,id\n1,u\n2,u\n3,v\n")
    samples = read(str(tmp_path / "data.csv"), settings(label_column="id"), role="data")
    assert names(samples) == ["u", "u", "v"]
    assert samples.ids.tolist() == ["0", "1", "2"]


# Spellings


SPELLINGS = ["cat", "Cat", " cat ", "hot-dog", "hot dog", "hot_dog", "cat", "01", "1", "01"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_class_names_that_differ_in_spelling_are_told_with_counts(tmp_path, settings, logged, kind):
    frame = pd.DataFrame({"a": np.arange(10.0), "label": SPELLINGS})
    getattr(frame, f"to_{kind}")(tmp_path / f"data.{kind}", index=False)
    samples = read(str(tmp_path / f"data.{kind}"), settings(), role="data")
    assert names(samples) == SPELLINGS
    assert "'cat' (2) and 'Cat' (1) and ' cat ' (1)" in logged.text
    assert "'01' (2) and '1' (1)" in logged.text
    assert "'hot-dog' (1) and 'hot dog' (1) and 'hot_dog' (1)" in logged.text
    assert "--merge_spellings" in logged.text


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_spellings_are_merged_into_the_most_frequent(tmp_path, settings, logged, kind):
    frame = pd.DataFrame({"a": np.arange(10.0), "label": SPELLINGS})
    getattr(frame, f"to_{kind}")(tmp_path / f"data.{kind}", index=False)
    samples = read(str(tmp_path / f"data.{kind}"), settings(merge_spellings=True), role="data")
    assert names(samples) == ["cat"] * 3 + ["hot-dog"] * 3 + ["cat"] + ["01"] * 3
    assert "counted 'Cat' (1) as 'cat'; ' cat ' (1) as 'cat'" in logged.text


def test_names_that_differ_in_more_than_spelling_are_no_spellings(tmp_path, settings, logged):
    labels = ["A", "A-", "A+", "C", "C++", "-1", "1", "v1", "v2", "10", "100"]
    frame = pd.DataFrame({"a": np.arange(11.0), "label": labels})
    frame.to_csv(tmp_path / "data.csv", index=False)
    assert names(read(str(tmp_path / "data.csv"), settings(merge_spellings=True), role="data")) == labels
    assert logged.text == ""


@pytest.mark.parametrize(
    ("data", "trusted"),
    [
        (["Cat", "dog", "Cat", "dog"], ["cat", "DOG"]),
        (["01", "02", "01", "02"], [1, 2]),
        (["true", "false", "true", "false"], [True, False]),
        (["1", "0", "1", "0"], [True, False]),
    ],
    ids=["case", "zeros", "truth", "numbers"],
)
def test_spellings_of_two_files_are_told_and_merged(tmp_path, settings, logged, data, trusted):
    pd.DataFrame({"a": np.arange(4.0), "label": data}).to_csv(tmp_path / "data.csv", index=False)
    pd.DataFrame({"a": [5.0, 6], "label": trusted}).to_parquet(tmp_path / "trusted.parquet")
    sources = {"trusted": str(tmp_path / "trusted.parquet")}
    with pytest.raises(InputError, match=r"2 of 4 classes have no trusted sample.*--merge_spellings counts"):
        make_split(settings(tmp_path / "data.csv", **sources), NoiseSettings(), 0)
    assert "all sets: classes whose names differ in spelling only" in logged.text
    chosen = settings(tmp_path / "data.csv", **sources, merge_spellings=True)
    split, _ = make_split(chosen, NoiseSettings(), 0)
    assert set(split.classes) == set(data)
    assert names(split.noisy) == data
    assert names(split.trusted) == data[:2]


@pytest.mark.parametrize("labels", [["1.0", "2.0", "1.0"], ["1", "2.0", "1.0"]])
def test_whole_numbers_with_a_point_are_integers(tmp_path, settings, labels):
    pd.DataFrame({"a": np.arange(3.0), "label": labels}).to_csv(tmp_path / "data.csv", index=False)
    samples = read(str(tmp_path / "data.csv"), settings(), role="data")
    assert names(samples) == ["1", "2", "1"]
    pd.DataFrame({"a": np.arange(3.0), "label": ["1.0", "1.5", "2.0"]}).to_csv(tmp_path / "data.csv")
    assert names(read(str(tmp_path / "data.csv"), settings(), role="data")) == ["1.0", "1.5", "2.0"]


# Trusted marks


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("marks", "trusted"),
    [
        (["x", "", "X", None], [True, False, True, False]),
        (["yes", "no", "Yes", ""], [True, False, True, False]),
        (["Y", "N", " y ", "n"], [True, False, True, False]),
        ([1.0, None, 0.0, 1.0], [True, False, False, True]),
        (["TRUE", "False", "t", "f"], [True, False, True, False]),
        ([True, None, False, True], [True, False, False, True]),
    ],
    ids=str,
)
def test_marks_of_trusted_rows(tmp_path, settings, kind, marks, trusted):
    frame = pd.DataFrame({"a": np.arange(4.0), "label": list("uvuv"), "ok": marks})
    getattr(frame, f"to_{kind}")(tmp_path / f"data.{kind}", index=False)
    samples = read(str(tmp_path / f"data.{kind}"), settings(trusted_column="ok"), role="data")
    assert samples.trusted.tolist() == trusted


def test_other_marks_are_an_error_that_names_the_row(tmp_path, settings):
    (tmp_path / "data.csv").write_text("a,label,ok\n1,u,yes\n2,v,maybe\n3,u,perhaps\n")
    with pytest.raises(InputError, match=r"data\.csv: row 1 \(like 1 other rows\): .*found 'maybe'"):
        read(str(tmp_path / "data.csv"), settings(trusted_column="ok"), role="data")


# Ways out


def test_rows_without_labels_can_be_left_out(tmp_path, settings, logged):
    (tmp_path / "data.csv").write_text("id,a,label,ok\np,1,u,x\nq,2,,x\nr,3,  ,\ns,4,v,x\nt,5,u,\n")
    chosen = settings(tmp_path / "data.csv", trusted_column="ok")
    with pytest.raises(InputError, match=r"row 1 \(id 'q'\) \(like 1 other rows\) has no label.*--drop_unl"):
        make_split(chosen, NoiseSettings(), 0)
    chosen = settings(tmp_path / "data.csv", trusted_column="ok", drop_unlabelled=True)
    split, _ = make_split(chosen, NoiseSettings(), 0)
    assert (split.trusted.ids.tolist(), split.noisy.ids.tolist()) == (["p", "s"], ["t"])
    assert split.trusted.inputs.tolist() == [[1], [4]]
    assert "left out 2 samples without a label" in logged.text
    (tmp_path / "data.csv").write_text("id,a,label\np,1,\n")
    with pytest.raises(InputError, match="no samples are left, of 1"):
        read(str(tmp_path / "data.csv"), settings(drop_unlabelled=True), role="data")


def test_classes_without_trusted_samples_can_be_left_out(settings, logged):
    data = Samples.from_arrays(
        np.arange(12).reshape(6, 2),
        ["a", "b", "rare", "a", "b", "odd"],
        true_labels=["a", "rare", *"ab"] + [None] * 2,
    )
    trusted = Samples.from_arrays(np.arange(4).reshape(2, 2) + 50, ["a", "b"])
    test = Samples.from_arrays(np.arange(6).reshape(3, 2) + 90, ["b", "new", "rare"])
    with pytest.raises(InputError, match="'new'"):
        split_samples(data, trusted, test=test, settings=settings())
    with pytest.raises(InputError, match=r"no trusted sample: odd, rare;.*--drop_untrusted_cl.* 2 noisy"):
        split_samples(data, trusted, settings=settings())
    split = split_samples(data, trusted, test=test, settings=settings(drop_untrusted_classes=True))
    assert split.classes == ("a", "b")
    assert split.noisy.ids.tolist() == ["0", "1", "3", "4"]
    assert split.noisy.true_labels.tolist() == [0, -1, 1, -1]
    assert names(split.test) == ["b"]
    assert "left out classes without a trusted sample: odd, rare" in logged.text
    assert "left out 2 noisy samples of classes without a trusted sample" in logged.text


def test_declared_classes_without_trusted_samples_can_be_left_out(tmp_path, settings):
    save_class_labels(tmp_path / "data.parquet", ["z", "y", "x"], [0, 1, 2, 0, 2])
    save_class_labels(tmp_path / "trusted.parquet", ["x", "z"], [0, 1], y=[1, 2])
    chosen = settings(
        tmp_path / "data.parquet",
        trusted=str(tmp_path / "trusted.parquet"),
        drop_untrusted_classes=True,
        feature_columns=["x"],
        overlap="drop",
    )
    pq.write_table(
        pq.read_table(tmp_path / "trusted.parquet").set_column(0, "x", [[70.0, 80.0]]),
        tmp_path / "trusted.parquet",
    )
    split, schema = make_split(chosen, NoiseSettings(), 0)
    assert names(split.noisy) == ["z", "x", "z", "x"]
    assert schema.classes == ("z", "x")
    assert not schema.has_integers  # 1 no longer stands for the second class


@pytest.mark.parametrize(
    ("choice", "ids"),
    [("first", ["p", "q", "r"]), ("number", ["p", "q", "p#2", "r", "p#3", "q#2"])],
)
def test_repeated_ids_have_two_ways_out(tmp_path, settings, logged, choice, ids):
    (tmp_path / "data.csv").write_text("id,a,label\np,1,u\nq,2,v\np,3,u\nr,4,v\np,5,u\nq,6,u\n")
    with pytest.raises(InputError, match=r"2 ids occur .*--id_column .*--repeated_ids first .*number"):
        read(str(tmp_path / "data.csv"), settings(), role="data")
    samples = read(str(tmp_path / "data.csv"), settings(repeated_ids=choice), role="data")
    assert samples.ids.tolist() == ids
    first = [1, 2, 4] if choice == "first" else [1, 2, 3, 4, 5, 6]
    assert samples.inputs[:, 0].tolist() == first
    assert "3 rows whose id has occurred before" in logged.text


def test_numbered_ids_are_new(tmp_path, settings):
    (tmp_path / "data.csv").write_text("id,a,label\np,1,u\np#2,2,v\np,3,u\n")
    samples = read(str(tmp_path / "data.csv"), settings(repeated_ids="number"), role="data")
    assert samples.ids.tolist() == ["p", "p#2", "p#3"]


def test_a_trusted_row_in_the_main_file_too_counts_as_trusted(tmp_path, settings, logged):
    frame = pd.DataFrame({"id": list("pqrstu"), "a": np.arange(6.0), "label": list("xyxyxy")})
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.iloc[[0, 2]].assign(label=["y", "x"]).to_csv(tmp_path / "trusted.csv", index=False)
    chosen = settings(tmp_path / "data.csv", trusted=str(tmp_path / "trusted.csv"))
    split, _ = make_split(chosen, NoiseSettings(), 0)
    assert split.noisy.ids.tolist() == ["q", "s", "t", "u"]
    assert names(split.trusted) == ["y", "x"]
    assert "removed 2 noisy samples that are also trusted samples" in logged.text


@pytest.mark.parametrize("saved", [("utf-8", ","), ("utf-8-sig", ";"), ("gb18030", "\t")], ids=str)
def test_a_table_of_checked_labels_is_not_written_as_the_data_are(tmp_path, settings, saved):
    frame = pd.DataFrame({"id": list("pqr"), "a": np.arange(3.0), "label": ["猫", "狗", "猫"]})
    frame.to_csv(tmp_path / "data.csv", index=False, sep="|", encoding="gb18030")
    encoding, separator = saved
    rows = [["id", "given_label", "checked_label"], ["q", "狗", "猫"], ["r", "猫", "狗"]]
    text = "\n".join(map(separator.join, rows))
    (tmp_path / "checked.csv").write_text(text, encoding=encoding)
    chosen = settings(tmp_path / "data.csv", trusted=str(tmp_path / "checked.csv"))
    split, _ = make_split(replace(chosen, separator="|", encoding="gb18030"), NoiseSettings(), 0)
    assert dict(zip(split.trusted.ids, names(split.trusted), strict=True)) == {"q": "猫", "r": "狗"}


def test_a_table_of_checked_labels_may_have_been_saved_by_a_spreadsheet(tmp_path, settings):
    given = ["Käse", "Brot", "Käse", "Brot", ""]
    frame = pd.DataFrame({"id": list("pqrst"), "a": np.arange(5.0), "label": given})
    frame.to_csv(tmp_path / "data.csv", index=False)
    rows = ["id;given_label;checked_label", "q;Brot;Käse", "r;Käse;", "s;Brot;Brot", "t;;Käse"]
    (tmp_path / "checked.csv").write_bytes("\r\n".join(rows).encode("cp1252"))
    chosen = settings(tmp_path / "data.csv", trusted=str(tmp_path / "checked.csv"), drop_unlabelled=True)
    split, _ = make_split(chosen, NoiseSettings(), 0)
    assert split.trusted.ids.tolist() == ["q", "s", "t"]
    assert names(split.trusted) == ["Käse", "Brot", "Käse"]
    assert split.noisy.ids.tolist() == ["p", "r"]
