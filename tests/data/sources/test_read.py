import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from emlc.data import Schema, read
from emlc.data.sources.read import open_source
from emlc.errors import InputError

CIFAR10 = Path(__file__).parents[4] / "shared/data/cifar10"


def nhwc(samples):
    return samples.inputs.permute(0, 2, 3, 1).numpy()


# Tables of numbers


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        (["label", "z"], "lacks x and also has z"),
        (["label"], "lacks x"),
        (["x", "label", "y", "z"], "also has y, z"),
    ],
)
def test_parquet_files_of_different_columns_are_refused(tmp_path, settings, columns, fault):
    pd.DataFrame({"x": [1, 2], "label": ["u", "v"]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({name: ["u", "v"] for name in columns}).to_parquet(tmp_path / "b.parquet")
    message = rf"b\.parquet: {fault}, unlike .*a\.parquet; .* the same columns"
    with pytest.raises(InputError, match=message):
        read(str(tmp_path / "*.parquet"), settings(), role="data")


def test_parquet_files_may_differ_in_the_order_of_columns_and_in_row_numbers(tmp_path, settings):
    frame = pd.DataFrame({"x": [1, 2, 3], "label": ["u", "v", "u"]})
    frame.to_parquet(tmp_path / "a.parquet")
    frame[["label", "x"]][frame["label"] == "u"].to_parquet(tmp_path / "b.parquet")
    samples = read(str(tmp_path / "*.parquet"), settings(), role="data")
    assert samples.inputs.tolist() == [[1], [2], [3], [1], [3]]


def test_csv_of_numbers(tmp_path, settings):
    path = tmp_path / "data.csv"
    path.write_text("id,width,label,height,flag,note\n007,1.5,NA,2,true,x\nb,2,01,3,false,y\n")
    samples = read(str(path), settings(), role="data")
    assert samples.ids.tolist() == ["007", "b"]
    assert samples.own_ids
    assert samples.classes == ("01", "NA")
    assert samples.labels.tolist() == [1, 0]
    assert samples.inputs.tolist() == [[1.5, 2, 1], [2, 3, 0]]


def test_text_columns_are_left_out_and_named(tmp_path, settings, logged):
    path = tmp_path / "data.csv"
    path.write_text("a,note,label\n1,x,u\n2,y,v\n")
    assert read(str(path), settings(), role="data").inputs.tolist() == [[1], [2]]
    assert "not used as features: note" in logged.text


def test_columns_called_as_evidence_are_features_of_a_table_that_has_no_other_sign_of_it(tmp_path, settings):
    path = tmp_path / "data.csv"
    path.write_text("retain_weight,label_quality,probability_u,label\n1,2,3,u\n4,5,6,v\n")
    samples = read(str(path), settings(), role="data")
    assert samples.inputs.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_mark_of_trusted_rows_is_no_feature(tmp_path, settings, logged):
    path = tmp_path / "data.csv"
    rows = [f"{k},{'ab'[k % 2]},{k % 3 == 0},{k}.5" for k in range(12)]
    path.write_text("\n".join(["id,label,trusted,x", *rows]) + "\n")
    assert read(str(path), settings(), role="data").inputs.shape == (12, 1)
    assert "column 'trusted' is not used; --trusted_column trusted would read it" in logged.text


@pytest.mark.parametrize("sign", ["corrected_label,retain_weight", "given_label,label_quality"])
def test_evidence_on_the_labels_is_no_feature(tmp_path, settings, logged, sign):
    path = tmp_path / "data.csv"
    path.write_text(
        f"a,{sign},probability_0,probability_1,probability_x,label\n1,0,9,9,9,2,0\n3,1,9,9,9,4,1\n"
    )
    samples = read(str(path), settings(), role="data")
    assert samples.inputs.tolist() == [[1, 2], [3, 4]]
    left_out = ", ".join(sorted([*sign.split(","), "probability_0", "probability_1"]))
    assert f"data.csv: columns about labels are not used as features: {left_out}" in logged.text
    named = read(str(path), settings(feature_columns=[sign.split(",")[1]]), role="data")
    assert named.inputs.tolist() == [[9], [9]]


def test_values_that_are_no_numbers_are_named(tmp_path, settings, logged):
    path = tmp_path / "data.csv"
    path.write_text("a,b,label\n1,2,u\n2,oops,v\n3,4,v\n")
    assert read(str(path), settings(), role="data").inputs.tolist() == [[1], [2], [3]]
    assert "not used as features: b (3 different values, numbers but for 'oops')" in logged.text
    with pytest.raises(InputError, match=r"column 'b' \(--feature_columns\) cannot be learned from: 3"):
        read(str(path), settings(feature_columns=["b"]), role="data")


def test_a_number_that_is_not_finite_is_named(tmp_path, settings):
    path = tmp_path / "data.csv"
    path.write_text("id,a,b,label\np,1,2,u\nq,2,inf,v\nr,2,3,v\n")
    with pytest.raises(
        InputError, match=r"data\.csv: row 1 \(id 'q'\), column 'b': expected a finite number, found inf"
    ):
        read(str(path), settings(), role="data")


def test_other_sources_reuse_the_feature_columns_in_their_order(tmp_path, settings):
    pd.DataFrame({"a": [1.0, 2], "b": [3, 4], "label": ["u", "v"]}).to_csv(tmp_path / "data.csv", index=False)
    pd.DataFrame({"new": [0], "b": [4], "a": [2]}).to_parquet(tmp_path / "new.parquet")
    pd.DataFrame({"a": [4]}).to_csv(tmp_path / "short.csv", index=False)
    schema = open_source(str(tmp_path / "data.csv"), settings(), role="data").schema
    schema = Schema.from_dict(json.loads(json.dumps(asdict(schema))))
    assert schema.feature_columns == ("a", "b")
    predicted = read(str(tmp_path / "new.parquet"), settings(), role="predict", schema=schema)
    assert predicted.inputs.tolist() == [[2, 4]]
    assert predicted.labels is None
    with pytest.raises(InputError, match=r"short\.csv: no column 'b' \(--feature_columns\); found: a"):
        read(str(tmp_path / "short.csv"), settings(), role="predict", schema=schema)


def test_named_feature_columns(tmp_path, settings):
    pd.DataFrame({"a": [1], "b": [3], "label": ["u"]}).to_csv(tmp_path / "data.csv", index=False)
    samples = read(str(tmp_path / "data.csv"), settings(feature_columns=["b"]), role="data")
    assert samples.inputs.tolist() == [[3]]


def test_a_leftover_label_column_is_no_feature(tmp_path, settings):
    frame = pd.DataFrame({"a": [1, 2], "label": [0, 1], "worst": [1, 1]})
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.to_parquet(tmp_path / "data.parquet")
    for name in ("data.csv", "data.parquet"):
        samples = read(str(tmp_path / name), settings(label_column="worst"), role="data")
        assert samples.inputs.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"label_column": "y"}, r"no column 'y' \(--label_column\); found: a, label"),
        ({"true_label_column": "truth"}, r"no column 'truth' \(--true_label_column\)"),
        ({"trusted_column": "ok"}, r"no column 'ok' \(--trusted_column\)"),
        ({"image_column": "photo"}, r"no column 'photo' \(--image_column\)"),
        ({"id_column": "key"}, r"no column 'key' \(--id_column\)"),
    ],
)
def test_a_named_column_must_be_there(tmp_path, settings, named, message):
    (tmp_path / "data.csv").write_text("a,label\n1,u\n")
    with pytest.raises(InputError, match=r"data\.csv: " + message):
        read(str(tmp_path / "data.csv"), settings(**named), role="data")


def test_the_label_column_depends_on_the_role(tmp_path, settings):
    path = str(tmp_path / "data.csv")
    (tmp_path / "data.csv").write_text("a,label,truth\n1,u,v\n2,v,v\n")
    labels = {
        role: read(path, settings(true_label_column="truth"), role=role).labels.tolist()
        for role in ("data", "trusted", "validation", "test")
    }
    assert labels == {"data": [0, 1], "trusted": [0, 1], "validation": [0, 0], "test": [0, 0]}
    (tmp_path / "data.csv").write_text("a,truth\n1,u\n2,v\n")
    trusted = read(path, settings(true_label_column="truth"), role="trusted")
    assert trusted.labels.tolist() == [0, 1]
    assert trusted.ids.tolist() == ["trusted-0", "trusted-1"]


def test_a_row_without_a_label_is_named(tmp_path, settings):
    (tmp_path / "data.csv").write_text("a,label\n1,u\n2,\n")
    with pytest.raises(InputError, match=r"data\.csv: row 1 \(id '1'\) has no label"):
        read(str(tmp_path / "data.csv"), settings(), role="data")


@pytest.mark.parametrize("values", [[True, False], [1, 0], ["true", "FALSE"]])
def test_the_trusted_column(tmp_path, settings, values):
    frame = pd.DataFrame({"a": [1, 2], "label": ["u", "v"], "ok": values})
    frame.to_csv(tmp_path / "data.csv", index=False)
    samples = read(str(tmp_path / "data.csv"), settings(trusted_column="ok"), role="data")
    assert samples.trusted.tolist() == [True, False]
    assert samples.inputs.shape == (2, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.csv", b"a,label\n1\n", "cannot be read"),
        ("data.csv", b"a,a,label\n1,2,u\n", "columns occur more than once: a"),
        ("data.csv", b"a,label\n", "no samples"),
        ("data.csv", b"note,label\nx,u\n", "neither an image column nor columns to learn"),
        ("data.csv", b"path,label\nno.png,u\n", r"column 'path': none of 1 image paths exists, .*'no\.png'"),
        ("data.parquet", b"nonsense", "cannot be read"),
        ("data.npz", b"nonsense", "cannot be read"),
        ("data.txt", b"nonsense", "not a known kind of source"),
    ],
)
def test_broken_files_are_named(tmp_path, settings, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        read(str(tmp_path / name), settings(), role="data")


@pytest.mark.parametrize("name", ["no.csv", "no.npz", "no.parquet", "no*.parquet"])
def test_a_file_that_does_not_exist(tmp_path, settings, name):
    with pytest.raises(InputError, match="no such file"):
        read(str(tmp_path / name), settings(), role="data")


# Images


def test_csv_of_image_paths(tmp_path, settings, save_image):
    pixels = [save_image(tmp_path / "images" / f"{k}.png", k) for k in range(3)]
    rows = "".join(f"images/{k}.png,{k % 2},5\n" for k in range(3))
    (tmp_path / "data.csv").write_text("path,label,size\n" + rows)
    samples = read(str(tmp_path / "data.csv"), settings(), role="data")
    assert samples.inputs.dtype == torch.uint8
    np.testing.assert_array_equal(nhwc(samples), pixels)


def test_parquet_as_hugging_face_writes_it(tmp_path, settings, save_hugging_face):
    pixels = save_hugging_face(tmp_path / "data.parquet", ["zebra", "ant"], label=[1, 0, 1], worst=[0, 0, 1])
    named = settings(label_column="worst", true_label_column="label")
    samples = read(str(tmp_path / "data.parquet"), named, role="data")
    assert samples.classes == ("zebra", "ant")
    assert samples.labels.tolist() == [0, 0, 1]
    assert samples.true_labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(nhwc(samples), pixels)


def test_only_the_taken_rows_are_decoded_in_their_order(tmp_path, settings, save_hugging_face):
    first = save_hugging_face(tmp_path / "part-0.parquet", ["a"], label=[0] * 3)
    second = save_hugging_face(tmp_path / "part-1.parquet", ["a"], first_seed=3, label=[0] * 2)
    pixels = np.concatenate([first, second])
    source = open_source(str(tmp_path / "part-*.parquet"), settings(), role="data")
    taken = source.take(np.array([4, 0, 3]))
    assert taken.ids.tolist() == ["4", "0", "3"]
    np.testing.assert_array_equal(nhwc(taken), pixels[[4, 0, 3]])


def test_a_label_outside_hugging_face_names_is_refused(tmp_path, settings, save_hugging_face):
    save_hugging_face(tmp_path / "data.parquet", ["zebra", "ant"], label=[1, 2])
    with pytest.raises(InputError, match=r"data\.parquet: row 1 .* '2', .* zebra, ant"):
        read(str(tmp_path / "data.parquet"), settings(), role="data")


def test_hugging_face_writes_a_missing_label_as_minus_one(tmp_path, settings, save_hugging_face):
    save_hugging_face(tmp_path / "data.parquet", ["zebra", "ant"], label=[1, -1])
    with pytest.raises(InputError, match=r"data\.parquet: row 1 \(id '1'\) has no label"):
        read(str(tmp_path / "data.parquet"), settings(), role="data")


def test_folder_of_class_folders(tmp_path, settings, save_image):
    b = save_image(tmp_path / "dogs" / "sub" / "b.png", 0)
    a = save_image(tmp_path / "cats" / "a.PNG", 1)
    (tmp_path / "cats" / "readme.txt").write_text("no image")
    save_image(tmp_path / ".hidden" / "c.png")
    samples = read(str(tmp_path), settings(), role="data")
    assert samples.ids.tolist() == ["cats/a.PNG", "dogs/sub/b.png"]
    assert samples.classes == ("cats", "dogs")
    assert samples.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(nhwc(samples), [a, b])
    assert read(str(tmp_path), settings(), role="test").ids[0] == "test/cats/a.PNG"


def test_folder_without_class_folders(tmp_path, settings, save_image):
    save_image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"1 images lie in no sub-folder.*a\.png"):
        read(str(tmp_path), settings(), role="data")
    assert read(str(tmp_path), settings(), role="predict").ids.tolist() == ["a.png"]


def test_folder_of_splits_is_not_taken_for_classes(tmp_path, settings, save_image):
    save_image(tmp_path / "train" / "cats" / "a.png")
    save_image(tmp_path / "test" / "cats" / "a.png")
    with pytest.raises(InputError, match="test, train, which look like splits"):
        read(str(tmp_path), settings(), role="data")


def test_an_empty_folder(tmp_path, settings):
    with pytest.raises(InputError, match="no images"):
        read(str(tmp_path), settings(), role="data")


@pytest.fixture
def broken_folder(tmp_path, save_image):
    """Two good images, one file that is no image, one that breaks off."""
    for name in ("a", "b", "d"):
        save_image(tmp_path / "cats" / f"{name}.png", ord(name), size=(40, 40))
    (tmp_path / "cats" / "c.png").write_text("no image")
    whole = (tmp_path / "cats" / "d.png").read_bytes()
    (tmp_path / "cats" / "d.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_unreadable_images_are_all_listed(broken_folder, settings):
    with pytest.raises(InputError, match="2 images cannot be read; --skip_unreadable") as caught:
        read(str(broken_folder), settings(), role="data")
    assert "cats/c.png: not an image" in str(caught.value)
    assert "cats/d.png: " in str(caught.value)


def test_unreadable_images_can_be_left_out(broken_folder, settings, logged):
    samples = read(str(broken_folder), settings(skip_unreadable=True), role="data")
    assert samples.ids.tolist() == ["cats/a.png", "cats/b.png"]
    assert len(samples.inputs) == len(samples.labels) == 2
    assert "left out 2 unreadable images" in logged.text


def test_all_unreadable_images_are_listed(tmp_path, settings):
    (tmp_path / "cats").mkdir()
    for k in range(25):
        (tmp_path / "cats" / f"{k}.png").touch()
    with pytest.raises(InputError, match="25 images cannot be read") as caught:
        read(str(tmp_path), settings(), role="data")
    assert str(caught.value).count("not an image") == 25


def test_a_missing_image_file_and_an_empty_cell(tmp_path, settings, save_image):
    save_image(tmp_path / "a.png")
    (tmp_path / "data.csv").write_text("image,label\na.png,u\ngone.png,v\n,v\n")
    with pytest.raises(InputError, match=r"row 1 \(.*gone\.png\): no such file\n.*row 2: no image"):
        read(str(tmp_path / "data.csv"), settings(), role="data")


def test_images_of_differing_sizes(tmp_path, settings, save_image):
    save_image(tmp_path / "cats" / "a.png", size=(6, 5))
    save_image(tmp_path / "cats" / "b.png", size=(8, 8))
    with pytest.raises(InputError, match=r"6 x 5 \(1 images\), 8 x 8 \(1 images\); pass --image_size"):
        read(str(tmp_path), settings(), role="data")
    assert read(str(tmp_path), settings(image_size=4), role="data").inputs.shape == (2, 3, 4, 4)


def test_images_must_have_the_size_of_the_data(tmp_path, settings, save_image):
    save_image(tmp_path / "cats" / "a.png", size=(6, 5))
    schema = Schema(classes=("cats",), input_shape=(3, 8, 8))
    with pytest.raises(InputError, match="the data have 8 x 8; pass --image_size"):
        read(str(tmp_path), settings(), role="test", schema=schema)


def test_grey_images_stay_grey_unless_mixed_with_colour(tmp_path, settings, save_image):
    grey = save_image(tmp_path / "cats" / "a.png", grey=True)
    samples = read(str(tmp_path), settings(), role="data")
    np.testing.assert_array_equal(samples.inputs.numpy(), grey[None, None])
    colour = save_image(tmp_path / "cats" / "b.png", 1)
    mixed = read(str(tmp_path), settings(), role="data")
    np.testing.assert_array_equal(nhwc(mixed), [np.repeat(grey[..., None], 3, axis=2), colour])
    as_data = read(str(tmp_path), settings(), role="test", schema=Schema(input_shape=(1, 6, 5)))
    assert as_data.inputs.shape == (2, 1, 6, 5)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1", "I;16", "CMYK"])
def test_images_of_any_mode_are_decoded(tmp_path, settings, mode):
    (tmp_path / "cats").mkdir()
    picture = (
        Image.new("I;16", (4, 3), 200 * 256 + 7) if mode == "I;16" else Image.new("RGB", (4, 3), (200,) * 3)
    )
    picture = picture.quantize() if mode == "P" else picture.convert(mode)
    extra = {"transparency": b"\x00\x10"} if mode == "P" else {}
    picture.save(tmp_path / "cats" / ("a.tif" if mode == "CMYK" else "a.png"), **extra)
    inputs = read(str(tmp_path), settings(), role="data").inputs
    assert inputs.shape == (1, 1 if mode in ("LA", "1", "I;16") else 3, 3, 4)
    levels = {"1": {0, 255}, "P": {255}}  # the only colour of that palette is transparent
    assert set(inputs.unique().tolist()) <= levels.get(mode, {199, 200, 201})


def test_photographs_are_turned_upright(tmp_path, settings):
    (tmp_path / "cats").mkdir()
    picture = Image.new("L", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "cats" / "a.jpg", exif=exif)
    assert read(str(tmp_path), settings(), role="data").inputs.shape == (1, 1, 8, 4)


# Arrays


@pytest.mark.parametrize(("inputs", "labels"), [("X", "y"), ("x", "labels"), ("embeddings", "label")])
def test_npz(tmp_path, settings, inputs, labels):
    features = np.random.default_rng(0).normal(size=(3, 4))
    arrays = {inputs: features, labels: np.array(["u", "v", "u"]), "ids": np.array([7, 8, 9])}
    np.savez(
        tmp_path / "data.npz", **arrays, trusted=np.array([True, False, True]), y_true=np.array(list("uvv"))
    )
    samples = read(str(tmp_path / "data.npz"), settings(), role="data")
    np.testing.assert_allclose(samples.inputs.numpy(), features, rtol=1e-6)
    assert samples.ids.tolist() == ["7", "8", "9"]
    assert samples.labels.tolist() == [0, 1, 0]
    assert samples.true_labels.tolist() == [0, 1, 1]
    assert samples.trusted.tolist() == [True, False, True]


def test_npz_with_a_class_list_and_named_arrays(tmp_path, settings):
    np.savez(
        tmp_path / "data.npz",
        photos=np.zeros((2, 3, 3), dtype=np.uint8),
        noisy=np.array([1, 0]),
        classes=np.array(["zebra", "ant"]),
    )
    named = settings(image_column="photos", label_column="noisy")
    samples = read(str(tmp_path / "data.npz"), named, role="data")
    assert samples.classes == ("zebra", "ant")
    assert samples.inputs.shape == (2, 1, 3, 3)
    with pytest.raises(InputError, match=r"no column 'X' or 'x' .*; found: photos"):
        read(str(tmp_path / "data.npz"), settings(label_column="noisy"), role="data")


def test_npz_of_python_objects_is_refused(tmp_path, settings):
    np.savez(tmp_path / "data.npz", X=np.array([object()]), y=np.array([0]))
    with pytest.raises(InputError, match=r"data\.npz: cannot be read"):
        read(str(tmp_path / "data.npz"), settings(), role="data")


def test_digits(settings):
    samples = read("digits", settings(), role="data")
    assert samples.inputs.shape == (1797, 1, 8, 8)
    assert (samples.inputs.dtype, int(samples.inputs.max())) == (torch.uint8, 240)
    assert samples.classes == tuple("0123456789")
    assert (samples.labels == samples.true_labels).all()


# Real data


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="CIFAR-10 is not there: shared/data/cifar10")
def test_cifar10_with_human_labels(settings):
    named = settings(label_column="worst", true_label_column="label")
    source = open_source(str(CIFAR10), named, role="data")
    first = source.take(np.arange(5))
    names = [source.classes[k] for k in first.true_labels]
    assert names == ["frog", "truck", "truck", "deer", "automobile"]
    assert first.input_shape == (3, 32, 32)
    assert len(source) == 50_000
    assert np.mean(source.labels != source.true_labels) == pytest.approx(0.402, abs=5e-4)
