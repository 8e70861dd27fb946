"""Figures of corrected labels against sums by hand, scikit-learn's and cleanlab's own."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

import emlc.labels.quality
from emlc.data import Samples
from emlc.labels.quality import QualityMeter, cleanlab_figures, figures_rows, issue_figures
from emlc.networks.inference import Predictions

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 3, 200)
GIVEN = np.where(RNG.random(200) < 0.3, (TRUTH + 1) % 3, TRUTH)
CORRECTED = np.where(RNG.random(200) < 0.2, RNG.integers(0, 3, 200), TRUTH)
QUALITY = RNG.random(200) * 0.5 + 0.5 * (GIVEN == TRUTH)
PROBABILITIES = RNG.dirichlet([1, 1, 1], 200) * 0.5 + 0.5 * np.eye(3)[TRUTH]


def test_figures_against_scikit_learn_and_sums():
    figures = issue_figures(GIVEN, TRUTH, CORRECTED, QUALITY)
    wrong, issue = GIVEN != TRUTH, GIVEN != CORRECTED
    expected = precision_recall_fscore_support(wrong, issue, average="binary")[:3]
    assert [figures[name] for name in ("precision", "recall", "f1")] == pytest.approx(expected)
    ranked = wrong[np.argsort(QUALITY)]
    precisions = [ranked[: k + 1].mean() for k in np.flatnonzero(ranked)]
    assert figures["average_precision"] == pytest.approx(np.mean(precisions))
    assert figures["recovery"] == pytest.approx((CORRECTED == TRUTH).mean())
    assert figures["wrong_recovery"] == pytest.approx((CORRECTED == TRUTH)[wrong].mean())
    assert (figures["labels"], figures["wrong_labels"]) == (200, wrong.sum())
    assert figures["issues"] == issue.sum()
    assert figures["noise_rate"] == pytest.approx(wrong.mean())


def test_what_cannot_be_measured_is_none():
    clean = issue_figures(TRUTH, TRUTH, TRUTH, QUALITY)
    assert clean["recovery"] == 1
    for name in ("precision", "recall", "f1", "average_precision", "wrong_recovery"):
        assert clean[name] is None
    missed = issue_figures(GIVEN, TRUTH, GIVEN, QUALITY)
    assert (missed["precision"], missed["recall"], missed["f1"]) == (None, 0, 0)
    assert figures_rows([("emlc", missed)])[0][:4] == ["emlc", "-", "0.0", "0.0"]


def test_cleanlab_as_it_is_called_by_hand():
    find_label_issues = pytest.importorskip("cleanlab.filter").find_label_issues
    issue = find_label_issues(GIVEN, PROBABILITIES, n_jobs=1)
    assert 10 < issue.sum() < 100
    figures = cleanlab_figures(GIVEN, TRUTH, PROBABILITIES)
    assert figures["issues"] == issue.sum()
    assert figures["precision"] == pytest.approx((GIVEN != TRUTH)[issue].mean())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("absent", [1, 40])
def test_classes_that_are_rare_or_absent_are_no_news(absent, recwarn, capfd):
    pytest.importorskip("cleanlab")
    probabilities = np.hstack([0.9 * PROBABILITIES, np.full((200, absent), 0.1 / absent)])
    truth = np.append(TRUTH[:-1], 3)  # one sample of that class
    for given in (GIVEN, np.append(GIVEN[:-1], 3)):
        assert cleanlab_figures(given, truth, probabilities)["labels"] == 200
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_only_warnings_of_cleanlab_are_left_out(monkeypatch):
    filter = pytest.importorskip("cleanlab.filter")
    monkeypatch.setattr(
        filter, "find_label_issues", lambda *given, **options: warnings.warn("ours", stacklevel=1)
    )
    with pytest.warns(UserWarning, match="ours"):
        cleanlab_figures(GIVEN, TRUTH, PROBABILITIES)


def meter(known=200, by_table=False):
    names = ("ant", "bee", "cat")
    samples = Samples.from_arrays(
        np.zeros((200, 2)),
        [names[k] for k in GIVEN],
        classes=names,
        true_labels=[names[k] if i < known else "" for i, k in enumerate(TRUTH)],
    )
    measured = QualityMeter()
    for rows in np.array_split(np.arange(200), 3):
        table = pd.DataFrame(
            {
                "corrected_label": np.array(names)[CORRECTED[rows]],
                "label_quality": QUALITY[rows],
                "is_label_issue": (CORRECTED != GIVEN)[rows],
            }
        )
        if by_table:
            texts = {"given_label": GIVEN[rows], "true_label": TRUTH[rows]}
            table = table.assign(**{name: np.array(names)[codes] for name, codes in texts.items()})
            table["true_label"] = table["true_label"].where(rows < known)
            table = table if known else table.drop(columns="true_label")
            measured.add_table(table, names, PROBABILITIES[rows])
        else:
            P = torch.from_numpy(PROBABILITIES[rows])
            measured.add(samples.take(rows), table, Predictions(P, P, P[:, 0]))
    return measured


@pytest.mark.parametrize("by_table", [False, True])
def test_block_by_block_as_at_once(by_table):
    pytest.importorskip("cleanlab")
    measured = meter(by_table=by_table)
    figures = measured.figures()
    assert figures["emlc"] == pytest.approx(issue_figures(GIVEN, TRUTH, CORRECTED, QUALITY))
    assert figures["cleanlab"] == pytest.approx(cleanlab_figures(GIVEN, TRUTH, PROBABILITIES))
    assert (measured.total, measured.issues) == (200, (CORRECTED != GIVEN).sum())


@pytest.mark.parametrize("by_table", [False, True])
def test_only_known_truth_counts(by_table):
    assert meter(0, by_table).figures() is None
    expected = issue_figures(GIVEN[:120], TRUTH[:120], CORRECTED[:120], QUALITY[:120])
    assert meter(120, by_table).figures()["emlc"] == pytest.approx(expected)


def test_without_cleanlab_one_line_says_how_to_get_it(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(emlc.labels.quality, "import_module", absent)
    measured = meter()
    assert measured.figures()["cleanlab"] is None
    assert measured.figures()["emlc"]["labels"] == 200
    assert "pip install cleanlab" in measured.why_no_cleanlab()


def test_too_many_labels_for_cleanlab(monkeypatch):
    monkeypatch.setattr(emlc.labels.quality, "MOST_COMPARED", 3 * 150)
    measured = meter()
    assert measured.figures()["cleanlab"] is None
    assert "up to 150 labels; these are 200" in measured.why_no_cleanlab()
