"""Figures of a classifier against scikit-learn, and the calibration against a loop."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

from emlc.runs.evaluation import evaluate_probabilities

CLASSES = ("cat", "cow", "dog", "emu")


@pytest.fixture(scope="module")
def case():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (300,), generator=generator)
    scores = torch.randn(300, 4, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 4)
    return scores.softmax(dim=1), labels.numpy()


def slow_reliability(probabilities, labels):
    """(mean confidence, accuracy, count) of each of 15 bins that has samples, and the error in per cent."""
    rows, error = [], 0.0
    for b in range(15):
        inside = []
        for p, y in zip(probabilities.tolist(), labels, strict=True):
            confidence = max(p)
            if b / 15 < confidence <= (b + 1) / 15:
                inside.append((confidence, p.index(confidence) == y))
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(hit for _, hit in inside) / len(inside)
            rows.append((confidence, accuracy, len(inside)))
            error += 100 * abs(confidence - accuracy) * len(inside) / len(labels)
    return rows, error


def test_figures(case):
    probabilities, labels = case
    predicted = probabilities.argmax(dim=1).numpy()
    slow_loss = -np.mean([math.log(p[y]) for p, y in zip(probabilities.tolist(), labels, strict=True)])
    figures = evaluate_probabilities(probabilities, labels, CLASSES).figures
    assert figures == {
        "samples": 300,
        "accuracy": pytest.approx(100 * metrics.accuracy_score(labels, predicted), abs=1e-3),
        "balanced_accuracy": pytest.approx(
            100 * metrics.balanced_accuracy_score(labels, predicted), abs=1e-3
        ),
        "cross_entropy": pytest.approx(slow_loss, abs=1e-4),
        "expected_calibration_error": pytest.approx(slow_reliability(probabilities, labels)[1], abs=1e-3),
    }
    assert figures["expected_calibration_error"] > 1


def test_per_class_and_confusion(case):
    probabilities, labels = case
    predicted = probabilities.argmax(dim=1).numpy()
    evaluation = evaluate_probabilities(probabilities, labels, CLASSES)
    per_class = evaluation.per_class
    assert tuple(per_class["class"]) == CLASSES
    assert per_class["samples"].tolist() == np.bincount(labels).tolist()
    recall = metrics.recall_score(labels, predicted, average=None)
    precision = metrics.precision_score(labels, predicted, average=None)
    np.testing.assert_allclose(per_class["recall"], 100 * recall)
    np.testing.assert_allclose(per_class["precision"], 100 * precision)
    confusion = metrics.confusion_matrix(labels, predicted)
    np.testing.assert_array_equal(evaluation.confusion, confusion)
    assert (confusion != confusion.T).any()
    assert tuple(evaluation.confusion.index) == tuple(evaluation.confusion.columns) == CLASSES


def test_reliability(case):
    rows, _ = slow_reliability(*case)
    table = evaluate_probabilities(*case, CLASSES).reliability
    np.testing.assert_allclose(table[["confidence", "accuracy", "samples"]], rows, rtol=1e-6)


def test_a_class_without_samples_or_predictions_has_no_figure():
    probabilities = torch.tensor([[0.6, 0.2, 0.1, 0.1], [0.2, 0.7, 0.1, 0.0], [0.7, 0.1, 0.2, 0.0]])
    evaluation = evaluate_probabilities(probabilities, np.array([0, 1, 2]), CLASSES)
    np.testing.assert_array_equal(evaluation.per_class["recall"], [100, 100, 0, np.nan])
    np.testing.assert_array_equal(evaluation.per_class["precision"], [50, 100, np.nan, np.nan])
    assert evaluation.figures["balanced_accuracy"] == pytest.approx(200 / 3, abs=1e-3)
    assert evaluation.confusion.shape == (4, 4)


def test_certain_predictions():
    evaluation = evaluate_probabilities(torch.eye(4)[[0, 1, 2, 2]], np.array([0, 1, 2, 3]), CLASSES)
    assert evaluation.figures["expected_calibration_error"] == pytest.approx(25)
    assert np.isfinite(evaluation.figures["cross_entropy"])
    assert evaluation.reliability.to_numpy().tolist() == [[1, 0.75, 4]]


def test_files(case, tmp_path):
    evaluation = evaluate_probabilities(*case, CLASSES)
    evaluation.save(tmp_path / "out", weights="last")
    names = {"evaluation.json", "per_class.csv"}
    names |= {f"{name}.{kind}" for name in ("confusion", "calibration") for kind in ("csv", "png")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert json.loads((tmp_path / "out/evaluation.json").read_text()) == {
        "weights": "last",
        **evaluation.figures,
    }
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out/confusion.csv", index_col="label"), evaluation.confusion
    )
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out/per_class.csv"), evaluation.per_class, check_dtype=False
    )
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out/calibration.csv"), evaluation.reliability, check_dtype=False
    )
