import numpy as np
import pandas as pd
import pytest
import torch

from emlc.data import Samples
from emlc.labels import label_table, prediction_table
from emlc.teacher import Correction

CLASSES = ("cat", "cow", "007")
Q = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [0.9, 0.06, 0.04]])
W = torch.tensor([0.9, 0.1, 0.5, 0.2])
P = torch.tensor([[0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.6, 0.2, 0.2], [0.5, 0.3, 0.2]])


def samples(true_labels=None):
    return Samples.from_arrays(
        np.zeros((4, 2)),
        ["cat", "cow", "cow", "007"],
        classes=CLASSES,
        ids=["d", "b", "00", "a"],
        true_labels=true_labels,
    )


def test_every_column_row_by_row():
    table = label_table(samples(), Correction(Q, Q, W), P)
    expected = pd.DataFrame(
        {
            "id": ["d", "b", "00", "a"],
            "given_label": ["cat", "cow", "cow", "007"],
            "corrected_label": ["cat", "007", "cow", "cat"],
            "corrected_probability": [0.7, 0.6, 0.5, 0.9],
            "retain_weight": [0.9, 0.1, 0.5, 0.2],
            "predicted_label": ["cow", "007", "cat", "cat"],
            "label_quality": [0.7, 0.3, 0.5, 0.04],
            "is_label_issue": [False, True, False, True],
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-6)


def test_true_labels_where_they_are_known():
    table = label_table(samples(["cow", None, "007", ""]), Correction(Q, Q, W), P)
    assert list(table.columns)[-1] == "true_label"
    known = table["true_label"].notna()
    assert known.tolist() == [True, False, True, False]
    assert table["true_label"][known].tolist() == ["cow", "007"]


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
