"""Tables and arrays for cleanlab's Datalab, which finds what is wrong in them where it is installed."""

import warnings

import numpy as np
import pandas as pd
import pytest

import sources
from emlc.exports import export


def loaded(run, folder):
    """The table and the arrays."""
    written, _ = export(run, "datalab", folder)
    with np.load(written / "arrays.npz") as arrays:
        return pd.read_parquet(written / "data.parquet"), dict(arrays)


def test_the_given_labels_and_the_students_probabilities(table_run, tmp_path):
    data, arrays = loaded(table_run, tmp_path / "out")
    split = table_run.split()
    labels = table_run.correct_labels(split.noisy)
    n, m = len(split.noisy), len(split.trusted)
    assert data["id"].tolist() == [*split.noisy.ids, *split.trusted.ids]
    assert data["trusted"].tolist() == [False] * n + [True] * m
    trusted_labels = np.array(split.trusted.classes)[split.trusted.given]
    assert data["given_label"].tolist() == [*labels["given_label"], *trusted_labels]
    pd.testing.assert_series_equal(
        data["corrected_label"][:n], labels["corrected_label"], check_dtype=False, check_names=False
    )
    assert data["corrected_label"][n:].isna().all()
    parts = [split.noisy, split.trusted]
    expected = np.concatenate([table_run.predict_proba(part.inputs).numpy() for part in parts])
    np.testing.assert_allclose(arrays["pred_probs"], expected, atol=1e-6)
    np.testing.assert_allclose(arrays["features"], np.concatenate([part.inputs for part in parts]))


def test_columns_are_in_the_order_in_which_cleanlab_counts_the_classes(tmp_path):
    """That of their names as texts, where emlc's own order is 2, 9, 10."""
    truth = np.arange(60) % 3
    X = np.eye(4)[truth] + np.random.default_rng(0).normal(0, 0.1, (60, 4))
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame = frame.assign(label=np.array(["9", "10", "2"])[truth], checked=np.arange(60) < 12)
    frame.to_csv(tmp_path / "data.csv", index=False)
    source = {"data": str(tmp_path / "data.csv"), "trusted_column": "checked"}
    (tmp_path / "run").mkdir()
    run = sources.untrained_run(tmp_path / "run", **source)
    data, arrays = loaded(run, tmp_path / "out")
    assert run.schema.classes == ("2", "9", "10")
    assert arrays["classes"].tolist() == ["10", "2", "9"] == sorted(set(data["given_label"]))
    known = run.predict_proba(run.split().noisy.inputs).numpy()
    np.testing.assert_array_equal(arrays["pred_probs"][: len(known)], known[:, [2, 0, 1]])


def test_images_are_named_and_seen_by_the_students_network(file_run, tmp_path):
    data, arrays = loaded(file_run, tmp_path / "out")
    split = file_run.split()
    files = [*split.noisy.files.to_pylist(), *split.trusted.files.to_pylist()]
    named = [((tmp_path / "out") / path).resolve().as_posix() for path in data["image"]]
    assert named == files
    assert arrays["features"].shape[0] == len(files)
    assert arrays["features"].ndim == 2


def test_datalab_takes_them(table_run, tmp_path):
    """Its own classes are those of the columns, and it finds an issue that is planted."""
    pytest.importorskip("datasets", reason="cleanlab[datalab] is not installed")
    from cleanlab import Datalab

    data, arrays = loaded(table_run, tmp_path / "out")
    lab = Datalab(data, label_name="given_label", verbosity=0)
    assert lab.class_names == arrays["classes"].tolist()
    codes = data["given_label"].map(lab.class_names.index).to_numpy()
    planted = np.where(np.eye(len(lab.class_names))[codes] > 0, 0.9, 0.05)
    planted[3] = np.roll(planted[3], 1)
    assert len(planted.T) == arrays["pred_probs"].shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few samples of a class
        lab.find_issues(pred_probs=arrays["pred_probs"], features=arrays["features"])
        assert {"label", "outlier", "near_duplicate"} <= set(lab.get_issue_summary()["issue_type"])
        lab.find_issues(pred_probs=planted, issue_types={"label": {}})
    assert lab.get_issues("label")["is_label_issue"].to_numpy().nonzero()[0].tolist() == [3]


def test_datalab_takes_hostile_class_names(pixel_run, tmp_path):
    pytest.importorskip("datasets", reason="cleanlab[datalab] is not installed")
    from cleanlab import Datalab

    data, arrays = loaded(pixel_run, tmp_path / "out")
    assert Datalab(data, label_name="given_label").class_names == arrays["classes"].tolist()
