"""The corrected data as a table: read by emlc itself, and by pandas."""

import numpy as np
import pandas as pd
import pytest
import torch

import sources
from emlc import InputError
from emlc.config import DataSettings
from emlc.data import read
from emlc.exports import export


def test_features(table_run, tmp_path):
    written, remark = export(table_run, "csv", tmp_path / "t.csv")
    table = pd.read_csv(written, keep_default_na=False)
    split = table_run.split()
    labels = table_run.correct_labels(split.noisy)
    n = len(split.noisy)
    assert remark is None
    assert table["id"].tolist() == [*split.noisy.ids, *split.trusted.ids]
    assert table["label"].tolist()[:n] == labels["corrected_label"].tolist()
    assert table["given_label"].tolist()[:n] == labels["given_label"].tolist()
    assert (table["given_label"] != table["label"])[:n].any()
    assert table["trusted"].tolist() == [False] * n + [True] * len(split.trusted)
    assert set(table["label_quality"][n:]) == {""}
    assert table["true_label"].tolist()[:n] == labels["true_label"].tolist()
    quality = pd.to_numeric(table["label_quality"][:n])
    np.testing.assert_allclose(quality, labels["label_quality"], rtol=1e-6)


def test_it_is_read_again_without_the_evidence_as_features(table_run, tmp_path):
    export(table_run, "csv", tmp_path / "t.csv")
    again = read(str(tmp_path / "t.csv"), DataSettings(trusted_column="trusted"), role="data")
    split = table_run.split()
    assert torch.equal(again.inputs, torch.cat([split.noisy.inputs, split.trusted.inputs]))
    np.testing.assert_array_equal(again.trusted, np.arange(len(again)) >= len(split.noisy))


def test_image_files_are_named(file_run, tmp_path):
    export(file_run, "csv", tmp_path / "t.csv")
    again = read(str(tmp_path / "t.csv"), DataSettings(trusted_column="trusted"), role="data")
    split = file_run.split()
    assert torch.equal(again.inputs, torch.cat([split.noisy.inputs, split.trusted.inputs]))


def test_pixels_need_parquet(pixel_run, tmp_path):
    _, remark = export(pixel_run, "csv", tmp_path / "t.csv")
    assert remark is not None
    assert "a .csv file lacks them" in remark
    assert "image" not in pd.read_csv(tmp_path / "t.csv").columns
    _, remark = export(pixel_run, "csv", tmp_path / "t.parquet")
    again = read(str(tmp_path / "t.parquet"), DataSettings(trusted_column="trusted"), role="data")
    split = pixel_run.split()
    assert remark is None
    assert torch.equal(again.inputs, torch.cat([split.noisy.inputs, split.trusted.inputs]))
    assert set(again.classes) == set(sources.HOSTILE)


def test_unnamed_features_and_line_breaks(tmp_path):
    X = np.random.default_rng(0).normal(size=(48, 3))
    names = np.array(sources.HOSTILE)[np.arange(48) % 8]
    np.savez(tmp_path / "d.npz", X=X, y=names, trusted=np.arange(48) < 16)
    run = sources.untrained_run(tmp_path, data=str(tmp_path / "d.npz"), trusted_column="trusted")
    written, remark = export(run, "csv")
    assert written == tmp_path / "corrected.csv"
    assert remark is not None
    assert "line breaks" in remark
    table = pd.read_csv(written)
    assert {"feature_0", "feature_1", "feature_2"} < set(table.columns)
    assert set(table["given_label"][table["trusted"]].dropna()) == set()
    assert set(table["label"]) <= set(sources.HOSTILE)


def test_features_that_are_called_as_ours_keep_their_names(tmp_path):
    run = sources.untrained_run(tmp_path, **sources.features_called_as_ours(tmp_path))
    export(run, "csv", tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv")
    assert {"id_", "label_", "trusted_", "true_label_"} < set(table.columns)
    np.testing.assert_allclose(table["label"][: len(run.split().noisy)], run.split().noisy.inputs[:, 1])


def test_other_endings_are_refused(table_run, tmp_path):
    with pytest.raises(InputError, match=r"expected a \.csv or a \.parquet file, got .*t\.xlsx"):
        export(table_run, "csv", tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_what_corrects_no_labels_has_none_to_export(tmp_path):
    run = sources.untrained_run(tmp_path, **sources.csv_features(tmp_path), method="cross-entropy")
    for target in ("csv", "labelstudio"):
        with pytest.raises(InputError, match="corrects no labels"):
            export(run, target)
