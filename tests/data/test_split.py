from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from emlc.config import NoiseSettings
from emlc.data import Samples, check_split, make_split, split_samples
from emlc.errors import InputError

CLEAN = NoiseSettings()
SYMMETRIC = NoiseSettings(noise="symmetric", noise_rate=0.4)


def ids(samples):
    return samples.ids.tolist()


def rows_of(split, role):
    table = split.table()
    return table[table["role"] == role]["id"].tolist()


@pytest.fixture
def features():
    """60 samples of three classes: given labels, of which every fifth is wrong, and the true ones."""
    rng = np.random.default_rng(0)
    true = np.arange(60) % 3
    given = np.where(np.arange(60) % 5 == 0, (true + 1) % 3, true)
    return {"X": rng.normal(size=(60, 2)), "y": given, "true_labels": true}


# Disjoint and reproducible


def test_digits_are_divided_into_disjoint_sets(settings):
    split, schema = make_split(settings("digits", trusted_per_class=10), SYMMETRIC, seed=0)
    table = split.table()
    assert table["id"].is_unique
    assert len(table) == 1797
    assert table["role"].value_counts().to_dict() == {"noisy": 1247, "trusted": 100, "test": 450}
    assert np.bincount(split.trusted.labels).tolist() == [10] * 10
    assert schema.input_shape == (1, 8, 8)
    assert schema.classes == split.classes == tuple("0123456789")
    pixels = {role: {p.tobytes() for p in getattr(split, role).inputs.numpy()} for role in ("noisy", "test")}
    assert not pixels["noisy"] & pixels["test"]


def test_the_test_set_is_stratified_and_free_of_noise(settings):
    split, _ = make_split(settings("digits", trusted_per_class=10, test_fraction=0.5), SYMMETRIC, seed=0)
    clean, _ = make_split(settings("digits", trusted_per_class=10, test_fraction=0.5), CLEAN, seed=0)
    counts = np.bincount(split.test.labels)
    total = counts + np.bincount(clean.noisy.labels) + 10
    assert (abs(counts - total / 2) <= 1).all()
    np.testing.assert_array_equal(split.test.labels, clean.test.labels)
    np.testing.assert_array_equal(split.trusted.labels, clean.trusted.labels)


def test_the_seed_decides(settings):
    first, again, other = (
        make_split(settings("digits", trusted_per_class=5), SYMMETRIC, seed)[0].table() for seed in (3, 3, 4)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_each_draw_has_random_numbers_of_its_own(settings):
    base, _ = make_split(settings("digits", trusted_per_class=5), SYMMETRIC, seed=0)
    stronger = NoiseSettings(noise="symmetric", noise_rate=0.8)
    other_noise, _ = make_split(settings("digits", trusted_per_class=5), stronger, seed=0)
    limited, _ = make_split(settings("digits", trusted_per_class=5, noisy_limit=50), SYMMETRIC, seed=0)
    for role in ("noisy", "trusted", "test"):
        assert rows_of(base, role) == rows_of(other_noise, role)
    assert rows_of(base, "trusted") == rows_of(limited, "trusted")
    assert rows_of(base, "test") == rows_of(limited, "test")
    assert len(limited.noisy) == 50
    assert set(ids(limited.noisy)) < set(ids(base.noisy))


# Noise


def test_nominal_and_actual_rates(settings):
    split, _ = make_split(settings("digits", trusted_per_class=10), SYMMETRIC, seed=0)
    wrong = (split.noisy.labels != split.noisy.true_labels).mean()
    assert split.noise_rate_nominal == 0.4
    assert split.noise_rate_actual == wrong
    expected, n = 0.4 * 0.9, len(split.noisy)
    assert abs(wrong - expected) < 5 * np.sqrt(expected * (1 - expected) / n)


def test_the_truth_of_noisy_digits_is_kept(settings):
    clean, _ = make_split(settings("digits", trusted_per_class=10), CLEAN, seed=0)
    noisy, _ = make_split(settings("digits", trusted_per_class=10), SYMMETRIC, seed=0)
    np.testing.assert_array_equal(noisy.noisy.true_labels, clean.noisy.labels)
    assert clean.noise_rate_nominal is None
    assert clean.noise_rate_actual == 0


def test_exact_asymmetric_noise_on_digits(settings):
    noise = NoiseSettings(noise="asymmetric", noise_rate=1.0, noise_draw="exact")
    split, _ = make_split(settings("digits", trusted_per_class=10), noise, seed=0)
    mapped = np.array([0, 1, 7, 8, 4, 6, 5, 1, 8, 9])
    np.testing.assert_array_equal(split.noisy.labels, mapped[split.noisy.true_labels])


def test_noise_from_a_matrix_file(settings, tmp_path, features):
    matrix = np.array([[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    np.save(tmp_path / "matrix.npy", matrix)
    noise = NoiseSettings(noise="matrix", noise_matrix=str(tmp_path / "matrix.npy"), noise_draw="exact")
    data = Samples.from_arrays(features["X"], features["true_labels"])
    split = split_samples(data, settings=settings(trusted_per_class=4), noise=noise)
    assert split.noise_rate_nominal == split.noise_rate_actual == 8 / 48


def test_human_noise_has_an_actual_rate_only(settings, features):
    data = Samples.from_arrays(**features)
    split = split_samples(data, settings=settings(trusted_per_class=2))
    assert split.noise_rate_nominal is None
    wrong = [k for k in split.noisy.ids.astype(int) if k % 5 == 0]
    assert split.noise_rate_actual == len(wrong) / 54


# Who is trusted


def test_trusted_per_class_draws_by_the_true_label_and_takes_it(settings, features):
    split = split_samples(Samples.from_arrays(**features), settings=settings(trusted_per_class=19))
    assert np.bincount(split.trusted.labels).tolist() == [19] * 3
    np.testing.assert_array_equal(split.trusted.labels, split.trusted.ids.astype(int) % 3)


def test_trusted_per_class_needs_the_truth(settings, features):
    data = Samples.from_arrays(features["X"], features["y"])
    with pytest.raises(InputError, match="--true_label_column"):
        split_samples(data, settings=settings(trusted_per_class=2))
    assert len(split_samples(data, settings=settings(trusted_per_class=2), noise=SYMMETRIC).trusted) == 6


def test_too_few_samples_of_a_class(settings, features):
    with pytest.raises(InputError, match=r"--trusted_per_class 21: .*: 0 \(20\), 1 \(20\), 2 \(20\)"):
        split_samples(Samples.from_arrays(**features), settings=settings(trusted_per_class=21))


def test_a_mask_marks_the_trusted_samples(settings, features):
    mask = np.arange(60) < 12
    data = Samples.from_arrays(**features, trusted=mask)
    split = split_samples(data, settings=settings(test_fraction=0.25))
    assert ids(split.trusted) == [str(k) for k in range(12)]
    assert len(split.test) == 12
    assert len(split.noisy) == 36


@pytest.mark.parametrize("way", ["mask", "samples", "table"])
def test_who_marks_samples_as_trusted_says_their_labels_whatever_the_true_ones(
    settings, features, tmp_path, way
):
    mask, chosen = np.arange(60) < 12, settings(test_fraction=0.25)
    samples = Samples.from_arrays(**features, ids=[f"s{k}" for k in range(60)])
    if way == "mask":
        split = split_samples(replace(samples, trusted=mask), settings=chosen)
    elif way == "samples":
        split = split_samples(samples.take(~mask), samples.take(mask), settings=chosen)
    else:
        frame = pd.DataFrame(features["X"], columns=["u", "v"])
        frame = frame.assign(label=features["y"], true_label=features["true_labels"], checked=mask)
        frame.to_csv(tmp_path / "data.csv", index=False)
        marked = settings(tmp_path / "data.csv", trusted_column="checked", test_fraction=0.25)
        split, _ = make_split(marked, CLEAN, seed=0)
    np.testing.assert_array_equal(split.trusted.labels, features["y"][:12])
    np.testing.assert_array_equal(split.trusted.true_labels, features["true_labels"][:12])
    tested = [int(name.removeprefix("s")) for name in ids(split.test)]
    np.testing.assert_array_equal(split.test.labels, features["true_labels"][tested])


@pytest.mark.parametrize("mask", [False, True])
def test_exactly_one_thing_says_what_is_trusted(settings, features, mask):
    data = Samples.from_arrays(**features, trusted=np.arange(60) < 12 if mask else None)
    per_class = settings(trusted_per_class=2) if mask else settings()
    found = "--trusted_column and --trusted_per_class" if mask else "none"
    with pytest.raises(InputError, match=f"give exactly one of .*; found {found}"):
        split_samples(data, settings=per_class)


def test_a_class_without_trusted_samples_is_named(settings, features):
    data = Samples.from_arrays(**features, trusted=np.arange(60) == 0)
    with pytest.raises(InputError, match=r"2 of 3 classes have no trusted sample: 0, 2; .* 40 noisy"):
        split_samples(data, settings=settings())


def test_a_class_may_be_absent_from_the_noisy_set(settings):
    data = Samples.from_arrays(np.eye(2), ["b", "b"])
    trusted = Samples.from_arrays(np.eye(2) + 1, ["b", "a"])
    split = split_samples(data, trusted, settings=settings())
    assert split.classes == ("a", "b")
    assert split.noisy.labels.tolist() == [1, 1]
    assert split.trusted.labels.tolist() == [1, 0]


def test_a_test_label_outside_the_classes_is_refused(settings):
    data, trusted = (Samples.from_arrays(np.eye(2) + k, ["a", "b"]) for k in range(2))
    test = Samples.from_arrays(np.eye(2) + 2, ["a", "z"])
    with pytest.raises(InputError, match=r"the test samples: row 1 .* 'z'.* classes: a, b"):
        split_samples(data, trusted, test=test, settings=settings())


def test_all_sets_need_labels_and_inputs_of_one_shape(settings):
    data, trusted = (Samples.from_arrays(np.eye(2) + k, ["a", "b"]) for k in range(2))
    with pytest.raises(InputError, match="the test samples have no labels"):
        split_samples(data, trusted, test=Samples.from_arrays(np.eye(2)), settings=settings())
    wide = Samples.from_arrays(np.eye(3)[:2], ["a", "b"])
    with pytest.raises(InputError, match=r"the test samples: each input has shape \(3,\), .* \(2,\)"):
        split_samples(data, trusted, test=wide, settings=settings())


def test_a_test_set_and_a_fraction_exclude_each_other(settings, features):
    data = Samples.from_arrays(**features)
    with pytest.raises(InputError, match="--test and --test_fraction"):
        split_samples(data, test=data, settings=settings(trusted_per_class=2, test_fraction=0.5))


def test_a_fraction_too_small_to_hold_every_class(settings, features):
    data = Samples.from_arrays(**features)
    with pytest.raises(InputError, match=r"--test_fraction 0\.02: 60 samples cannot be divided by class"):
        split_samples(data, settings=settings(trusted_per_class=2, test_fraction=0.02))


def test_no_noisy_samples_left(settings, features):
    with pytest.raises(InputError, match="no noisy samples are left"):
        split_samples(Samples.from_arrays(**features), settings=settings(trusted_per_class=20))


# Overlap


@pytest.mark.parametrize("role", ["trusted", "validation", "test"])
def test_a_shared_id_is_refused_or_dropped(settings, logged, role):
    data = Samples.from_arrays(np.eye(4), list("abab"), ids=list("pqrs"))
    parts = {"trusted": Samples.from_arrays(np.eye(4)[:2] + 1, list("ab"), ids=list("tu"))}
    parts[role] = Samples.from_arrays(np.eye(4)[:2] + 2, list("ab"), ids=list("qx"))
    with pytest.raises(InputError, match=rf"1 samples are both noisy and {role}.*: q; --overlap drop"):
        split_samples(data, **parts, settings=settings(overlap="trusted" if role == "test" else "error"))
    split = split_samples(data, **parts, settings=settings(overlap="drop" if role == "test" else "trusted"))
    assert ids(split.noisy) == ["p", "r", "s"]
    assert f"removed 1 noisy samples that are also {role} samples" in logged.text
    assert f"1 noisy samples have the id of a {role} sample, but other inputs, such as q;" in logged.text


def test_equal_row_numbers_are_no_overlap(settings):
    data, trusted = (Samples.from_arrays(np.eye(2) + k, ["a", "b"]) for k in range(2))
    assert len(split_samples(data, trusted, settings=settings()).noisy) == 2


def test_identical_pixels_are_an_overlap(settings):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 5, 5), dtype=np.uint8)
    data = Samples.from_arrays(pixels[:6], [0, 1] * 3)
    trusted = Samples.from_arrays(pixels[4:], [0, 1] * 2)
    with pytest.raises(InputError, match=r"2 samples are both noisy and trusted.*: 4, 5;"):
        split_samples(data, trusted, settings=settings(overlap="error"))
    dropped = split_samples(data, trusted, settings=settings())
    assert ids(dropped.noisy) == ["0", "1", "2", "3"]


def test_uint8_and_float_images_are_compared_as_floats(settings):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5), dtype=np.uint8)
    between = np.concatenate([pixels[:1] / 255, np.full((1, 5, 5), 0.5003)])
    data, trusted = Samples.from_arrays(pixels, [0, 1] * 2), Samples.from_arrays(between, [0, 1])
    assert trusted.inputs.is_floating_point()
    split = split_samples(data, trusted, settings=settings(overlap="drop"))
    assert split.noisy.inputs.is_floating_point()
    assert ids(split.noisy) == ["1", "2", "3"]


def test_trusted_samples_may_not_be_test_samples(settings):
    data = Samples.from_arrays(np.eye(2), ["a", "b"], ids=["p", "q"])
    trusted = Samples.from_arrays(2 + np.eye(3)[:, :2], ["a", "b", "a"], ids=["r", "s", "t"])
    test = Samples.from_arrays(5 + np.eye(2), ["a", "b"], ids=["t", "u"])
    with pytest.raises(InputError, match=r"1 samples are both trusted and test.*: t;"):
        split_samples(data, trusted, test=test, settings=settings())
    assert ids(split_samples(data, trusted, test=test, settings=settings(overlap="drop")).trusted) == [
        "r",
        "s",
    ]


def test_nothing_left_after_dropping(settings):
    data = Samples.from_arrays(np.eye(2), ["a", "b"], ids=["p", "q"])
    with pytest.raises(InputError, match="all noisy samples are also trusted samples"):
        split_samples(data, data, settings=settings(overlap="drop"))


def twins(n=40, pairs=6):
    """Random images, the first of which occur twice; the class is the parity of the row."""
    X = np.random.default_rng(0).integers(0, 256, (n, 4, 4), dtype=np.uint8)
    X[n - pairs :] = X[:pairs]
    return Samples.from_arrays(X, np.arange(n) % 2)


@pytest.mark.parametrize("drawn", [{"trusted_per_class": 4}, {"trusted_per_class": 4, "test_fraction": 0.3}])
def test_twins_in_one_source_are_kept_apart(settings, logged, drawn):
    for seed in range(4):
        split = split_samples(twins(), settings=settings(**drawn), noise=SYMMETRIC, seed=seed)
        keys = [
            set(part.input_keys.to_pylist())
            for part in (split.noisy, split.trusted, split.test)
            if part is not None
        ]
        assert all(not (a & b) for k, a in enumerate(keys) for b in keys[:k])
        assert len(split.trusted) >= 6
    assert "noisy samples with the same image or text as trusted samples of the same source: " in logged.text


def test_twins_of_marked_samples_and_of_held_out_ones_are_left_out(settings, logged):
    marked = replace(twins(), trusted=np.arange(40) < 12)
    split = split_samples(marked, settings=settings(validation_fraction=0.5))
    assert split.noisy.ids.tolist() == [str(k) for k in range(12, 34)]
    assert logged.text.count("removed") == 2  # twins of trusted and of validation samples


def test_equal_features_in_one_source_stay(settings, logged):
    X = np.arange(40.0)[:, None].repeat(2, axis=1)
    X[20:] = X[:20]
    split = split_samples(
        Samples.from_arrays(X, np.arange(40) % 2), settings=settings(trusted_per_class=3), noise=SYMMETRIC
    )
    assert len(split.noisy) + len(split.trusted) == 40
    assert "have the same features as trusted samples" in logged.text


def test_equal_relative_paths_are_an_overlap_only_with_equal_pixels(settings, tmp_path, save_image):
    for k, name in enumerate(["cats/a.png", "cats/b.png", "dogs/a.png"]):
        save_image(tmp_path / "data" / name, k)
        save_image(tmp_path / "trusted" / name, k if k == 1 else k + 10)
    named = settings(tmp_path / "data", trusted=str(tmp_path / "trusted"))
    split, _ = make_split(named, CLEAN, seed=0)
    assert ids(split.noisy) == ["cats/a.png", "dogs/a.png"]


# Sources


def test_the_class_names_of_all_sources_agree(settings, tmp_path):
    (tmp_path / "data.csv").write_text("x,label\n1,2\n2,10\n3,2\n")
    (tmp_path / "trusted.csv").write_text("x,label\n4,10\n5,1\n6,2\n")
    (tmp_path / "test.csv").write_text("x,label\n7,1\n")
    named = settings(
        tmp_path / "data.csv", trusted=str(tmp_path / "trusted.csv"), test=str(tmp_path / "test.csv")
    )
    split, schema = make_split(named, CLEAN, seed=0)
    assert schema.classes == split.classes == ("1", "2", "10")
    assert split.noisy.labels.tolist() == [1, 2, 1]
    assert split.trusted.labels.tolist() == [2, 0, 1]
    assert split.test.labels.tolist() == [0]
    assert ids(split.test) == ["test-0"]


def test_the_given_class_list_sets_the_order(settings, tmp_path):
    (tmp_path / "data.csv").write_text("x,label,ok\n1,cat,1\n2,0,1\n3,1,0\n")
    named = settings(tmp_path / "data.csv", trusted_column="ok", classes=["dog", "cat"])
    split, _ = make_split(named, CLEAN, seed=0)
    assert split.trusted.labels.tolist() == [1, 0]
    assert split.noisy.labels.tolist() == [1]


def test_hugging_face_folder_brings_its_test_set(settings, tmp_path, save_hugging_face):
    folder = tmp_path / "hf"
    names = ["zebra", "ant"]
    save_hugging_face(folder / "train-0.parquet", names, label=[0, 1] * 4, worst=[1, 1] * 4)
    save_hugging_face(folder / "test-0.parquet", names, first_seed=8, label=[1, 0, 1])
    columns = {"label_column": "worst", "true_label_column": "label", "trusted_per_class": 1}
    split, schema = make_split(settings(folder, **columns), CLEAN, seed=0)
    assert (len(split.noisy), len(split.trusted), len(split.test)) == (6, 2, 3)
    assert split.test.labels.tolist() == [1, 0, 1]
    assert split.noise_rate_actual == 0.5
    assert schema.image_column == "image"
    held_out, _ = make_split(settings(folder, **columns, test_fraction=0.25), CLEAN, seed=0)
    assert len(held_out.test) == 2
    assert len(held_out.noisy) == 4


@pytest.mark.parametrize("ending", ["", "-0", "_0"])
def test_a_parquet_folder_brings_its_test_set_and_tells_other_files(settings, tmp_path, logged, ending):
    for part, n in {"train": 6, "test": 3, "validation": 2, "other": 4}.items():
        frame = pd.DataFrame({"a": np.arange(n) + 10.5 * len(part), "label": (["u", "v"] * n)[:n]})
        frame["true_label"] = frame["label"]
        frame.to_parquet(tmp_path / f"{part}{ending}.parquet")
    named = settings(tmp_path, trusted_per_class=1)
    split, _ = make_split(named, CLEAN, seed=0)
    assert (len(split.noisy), len(split.trusted), len(split.test)) == (4, 2, 3)
    assert f"files not read: other{ending}.parquet, validation{ending}.parquet" in logged.text
    logged.clear()
    more = settings(tmp_path, trusted_per_class=1, validation=str(tmp_path), test_fraction=0.3)
    make_split(more, CLEAN, seed=0)
    assert f"files not read: other{ending}.parquet, test{ending}.parquet" in logged.text


def test_unreadable_images_are_left_out_before_noise(settings, tmp_path, save_image):
    for k in range(8):
        save_image(tmp_path / "data" / ("cats" if k % 2 else "dogs") / f"{k}.png", k)
        save_image(tmp_path / "trusted" / ("cats" if k % 2 else "dogs") / f"{k}.png", k + 8)
    (tmp_path / "data" / "cats" / "x.png").write_text("no image")
    named = settings(tmp_path / "data", trusted=str(tmp_path / "trusted"), skip_unreadable=True)
    noise = NoiseSettings(noise="symmetric", noise_rate=0.5, noise_draw="exact")
    split, _ = make_split(named, noise, seed=0)
    assert "cats/x.png" not in ids(split.noisy)
    assert len(split.noisy.inputs) == len(split.noisy.labels) == 8
    truth = ["cats" in name for name in ids(split.noisy)]
    assert [split.classes[k] == "cats" for k in split.noisy.true_labels] == truth


# Persistence


def test_the_table_is_saved_and_checked(settings, tmp_path, features):
    known = np.where(np.arange(60) < 50, features["true_labels"].astype(float), np.nan)
    data = Samples.from_arrays(features["X"], features["y"], true_labels=known)
    split = split_samples(data, settings=settings(trusted_per_class=2, test_fraction=0.2))
    path = tmp_path / "split.csv"
    split.save(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["split.csv"]
    saved = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert saved.columns.tolist() == ["id", "role", "given_label", "true_label", "input_digest"]
    assert saved.to_numpy().tolist() == split.table().to_numpy().tolist()
    assert (saved["true_label"] == "").sum() == 10
    check_split(split, path)


def test_a_changed_split_is_refused(settings, tmp_path, features):
    data = Samples.from_arrays(**features)
    split = split_samples(data, settings=settings(trusted_per_class=2))
    path = tmp_path / "split.csv"
    split.save(path)
    lines = path.read_text().splitlines()
    row = lines[4].split(",")
    row[2] = {"0": "1", "1": "2", "2": "0"}[row[2]]
    path.write_text("\n".join([*lines[:4], ",".join(row), *lines[5:]]) + "\n")
    with pytest.raises(InputError, match=rf"split\.csv: .* row 3 was \({', '.join(row)}\)"):
        check_split(split, path)
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match=r"row 59 was \(nothing\), now \("):
        check_split(split, path)
    with pytest.raises(InputError, match=r"gone\.csv: cannot be read"):
        check_split(split, tmp_path / "gone.csv")


# A validation set out of the trusted one


def test_a_fraction_of_the_trusted_samples_is_held_out_for_validation(settings):
    whole, _ = make_split(settings("digits", trusted_per_class=10), SYMMETRIC, seed=0)
    split, _ = make_split(
        settings("digits", trusted_per_class=10, validation_fraction=0.2), SYMMETRIC, seed=0
    )
    assert np.bincount(split.validation.labels).tolist() == [2] * 10
    assert np.bincount(split.trusted.labels).tolist() == [8] * 10
    assert sorted(ids(split.trusted) + ids(split.validation)) == sorted(ids(whole.trusted))
    assert ids(split.noisy) == ids(whole.noisy)
    np.testing.assert_array_equal(split.noisy.labels, whole.noisy.labels)


def test_too_few_trusted_samples_to_hold_some_out(settings, features):
    with pytest.raises(InputError, match=r"--validation_fraction 0\.1: 6 samples cannot be divided by class"):
        split_samples(
            Samples.from_arrays(**features), settings=settings(trusted_per_class=2, validation_fraction=0.1)
        )


def test_equal_features_are_one_sample_where_features_tell_samples_apart(settings, logged):
    data = Samples.from_arrays(np.arange(8).reshape(4, 2), ["a", "b", "a", "b"])
    trusted = Samples.from_arrays([[0, 1], [9, 9]], ["b", "a"])
    split = split_samples(data, trusted, settings=settings())
    assert ids(split.noisy) == ["1", "2", "3"]
    assert split.trusted.labels.tolist() == [1, 0]
    assert "removed 1 noisy samples that are also trusted samples" in logged.text


def test_equal_features_are_told_and_dropped_on_demand(settings, logged):
    data = Samples.from_arrays([[0, 1], [2, 3], [2, 3], [6, 7]], ["a", "b", "a", "b"])
    trusted = Samples.from_arrays([[0, 1], [9, 9]], ["a", "b"])
    split = split_samples(data, trusted, settings=settings())
    assert len(split.noisy) == 4
    assert "1 noisy samples have the same features as trusted samples" in logged.text
    split = split_samples(data, trusted, settings=settings(overlap="drop"))
    assert ids(split.noisy) == ["1", "2", "3"]
