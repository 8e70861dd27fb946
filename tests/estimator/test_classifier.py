"""EMLCClassifier: scikit-learn's own checks, trusted and corrected labels, and what a fit leaves behind."""

import json
import pickle
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import emlc
import tiny
from emlc import EMLCClassifier, InputError
from emlc.config import DataSettings
from emlc.data import read
from emlc.errors import RivalWarning
from emlc.estimator.adapter import CPU_STEPS, settings_of, split_of

SMALL = {"width": 16, "epochs": 4, "device": "cpu", "random_state": 0}


def data(n: int = 120, *, wrong: float = 0.3, seed: int = 0):
    """X, given labels, true labels, and which are trusted: these are right, of the others a share is not."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    X = rng.normal(size=(n, 5)) + 3 * np.eye(3, 5)[truth]
    trusted = np.arange(n) < 24
    flipped = (rng.random(n) < wrong) & ~trusted
    given = np.where(flipped, (truth + 1 + (rng.random(n) < 0.5)) % 3, truth)
    names = np.array(tiny.CLASSES)
    return X, names[given], names[truth], trusted


@pytest.fixture(scope="module")
def fitted():
    X, given, _, trusted = data()
    return EMLCClassifier(**SMALL).fit(X, given, trusted)


# scikit-learn's conventions


@parametrize_with_checks([EMLCClassifier(width=32)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_parameters_are_settings_of_the_same_name():
    others = {"validation_fraction", "settings", "output", "random_state", "verbose"}
    assert EMLCClassifier().get_params().keys() - others <= emlc.Settings().as_dict().keys()


def test_learns_from_noisy_labels():
    X, given, truth, trusted = data(400)
    estimator = EMLCClassifier(width=32, random_state=0).fit(X, given, trusted)
    assert estimator.score(X, truth) > 0.9
    assert (given == truth).mean() < 0.75
    assert list(estimator.classes_) == list(tiny.CLASSES)
    assert len(estimator.history_) == estimator.run_.settings.epochs
    assert estimator.history_["steps"].is_monotonic_increasing


def test_mask_and_indices_are_the_same():
    X, given, _, trusted = data()
    by_mask = EMLCClassifier(**SMALL).fit(X, given, trusted)
    for marks in (np.flatnonzero(trusted), list(np.flatnonzero(trusted)), list(trusted), pd.Series(trusted)):
        other = EMLCClassifier(**SMALL).fit(X, given, marks)
        assert np.array_equal(other.predict_proba(X), by_mask.predict_proba(X))


def test_trusting_every_label_is_ordinary_training():
    X, given, _, _ = data()
    one = EMLCClassifier(**SMALL).fit(X, given)
    other = EMLCClassifier(**SMALL).fit(X, given, np.ones(len(X), dtype=bool))
    assert one.run_.settings.method == "cross-entropy"
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
    with pytest.raises(InputError, match="no label was corrected"):
        one.correct_labels()


def test_is_the_run_that_emlc_trains(tmp_path):
    """Against emlc.train, given the same samples and settings."""
    X, given, _, trusted = data()
    estimator = EMLCClassifier(**SMALL).fit(X, given, trusted)
    samples = emlc.Samples.from_arrays(X, given, trusted=trusted)
    settings = {"width": 16, "epochs": 4, "noisy_batch": 16, "schedule": "cosine"}
    run = emlc.train(emlc.Settings(**settings, device="cpu", output=str(tmp_path / "run")), samples)
    expected = run.predict_proba(samples.inputs).numpy()
    assert np.array_equal(estimator.predict_proba(X), expected)


@pytest.mark.parametrize("kind", [str, object, int, bool, float])
def test_labels_of_any_kind(kind):
    X, given, _, trusted = data()
    y = (given == "cow").astype(kind) if kind is bool else np.unique(given, return_inverse=True)[1]
    y = (y + 10).astype(kind) if kind in (int, float) else given.astype(kind) if kind is not bool else y
    estimator = EMLCClassifier(**SMALL).fit(X, y, trusted)
    assert np.array_equal(estimator.classes_, np.unique(y))
    assert estimator.predict(X).dtype == y.dtype
    table = estimator.correct_labels()
    for column in ("given_label", "corrected_label", "predicted_label"):
        assert set(table[column]) <= set(y.tolist())
    assert table["given_label"].tolist() == y[~trusted].tolist()


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (8, 8, 3), (3, 8, 8)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_images(shape, dtype):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = rng.integers(0, 100, (40, *shape))
    X[y == 1] += 120
    X = X.astype(dtype) if dtype == np.uint8 else X / 255
    estimator = EMLCClassifier(**(SMALL | {"width": 4, "epochs": 20})).fit(X, y, np.arange(10))
    assert estimator.score(X, y) > 0.9
    with pytest.raises(ValueError, match="X"):
        estimator.predict(np.repeat(X, 2, axis=X.shape.index(8)))


def test_data_frames():
    X, given, _, trusted = data()
    frame = pd.DataFrame(X, columns=list("abcde"), index=range(500, 620))
    estimator = EMLCClassifier(**SMALL).fit(frame, pd.Series(given, index=frame.index), trusted)
    assert list(estimator.feature_names_in_) == list("abcde")
    assert estimator.n_features_in_ == 5
    assert estimator.correct_labels()["id"].tolist() == np.flatnonzero(~trusted).tolist()
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frame[list("edcba")])


def test_a_table_of_columns_of_every_kind(tmp_path):
    X, given, truth, trusted = data()
    frame = pd.DataFrame(X, columns=list("abcde"))
    frame["a"] = pd.cut(frame["a"], [-9, 0, 1.5, 99], labels=["low", "middle", "high"])
    frame["b"] = frame["b"].mask(np.arange(120) % 10 == 5)
    frame["c"] = [1, "two", None] * 40  # of several types
    estimator = EMLCClassifier(**SMALL | {"epochs": 12}, output=tmp_path / "run")
    estimator.fit(frame, given, trusted)
    assert estimator.score(frame, truth) > 0.8
    assert estimator.n_features_in_ == 5
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict_proba(frame), estimator.predict_proba(frame))
    frame.to_csv(tmp_path / "new.csv", index=False)
    run = emlc.Run.load(tmp_path / "run")
    samples = read(str(tmp_path / "new.csv"), DataSettings(), role="predict", schema=run.schema)
    np.testing.assert_allclose(run.predict_proba(samples.inputs), estimator.predict_proba(frame), atol=1e-5)
    with pytest.raises(ValueError, match=r"(?s)feature names.*missing.*- b"):
        estimator.predict(frame.drop(columns="b"))
    with pytest.raises(ValueError, match="column 'd': expected a number"):
        estimator.predict(frame.assign(d="x"))
    assert estimator.predict(frame.assign(d=np.nan, a="new")).shape == (120,)


def test_pipeline():
    X, given, truth, trusted = data()
    scaled = make_pipeline(StandardScaler(), EMLCClassifier(**SMALL | {"epochs": 12}))
    scaled.fit(X * 1000, given, emlcclassifier__trusted=trusted)
    assert scaled.score(X * 1000, truth) > 0.8


def test_trusted_is_divided_by_cross_validation():
    X, given, _, trusted = data()
    trusted = np.random.default_rng(0).permutation(trusted)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = EMLCClassifier(**SMALL).set_fit_request(trusted=True)
        estimator.set_score_request(sample_weight=True)
        params = {"trusted": trusted, "sample_weight": trusted}
        scores = cross_validate(estimator, X, given, cv=3, params=params, error_score="raise")
    assert len(scores["test_score"]) == 3
    with sklearn.config_context(enable_metadata_routing=False):
        assert len(cross_val_score(EMLCClassifier(**SMALL), X, given, cv=2, params={"trusted": trusted})) == 2


def test_grid_search():
    X, given, _, trusted = data()
    trusted = np.random.default_rng(0).permutation(trusted)
    grid = {"learning_rate": np.logspace(-2, -1, 2), "epochs": np.arange(2, 4)}
    search = GridSearchCV(EMLCClassifier(**SMALL), grid, cv=2, error_score="raise")
    search.fit(X, given, trusted=trusted)
    assert search.best_estimator_.run_.settings.epochs == search.best_params_["epochs"]


# What a fit leaves behind


def test_pickles_before_and_after_the_fit(fitted, tmp_path):
    X, given, _, trusted = data()
    fresh = pickle.loads(pickle.dumps(EMLCClassifier(**SMALL)))
    assert np.array_equal(fresh.fit(X, given, trusted).predict_proba(X), fitted.predict_proba(X))
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    again = joblib.load(tmp_path / "fitted.joblib")
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.correct_labels().equals(fitted.correct_labels())
    assert again.correct_labels(X, given).equals(fitted.correct_labels(X, given))


def test_a_pickle_is_read_by_another_process(fitted, tmp_path):
    X = data()[0]
    (tmp_path / "fitted.pickle").write_bytes(pickle.dumps((fitted, X)))
    code = (
        "import pickle, json, sys; e, X = pickle.load(open(sys.argv[1], 'rb'));"
        "print(json.dumps(e.predict(X).tolist()));"
        "assert not {'lightning_fabric', 'torchmetrics', 'kornia'} & set(sys.modules)"  # seconds to import
    )
    command = [sys.executable, "-c", code, str(tmp_path / "fitted.pickle")]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(out.stdout) == fitted.predict(X).tolist()


def test_nothing_is_left_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    X, given, _, trusted = data()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  # the state that must not change
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    EMLCClassifier(**SMALL).fit(X, given, trusted).predict(X)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_random_state():
    X, given, _, trusted = data()

    def probabilities(state):
        return EMLCClassifier(**(SMALL | {"random_state": state})).fit(X, given, trusted).predict_proba(X)

    assert np.array_equal(probabilities(3), probabilities(np.int64(3)))
    assert not np.array_equal(probabilities(3), probabilities(4))
    one, other = (probabilities(np.random.RandomState(3)) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(probabilities(None), probabilities(None))


def test_refit_starts_anew(fitted):
    X, given, _, trusted = data()
    estimator = clone(fitted).fit(X[:60, :3], given[:60])
    estimator.fit(X, given, trusted)
    assert np.array_equal(estimator.predict_proba(X), fitted.predict_proba(X))


def test_a_failed_fit_changes_nothing(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    X, given, _, trusted = data()
    estimator = pickle.loads(pickle.dumps(fitted))
    with pytest.raises(FloatingPointError):
        estimator.set_params(learning_rate=1e30).fit(X[:, :4], given, trusted)
    assert estimator.n_features_in_ == 5
    assert np.array_equal(estimator.predict_proba(X), fitted.predict_proba(X))
    assert list(tmp_path.iterdir()) == []
    unfitted = EMLCClassifier(**(SMALL | {"learning_rate": 1e30}))
    with pytest.raises(FloatingPointError):
        unfitted.fit(X, given, trusted)
    with pytest.raises(NotFittedError):
        unfitted.predict(X)


def test_output_keeps_the_run(tmp_path, fitted):
    X, given, _, trusted = data()
    estimator = EMLCClassifier(**SMALL, output=tmp_path / "run").fit(X, given, trusted)
    assert np.array_equal(estimator.predict_proba(X), fitted.predict_proba(X))
    assert (tmp_path / "run" / "labels.csv").exists()
    run = emlc.Run.load(tmp_path / "run", device="cpu")
    assert np.array_equal(run.predict_proba(torch.from_numpy(X)).numpy(), estimator.predict_proba(X))
    with pytest.raises(
        ValueError, match="holds the run of an earlier fit; each fit needs an output of its own"
    ) as refused:
        estimator.fit(X, given, trusted)
    assert "--" not in str(refused.value)
    assert np.array_equal(estimator.predict_proba(X), fitted.predict_proba(X))


def test_an_earlier_fit_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/settings.yaml").touch()
    X, given, _, trusted = data()
    with pytest.raises(InputError, match="output: ~/run holds the run of an earlier fit"):
        EMLCClassifier(**SMALL, output="~/run").fit(X, given, trusted)


def test_verbose_tells_on_standard_error(capfd):
    X, given, _, trusted = data()
    EMLCClassifier(**SMALL, verbose=True).fit(X, given, trusted)
    out, err = capfd.readouterr()
    assert out == ""
    assert "96 noisy, 24 trusted" in err
    assert "epoch 4/4" in err


# Corrected labels


def test_corrected_labels_of_the_fit():
    X, given, truth, trusted = data(400)
    table = EMLCClassifier(width=32, random_state=0).fit(X, given, trusted).correct_labels()
    assert table["id"].tolist() == np.flatnonzero(~trusted).tolist()
    assert table["given_label"].tolist() == given[~trusted].tolist()
    right = table["corrected_label"].to_numpy() == truth[~trusted]
    assert right.mean() > 0.9
    assert (given == truth)[~trusted].mean() < 0.75
    assert (table["is_label_issue"] == (table["corrected_label"] != table["given_label"])).all()
    assert "true_label" not in table


def test_corrected_labels_of_other_samples(fitted):
    X, given, _, trusted = data()
    table = fitted.correct_labels(X[~trusted], given[~trusted])
    expected = fitted.correct_labels().assign(id=np.arange(len(table)))
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    with pytest.raises(InputError, match="y: row 2 has the label 'yak', which the fit did not have"):
        fitted.correct_labels(X[:3], ["cat", "cow", "yak"])
    with pytest.raises(InputError, match="y: expected 3 labels, as many as samples, found 2"):
        fitted.correct_labels(X[:3], ["cat", "cow"])
    with pytest.raises(InputError, match="give X and y, or neither"):
        fitted.correct_labels(X)
    with pytest.raises(NotFittedError):
        EMLCClassifier().correct_labels()


def test_the_table_is_a_copy(fitted):
    before = fitted.correct_labels()
    table = fitted.correct_labels()
    table["given_label"] = "changed"
    assert fitted.correct_labels().equals(before)


# Bad input


@pytest.mark.parametrize(
    ("trusted", "message"),
    [
        (np.zeros(120, dtype=bool), "marks no sample"),
        ([], "marks no sample"),
        (np.ones(119, dtype=bool), "expected a mask of 120 samples, found one of 119"),
        (np.arange(120) % 2, "if this is a mask, make it boolean"),
        ([0, 1, 120], "expected indices from 0 to 119, found 0 to 120"),
        ([-1], "expected indices from 0 to 119"),
        (np.linspace(0, 1, 120), "expected a boolean mask or integer indices, found float64"),
        (["yes", "no"], "expected a boolean mask or integer indices"),
        (np.ones((120, 1), dtype=bool), r"found an array of shape \(120, 1\)"),
        ([0, 1], "1 of 3 classes have no trusted sample: dog; every class needs at least one"),
        (np.arange(119), "1 noisy sample"),
    ],
)
def test_wrong_trusted(trusted, message):
    X, given, _, _ = data()
    with pytest.raises(InputError, match=message):
        EMLCClassifier(**SMALL).fit(X, given, trusted)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"epochs": "ten"}, "epochs: expected int or none, got 'ten'"),
        ({"noisy_batch": 1}, "noisy_batch: expected at least 2, got 1"),
        ({"method": "magic"}, "method: expected one of"),
        ({"warm_up_epochs": 4}, r"warm_up_epochs: expected fewer than epochs \(4\)"),
        ({"backbone": "cnn"}, "backbone: cnn needs images"),
        ({"backbone": "resent18"}, "did you mean resnet18"),
        ({"settings": {"epochs": 3}}, "settings: epochs is set by the parameter epochs"),
        ({"settings": {"seed": 3}}, "settings: seed is set by the parameter random_state"),
        (
            {"settings": {"noise_rate": 0.5}},
            "settings: 'noise_rate' is no setting of the estimator; expected",
        ),
        ({"settings": {"momentun": 0.5}}, "settings: 'momentun' is no setting of the estimator; expected"),
        ({"settings": "nesterov"}, "settings: expected a dictionary or None, got str"),
        ({"settings": {"momentum": 2.0}}, "momentum: expected"),
        ({"validation_fraction": 2.0}, "validation_fraction"),
        ({"device": "tpu"}, "device: expected auto, cpu, cuda"),
    ],
)
def test_wrong_parameters(parameters, message):
    X, given, _, trusted = data()
    with pytest.raises(InputError, match=message):
        EMLCClassifier(**(SMALL | parameters)).fit(X, given, trusted)


def test_wrong_data(fitted):
    X, given, _, trusted = data()
    holed = X.copy()
    holed[3, 2] = np.nan
    for bad in (holed, np.where(np.isnan(holed), np.inf, X), X * 1e200):
        with pytest.raises(ValueError, match=r"NaN|infinity|finite"):
            clone(fitted).fit(bad, given, trusted)
        with pytest.raises(ValueError, match=r"NaN|infinity|finite"):
            fitted.predict(bad)
    with pytest.raises(ValueError, match="found 1 class: cat"):
        clone(fitted).fit(X, np.full(120, "cat"))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(fitted).fit(X, given[:-1], trusted)
    with pytest.raises(ValueError, match="5 features"):
        fitted.predict(X[:, :3])


# Settings that suit the data


def settings_for(n: int, *, image: bool = False, further=None, **changes) -> emlc.Settings:
    X = np.zeros((n, 1, 2, 2), np.uint8) if image else np.zeros((n, 2))
    samples = emlc.Samples.from_arrays(X, np.arange(n) % 2)
    names = ("method", "epochs", "look_ahead", "warm_up_epochs", "noisy_batch", "device")
    parameters = {name: getattr(EMLCClassifier(), name) for name in names} | changes
    return settings_of(parameters, further, split_of(samples, np.arange(n) < n // 2, None, 0), 0)


def test_small_data_get_enough_steps():
    small, large = settings_for(100), settings_for(20_000)
    assert small.noisy_batch == 16
    assert small.epochs * 50 / 16 >= 300 or small.epochs == 100
    assert (large.epochs, large.noisy_batch) == (15, 128)
    assert settings_for(100, look_ahead=5).epochs == 100
    assert settings_for(20_000, warm_up_epochs=7).epochs == 22
    gate = {"further": {"teacher": "gate"}}
    assert settings_for(100, epochs=8, **gate).warm_up_epochs == 2
    assert settings_for(100, epochs=2, **gate).warm_up_epochs == 0
    assert settings_for(100, epochs=8).warm_up == 0  # the noise-aware teacher learns the given labels itself
    assert settings_for(100, method="trusted-only").warm_up == 0


def test_device():
    long = 2 * CPU_STEPS * 128
    assert settings_for(200).device == "cpu"
    assert settings_for(long, epochs=3).device == "auto"
    assert settings_for(200, image=True).device == "auto"
    assert settings_for(200, device="cuda:1").device == "cuda:1"


def test_not_under_torchrun(monkeypatch):
    X, given, _, trusted = data()
    monkeypatch.setattr("emlc.estimator.adapter.under_torchrun", lambda: True)
    with pytest.raises(InputError, match="trains in one process"):
        EMLCClassifier(**SMALL).fit(X, given, trusted)


def test_torch_is_imported_by_the_first_fit():
    code = "import sys; from emlc import EMLCClassifier; EMLCClassifier(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    assert "barolo" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_fit_is_compared_with_simple_classifiers_only_if_asked():
    X, given, _, trusted = data()
    plain = EMLCClassifier(epochs=2, random_state=0, device="cpu").fit(X, given, trusted)
    assert not hasattr(plain, "rivals_")
    asked = EMLCClassifier(epochs=2, random_state=0, device="cpu", settings={"rivals": True})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RivalWarning)
        asked.fit(X, given, trusted)
    assert asked.rivals_.measured_on == "trusted"
    assert {"emlc", "given labels", "trusted only", "gold loss correction"} == asked.rivals_.accuracy.keys()
    np.testing.assert_array_equal(asked.predict_proba(X), plain.predict_proba(X))  # it changes nothing
    asked.set_params(settings=None).fit(X, given, trusted)
    assert not hasattr(asked, "rivals_")


def test_a_fit_that_knows_nothing_warns():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
    model = EMLCClassifier(epochs=2, random_state=0, device="cpu", settings={"rivals": True})
    with pytest.warns(RivalWarning, match="no better than chance"):
        model.fit(X, y, range(60))
