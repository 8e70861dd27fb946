import numpy as np
import pytest
from PIL import Image

from emlc.config import NoiseSettings, Settings
from emlc.data import make_split, read
from emlc.errors import InputError

CLEAN = NoiseSettings()
SIZE = {"resize": 24, "image_size": 16}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "clothing1m"


def test_every_list_has_its_role(folder, settings, save_clothing1m, logged):
    keys = save_clothing1m(folder)
    split, schema = make_split(settings(folder, **SIZE), CLEAN, seed=0)
    found = {role: getattr(split, role).ids.tolist() for role in ("noisy", "trusted", "validation", "test")}
    assert found == {
        "noisy": [key for key in keys["noisy_train"] if key not in keys["shared"]],
        "trusted": keys["clean_train"],
        "validation": keys["clean_val"],
        "test": keys["clean_test"],
    }
    assert schema.input_shape == (3, 16, 16)
    assert "left out 3 noisy images that are in a clean list too" in logged.text


def test_labels_are_found_by_path(folder, settings, save_clothing1m):
    save_clothing1m(folder)
    split, _ = make_split(settings(folder, **SIZE), CLEAN, seed=0)
    for samples, shift in ((split.noisy, 0), (split.trusted, 1), (split.validation, 1), (split.test, 1)):
        numbers = [int(name.removesuffix(".jpg").split(",")[1]) for name in samples.ids]
        assert samples.labels.tolist() == [(k + shift) % 14 for k in numbers]
    assert split.noise_rate_actual is None
    assert split.classes[0] == "T-Shirt"
    assert split.classes[13] == "Underwear"
    assert len(set(split.classes)) == 14


def test_class_names_are_those_of_the_file(folder, settings, save_clothing1m):
    save_clothing1m(folder)
    names = [f"class {k}" for k in range(14)]
    (folder / "category_names_eng.txt").write_text("\n".join(names) + "\n")
    samples = read(str(folder), settings(**SIZE), role="test")
    assert samples.classes == tuple(names)
    assert samples.labels[0] == (28 + 1) % 14


def test_images_are_cut_out_of_the_centre(folder, settings, save_clothing1m):
    keys = save_clothing1m(folder)
    test = read(str(folder), settings(**SIZE), role="test")
    for k, name in enumerate(keys["clean_test"][:3]):
        picture = Image.open(folder / name)
        wide, high = (32, 24) if picture.width > picture.height else (24, 32)
        wide, high = (24, 24) if picture.width == picture.height else (wide, high)
        picture = picture.resize((wide, high), Image.Resampling.BILINEAR)
        left, top = (wide - 16) // 2, (high - 16) // 2
        expected = np.asarray(picture)[top : top + 16, left : left + 16]
        np.testing.assert_array_equal(test.inputs[k].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("lists", [".", "annotations"])
@pytest.mark.parametrize("place", ["clothing1m", "Clothing1M", "."])
def test_by_name_it_is_found_in_the_data_root(tmp_path, settings, save_clothing1m, place, lists):
    save_clothing1m(tmp_path / place, lists=lists)
    split, _ = make_split(settings("clothing1m", data_root=str(tmp_path), **SIZE), CLEAN, seed=0)
    assert [len(part) for part in (split.noisy, split.trusted, split.validation, split.test)] == [20] + [
        14
    ] * 3


def test_by_name_it_must_be_there(tmp_path, settings):
    with pytest.raises(InputError, match=r"clothing1m: .* has no noisy_train_key_list\.txt .* on request"):
        make_split(settings("clothing1m", data_root=str(tmp_path)), CLEAN, seed=0)


def test_the_users_own_sets_win(folder, settings, save_clothing1m, save_image, tmp_path):
    save_clothing1m(folder)
    roles = ("trusted", "validation", "test")
    for seed, role in enumerate(roles):
        for k in range(14):
            save_image(tmp_path / f"{role}{k}.png", 1000 + 100 * seed + k)
        rows = "".join(f"{role}{k}.png,{k}\n" for k in range(14))
        (tmp_path / f"{role}.csv").write_text("path,label\n" + rows)
    own = {role: str(tmp_path / f"{role}.csv") for role in roles}
    split, _ = make_split(settings(folder, **SIZE, **own), CLEAN, seed=0)
    assert [getattr(split, role).ids[0] for role in roles] == [f"{role}-0" for role in roles]
    assert split.trusted.labels.tolist() == list(range(14))


def test_a_fraction_takes_the_place_of_the_own_set(folder, settings, save_clothing1m):
    keys = save_clothing1m(folder, clean=28, noisy=56)
    split, _ = make_split(settings(folder, **SIZE, validation_fraction=0.5), CLEAN, seed=0)
    assert np.bincount(split.validation.labels).tolist() == [1] * 14
    assert set(split.validation.ids) | set(split.trusted.ids) == set(keys["clean_train"])
    drawn, _ = make_split(settings(folder, **SIZE, test_fraction=0.5), CLEAN, seed=0)
    assert set(drawn.test.ids) < set(keys["noisy_train"])


def test_other_ways_to_say_what_is_trusted_are_not_overruled(folder, settings, save_clothing1m):
    save_clothing1m(folder)
    with pytest.raises(InputError, match="--trusted_per_class needs the true labels"):
        make_split(settings(folder, **SIZE, trusted_per_class=1), CLEAN, seed=0)
    with pytest.raises(InputError, match=r"give exactly one of .*; found none"):
        make_split(settings(folder, **SIZE, trusted_column="ok"), CLEAN, seed=0)


def test_for_prediction_the_noisy_list_needs_no_labels(folder, settings, save_clothing1m):
    save_clothing1m(folder)
    assert len(read(str(folder), settings(**SIZE), role="predict")) == 20


def test_an_image_without_a_label_is_named(folder, settings, save_clothing1m):
    keys = save_clothing1m(folder)
    gone = keys["clean_val"][5]
    file = folder / "clean_label_kv.txt"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith(gone)))
    with pytest.raises(InputError, match=rf"clean_label_kv\.txt: no label for 1 images .*is {gone}"):
        make_split(settings(folder, **SIZE), CLEAN, seed=0)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("clean_label_kv.txt", "images/0/00/x.jpg many\n", "cannot be read as lines of path and label"),
        ("noisy_train_key_list.txt", "images/0/00/x.jpg 3\n", "cannot be read as lines of path"),
    ],
)
def test_a_broken_list_is_named(folder, settings, save_clothing1m, file, line, message):
    save_clothing1m(folder)
    with (folder / file).open("a") as list_:
        list_.write(line)
    with pytest.raises(InputError, match=rf"{file}: {message}"):
        make_split(settings(folder, **SIZE), CLEAN, seed=0)


def test_a_list_that_is_absent_is_named(folder, settings, save_clothing1m):
    save_clothing1m(folder)
    (folder / "clean_test_key_list.txt").unlink()
    with pytest.raises(InputError, match=r"clean_test_key_list\.txt: cannot be read"):
        make_split(settings(folder, **SIZE), CLEAN, seed=0)


def test_a_label_that_no_class_has_is_named(folder, settings, save_clothing1m):
    keys = save_clothing1m(folder)
    file = folder / "noisy_label_kv.txt"
    name = keys["noisy_train"][2]
    file.write_text(
        "".join(
            f"{name} 14\n" if line.startswith(name) else line for line in file.read_text().splitlines(True)
        )
    )
    with pytest.raises(InputError, match=rf"row 2 \(id '{name}'\) has the label '14'.* 14 classes: T-Shirt"):
        make_split(settings(folder, **SIZE), CLEAN, seed=0)


def test_settings_let_it_through_without_trusted_settings(folder, save_clothing1m):
    save_clothing1m(folder)
    for data in ("clothing1m", str(folder)):
        assert Settings(data=data).trusted is None
    for data in ("cifar10", "cifar100", "digits", "a.csv", "a*.parquet", "a.NPZ"):
        with pytest.raises(InputError, match="give exactly one of the three, got none"):
            Settings(data=data)
    with pytest.raises(InputError, match="got trusted and trusted_per_class"):
        Settings(data="clothing1m", trusted="a.csv", trusted_per_class=1)
