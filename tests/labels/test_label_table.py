import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import tiny
from emlc import InputError, to_cleanlab
from emlc.data import Samples
from emlc.labels.decision import KindsDecision
from emlc.labels.table import blocks, label_schema, label_table, prediction_table
from emlc.networks.inference import Predictions

CLASSES = ("cat", "cow", "007")
P = torch.tensor([[0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.6, 0.2, 0.2], [0.5, 0.3, 0.2]])
TEACHER = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [0.9, 0.06, 0.04]])
W = torch.tensor([0.9, 0.1, 0.5, 0.2])
PREDICTIONS = Predictions(P, TEACHER, W)
DECISION = KindsDecision(  # quality is 1 / (1 + odds of the best other class)
    threshold=0.45,
    noise_rate=2 / 3,
    expected_f1=0.5,
    slopes=(1.0, 0.0, 0.0),
    intercepts=(0.0, 0.0, -1000.0),
    shares=(0.4, 0.4, 0.2),
    calibrated_on="trusted",
    trusted_samples=3,
    noisy_samples=3,
)


def samples(true_labels=None):
    return Samples.from_arrays(
        np.zeros((4, 2)),
        ["cat", "cow", "cow", "007"],
        classes=CLASSES,
        ids=["d", "b", "00", "a"],
        true_labels=true_labels,
    )


def test_every_column_row_by_row():
    table = label_table(samples(), PREDICTIONS, DECISION)
    # The mean predictions: .4 .5 .1 | .2 .3 .5 | .4 .35 .25 | .7 .18 .12
    quality = [0.4 / 0.9, 0.3 / 0.8, 0.35 / 0.75, 0.12 / 0.82]
    expected = pd.DataFrame(
        {
            "id": ["d", "b", "00", "a"],
            "given_label": ["cat", "cow", "cow", "007"],
            "corrected_label": ["cow", "007", "cow", "cat"],
            "corrected_probability": [
                (1 - quality[0]) * 0.5 / 0.6,
                (1 - quality[1]) * 0.5 / 0.7,
                quality[2],
                (1 - quality[3]) * 0.7 / 0.88,
            ],
            "retain_weight": [0.9, 0.1, 0.5, 0.2],
            "predicted_label": ["cow", "007", "cat", "cat"],
            "label_quality": quality,
            "is_label_issue": [True, True, False, True],
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-6)


def test_all_probabilities_are_the_soft_label():
    table = label_table(samples(), PREDICTIONS, DECISION, all_probabilities=True)
    soft = table[[f"probability_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
    codes = pd.Index(CLASSES)
    rows = np.arange(4)
    given, corrected = (codes.get_indexer(table[name]) for name in ("given_label", "corrected_label"))
    np.testing.assert_allclose(soft[rows, given], table["label_quality"], rtol=1e-6)
    np.testing.assert_allclose(soft[rows, corrected], table["corrected_probability"], rtol=1e-6)


def test_true_labels_where_they_are_known():
    table = label_table(samples(["cow", None, "007", ""]), PREDICTIONS, DECISION)
    assert list(table.columns)[-1] == "true_label"
    known = table["true_label"].notna()
    assert known.tolist() == [True, False, True, False]
    assert table["true_label"][known].tolist() == ["cow", "007"]


def test_one_class_has_no_issue():
    one = Samples.from_arrays(np.zeros((2, 2)), ["a", "a"], classes=["a"])
    ones = torch.ones(2, 1)
    table = label_table(one, Predictions(ones, ones, torch.zeros(2)), DECISION)
    assert table["corrected_label"].tolist() == ["a", "a"]
    assert not table["is_label_issue"].any()


@pytest.mark.parametrize("all_probabilities", [False, True])
@pytest.mark.parametrize("truth", [None, [None, None, "cat", None]])
def test_the_schema_has_the_columns_of_the_table(truth, all_probabilities):
    table = label_table(samples(truth), PREDICTIONS, DECISION, all_probabilities=all_probabilities)
    schema = label_schema(CLASSES, true_labels=truth is not None, all_probabilities=all_probabilities)
    assert schema.names == table.columns.tolist()
    again = pa.Table.from_pandas(table, schema, preserve_index=False).to_pandas()
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_blocks_are_the_whole(monkeypatch):
    monkeypatch.setattr("emlc.labels.table.BLOCK", 7)
    whole = tiny.samples(20)
    parts = list(blocks(whole))
    assert [len(part) for part in parts] == [7, 7, 6]
    assert np.concatenate([part.ids for part in parts]).tolist() == whole.ids.tolist()
    assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)


@pytest.mark.parametrize(("classes", "rows"), [(2, 16_384), (64, 16_384), (1000, 1048), (5000, 256)])
def test_blocks_of_many_classes_have_fewer_rows(classes, rows):
    names = tuple(map(str, range(classes)))
    many = Samples.from_arrays(np.zeros((20_000, 1)), ["0"] * 20_000, classes=names)
    assert len(next(blocks(many))) == rows


# In cleanlab's form


def test_cleanlab_trains_without_the_issues():
    classification = pytest.importorskip("cleanlab.classification")
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    X = rng.normal(size=(90, 3)) + 6 * np.eye(3)[truth]
    given = truth.copy()
    given[:12] = (given[:12] + 1) % 3
    names = np.array(["ant", "bee", "cat"])
    labels = pd.DataFrame(
        {
            "given_label": names[given],
            "predicted_label": names[truth],
            "label_quality": np.where(given == truth, 0.9, 0.1),
            "is_label_issue": given != truth,
        }
    )
    frame = to_cleanlab(labels)
    learning = classification.CleanLearning(LogisticRegression()).fit(X, given, label_issues=frame)
    assert (learning.predict(X) == truth).all()
    saved = learning.get_label_issues()
    assert saved["is_label_issue"].tolist() == labels["is_label_issue"].tolist()
    cleanlab_issues = classification.CleanLearning(LogisticRegression(), cv_n_folds=3).find_label_issues(
        X, given
    )
    assert set(frame) == set(cleanlab_issues)
    for name in cleanlab_issues:
        assert frame[name].dtype.kind == cleanlab_issues[name].dtype.kind
    assert frame["given_label"].tolist() == cleanlab_issues["given_label"].tolist() == given.tolist()


def test_cleanlab_ranks_the_issues_as_the_table_does():
    rank = pytest.importorskip("cleanlab.rank")
    table = label_table(samples(), PREDICTIONS, DECISION, all_probabilities=True)
    frame = to_cleanlab(table, CLASSES)
    soft = table[[f"probability_{name}" for name in CLASSES]].to_numpy()
    order = rank.order_label_issues(
        frame["is_label_issue"].to_numpy(),
        frame["given_label"].to_numpy(),
        soft,
        rank_by="self_confidence",
    )
    issues = table[table["is_label_issue"]]
    assert table["id"].iloc[order].tolist() == issues.sort_values("label_quality")["id"].tolist()


def test_the_order_of_the_classes():
    table = label_table(samples(), PREDICTIONS, DECISION)
    assert to_cleanlab(table, CLASSES)["given_label"].tolist() == [0, 1, 1, 2]
    assert to_cleanlab(table)["given_label"].tolist() == [1, 2, 2, 0]
    numbers = table.assign(given_label=[1, 2, 2, 0], predicted_label=[2, 0, 1, 1])
    assert to_cleanlab(numbers, [0, 1, 2])["predicted_label"].tolist() == [2, 0, 1, 1]


def test_what_is_no_label_table_is_refused():
    table = label_table(samples(), PREDICTIONS, DECISION)
    with pytest.raises(InputError, match="no column label_quality"):
        to_cleanlab(table.drop(columns="label_quality"))
    as_read = table.assign(given_label=table["given_label"].mask(table.index == 2))
    with pytest.raises(InputError, match=r"row 2, column 'given_label'.*keep_default_na=False"):
        to_cleanlab(as_read)
    with pytest.raises(InputError, match=re.escape("row 3, column 'given_label': '007' is none of")):
        to_cleanlab(table, ["cat", "cow"])


# Predictions


def test_predictions():
    table = prediction_table(np.array(["d", "b", "00", "a"]), CLASSES, P)
    assert table.columns.tolist() == ["id", "predicted_label", "predicted_probability"]
    assert table["id"].tolist() == ["d", "b", "00", "a"]
    assert table["predicted_label"].tolist() == ["cow", "007", "cat", "cat"]
    assert table["predicted_probability"].tolist() == pytest.approx([0.8, 0.4, 0.6, 0.5])


def test_predictions_with_all_probabilities():
    table = prediction_table(np.arange(4).astype(str), CLASSES, P, all_probabilities=True)
    columns = ["probability_cat", "probability_cow", "probability_007"]
    assert table.columns.tolist()[3:] == columns
    np.testing.assert_array_equal(table[columns].to_numpy(), P.numpy())


def test_classes_that_are_numbers_are_in_the_order_of_their_values(tmp_path):
    labels = pd.DataFrame(
        {
            "given_label": ["10", "2", "1"],
            "predicted_label": ["10", "10", "1"],
            "label_quality": [0.9, 0.1, 0.8],
            "is_label_issue": [False, True, False],
        }
    )
    frame = to_cleanlab(labels)
    assert frame["given_label"].tolist() == [2, 1, 0]
    labels.to_csv(tmp_path / "labels.csv", index=False)
    as_text = pd.read_csv(tmp_path / "labels.csv", dtype=str)
    pd.testing.assert_frame_equal(to_cleanlab(as_text), frame)
    with pytest.raises(
        InputError, match="row 1, column 'is_label_issue': expected True or False, found 'ja'"
    ):
        to_cleanlab(as_text.assign(is_label_issue=["False", "ja", "True"]))
