"""EMLCClassifier on lists of images: paths, pictures and arrays of several sizes."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.model_selection import cross_val_score

from emlc import EMLCClassifier, InputError
from emlc.data.embeddings.image_models import load_image_model
from image_models import save_model, save_photos


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Relative paths of photos of three colours and of several sizes, and their labels."""
    monkeypatch.chdir(tmp_path)
    load_image_model.cache_clear()
    save_model(tmp_path / "model")
    paths = sorted(save_photos(Path("photos"), 48).rglob("*.*"), key=lambda path: path.name[-7:])
    return list(map(str, paths)), np.array([path.parent.name for path in paths])


def classifier(**changes):
    values = {"epochs": 8, "width": 8, "device": "cpu", "random_state": 0, "image_model": "model"}
    return EMLCClassifier(**(values | {"settings": {"embedding_cache": None}} | changes))


def some_wrong(labels):
    given = labels.copy()
    given[20::4] = np.roll(labels, 1)[20::4]
    return given, np.arange(len(labels)) < 18


def pictures_of(paths):
    return [Image.open(path) for path in paths]


FORMS = {
    "array": np.array,
    "objects": lambda paths: np.array(paths, dtype=object),
    "column": lambda paths: np.array(paths)[:, None],
    "series": lambda paths: pd.Series(paths, index=np.arange(len(paths)) + 7),
    "frame": lambda paths: pd.DataFrame({"photo": paths}),
    "Path": lambda paths: tuple(map(Path, paths)),
    "pictures": pictures_of,
    "arrays": lambda paths: list(map(np.asarray, pictures_of(paths))),
    "floats": lambda paths: [np.asarray(picture) / 255 for picture in pictures_of(paths)],
}


def test_images_in_every_form_are_the_same_images(photos):
    paths, truth = photos
    given, trusted = some_wrong(truth)
    fitted = classifier().fit(paths, given, trusted)
    expected = fitted.predict_proba(paths)
    assert fitted.score(paths, truth) > 0.95 > (given == truth).mean()
    for name, form in FORMS.items():
        np.testing.assert_allclose(fitted.predict_proba(form(paths)), expected, atol=1e-4, err_msg=name)
    again = classifier().fit(pictures_of(paths), given, trusted)
    np.testing.assert_allclose(again.predict_proba(paths), expected, atol=1e-3)
    corrected = fitted.correct_labels()
    assert corrected["id"].tolist() == np.flatnonzero(~trusted).tolist()
    assert corrected["given_label"].tolist() == given[~trusted].tolist()
    assert corrected["corrected_label"].tolist() == again.correct_labels()["corrected_label"].tolist()
    later = fitted.correct_labels(paths[:4], given[:4])
    assert later["given_label"].tolist() == given[:4].tolist()


def test_a_fit_on_paths_is_pickled_and_cross_validated(photos):
    paths, truth = photos
    scores = cross_val_score(classifier(epochs=4), paths, truth, cv=2)
    assert scores.min() > 0.9
    fitted = classifier(image_model="auto").fit(np.zeros((48, 3)) + np.arange(48)[:, None], truth)
    assert fitted.n_features_in_ == 3
    fitted.set_params(image_model="model").fit(paths, truth)
    assert not hasattr(fitted, "n_features_in_")
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.predict_proba(paths), fitted.predict_proba(paths))


def test_pixels_need_one_size(photos):
    paths, truth = photos
    on_pixels = classifier(image_model="none", width=4)
    with pytest.raises(InputError, match=r"X: images differ in size .* --image_size N"):
        on_pixels.fit(paths, truth)
    on_pixels.set_params(settings={"image_size": 16}).fit(paths, truth)
    assert on_pixels.run_.schema.input_shape == (3, 16, 16)
    assert on_pixels.predict_proba(paths[:5]).shape == (5, 3)
    resized = np.stack([np.asarray(p.convert("RGB").resize((16, 16), 2)) for p in pictures_of(paths)])
    expected = classifier(image_model="none", width=4).fit(resized, truth)
    np.testing.assert_array_equal(on_pixels.predict_proba(paths), expected.predict_proba(resized))
    same = [Image.fromarray(image) for image in resized]
    np.testing.assert_array_equal(on_pixels.predict_proba(same), expected.predict_proba(resized))


def test_deep_images_are_scaled_by_the_range_of_all(photos):
    rng = np.random.default_rng(0)
    truth = np.arange(24) % 2
    values = (1500 + 1200 * truth)[:, None, None] + rng.integers(0, 1000, (24, 20, 20))
    for k, image in enumerate(values):
        Image.fromarray(image.astype(np.uint16)).save(f"{k}.png")
    paths = [f"{k}.png" for k in range(24)]
    for changes in ({}, {"image_model": "none", "width": 4, "epochs": 20}):
        fitted = classifier(**changes).fit(paths, truth)
        low, high = values.min(), values.max()
        assert fitted.run_.schema.image_range == (low, high)
        levels = np.floor((values - low) * (256 / (high - low))).clip(0, 255).astype(np.uint8)
        grey = [Image.fromarray(image) for image in levels]
        np.testing.assert_allclose(fitted.predict_proba(paths), fitted.predict_proba(grey), atol=1e-5)
        assert fitted.score(paths, truth) > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({3: "no.png", 4: "there.png"}, r"2 of 48 image files do not exist: row 3 \('no.png'\), row 4 "),
        ({3: None}, r"row 3: expected the path of an image, .* found NoneType 'None'"),
        ({3: np.zeros((4, 4, 2))}, r"row 3: expected .* images"),
        ({0: 5.0, 3: 2}, r"row 0: expected the path of an image"),
        (
            {3: "model/backbone.safetensors"},
            r"1 images cannot be read; leave them out of X and y:\n.*row 3 \(",
        ),
    ],
)
def test_what_is_no_image_is_named_by_its_row(change, message, photos):
    paths, truth = photos
    for model in ("model", "none"):
        with pytest.raises(InputError, match=message):
            classifier(image_model=model, settings={"image_size": 16}).fit(
                [change.get(k, path) for k, path in enumerate(paths)], truth
            )


def test_tables_and_features_beside_images_are_told(photos):
    paths, truth = photos
    table = pd.DataFrame({"photo": paths, "width": np.arange(48)})
    with pytest.raises(InputError, match=r"'photo' has paths of images: give X\['photo'\]"):
        classifier().fit(table, truth)
    on_numbers = classifier(image_model="auto").fit(table[["width"]], truth)
    with pytest.raises(InputError, match="expected rows of numbers as in the fit, found images"):
        on_numbers.predict(paths)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier().fit(paths, truth[:-1])
