"""The sums of a label table, against pandas and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_score, recall_score

from emlc.report.issues import RETAIN_BINS, label_facts

CLASSES = ("b", "a", "__proto__", "never")


def random_table(n=400, *, seed=0, truth=0.5):
    rng = np.random.default_rng(seed)
    names = np.array(CLASSES[:3], dtype=object)
    given, corrected, true = (names[rng.integers(0, 3, n)] for _ in range(3))
    table = pd.DataFrame(
        {
            "given_label": given,
            "corrected_label": np.where(rng.random(n) < 0.6, given, corrected),
            "retain_weight": rng.random(n),
            "true_label": pd.Series(true).where(rng.random(n) < truth),
        }
    )
    table["is_label_issue"] = table["given_label"] != table["corrected_label"]
    return table


def crosstab(rows, columns, **options):
    return pd.crosstab(rows, columns, **options).reindex(index=CLASSES, columns=CLASSES, fill_value=0)


def test_matrices():
    table = random_table()
    facts = label_facts(table, CLASSES)
    assert facts.samples == 400
    assert facts.issues == table["is_label_issue"].sum()
    np.testing.assert_array_equal(facts.corrected, crosstab(table["given_label"], table["corrected_label"]))
    shares = crosstab(table["corrected_label"], table["given_label"], normalize="index")
    np.testing.assert_allclose(facts.transition[:3], shares[:3])
    assert np.isnan(facts.transition[3]).all()  # nothing is corrected to that class
    known = table.dropna()
    true = crosstab(known["true_label"], known["given_label"], normalize="index")
    np.testing.assert_allclose(facts.truth.transition[:3], true[:3])


@pytest.mark.parametrize("missing", [None, "", np.nan])
def test_truth_where_it_is_known(missing):
    table = random_table()
    known = table.dropna()
    table["true_label"] = table["true_label"].astype(object).where(table["true_label"].notna(), missing)
    truth = label_facts(table, CLASSES).truth
    wrong = known["given_label"] != known["true_label"]
    assert truth.samples == len(known) < len(table)
    assert truth.given_right == pytest.approx(1 - wrong.mean())
    assert truth.corrected_right == pytest.approx((known["corrected_label"] == known["true_label"]).mean())
    assert truth.issue_precision == pytest.approx(precision_score(wrong, known["is_label_issue"]))
    assert truth.issue_recall == pytest.approx(recall_score(wrong, known["is_label_issue"]))


def test_without_issues_or_wrong_labels_there_are_no_rates_of_them():
    table = pd.DataFrame({"given_label": ["a", "b"], "corrected_label": ["a", "b"], "true_label": ["a", "b"]})
    truth = label_facts(table.assign(retain_weight=0.5, is_label_issue=False), CLASSES).truth
    assert np.isnan(truth.issue_precision)
    assert np.isnan(truth.issue_recall)
    assert truth.corrected_right == 1


def test_without_truth():
    table = random_table(truth=0)
    assert label_facts(table, CLASSES).truth is None
    facts = label_facts(table.drop(columns="true_label"), CLASSES)
    assert facts.truth is None
    assert facts.retain["samples"].sum() == 400
    assert "right" not in facts.retain


def test_retain_weights():
    table = random_table(truth=1)
    table.loc[:1, "retain_weight"] = [0, 1]  # the ends belong to the outer bins
    bins = label_facts(table, CLASSES).retain
    assert len(bins) == RETAIN_BINS
    right = table[table["given_label"] == table["true_label"]]["retain_weight"]
    expected = pd.cut(right, np.linspace(0, 1, RETAIN_BINS + 1), right=False, labels=False).fillna(
        RETAIN_BINS - 1
    )
    np.testing.assert_array_equal(bins["right"], np.bincount(expected.astype(int), minlength=RETAIN_BINS))
    assert bins["right"].sum() + bins["wrong"].sum() == 400
