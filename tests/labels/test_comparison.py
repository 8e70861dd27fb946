"""A run beside simple rivals: the tests behind its standing, the rule for the shares, and the words."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.linear_model import LogisticRegression

from emlc.errors import InputError
from emlc.labels.advice import advice_on
from emlc.labels.comparison import Comparison, chance_of, compare, moved_classes, superiority
from emlc.labels.rivals import GIVEN, GOLD, TRUSTED, RivalData, folds, rival_predictions


def _blobs(n, *, wrong, seed, C=3, d=5):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, C, n)
    given = np.where(rng.random(n) < wrong, rng.integers(0, C, n), truth)
    return rng.normal(size=(n, d)) + 2 * np.eye(C, d)[truth], truth, given


def test_superiority_is_mcnemars_exact_test():
    rng = np.random.default_rng(0)
    one, other = rng.random(80) < 0.9, rng.random(80) < 0.75
    wins, losses = int((one & ~other).sum()), int((other & ~one).sum())
    expected = binomtest(wins, wins + losses, alternative="greater").pvalue
    assert superiority(one, other) == pytest.approx(expected)
    assert superiority(one, one) == 1


def test_superiority_of_many_samples_is_that_of_the_normal_distribution():
    right = np.arange(200_000) < 100_400  # the others are right where it is wrong
    # A sum of integers of so many digits takes hours.
    assert superiority(right, ~right) == pytest.approx(norm.sf(399.5 / (200_000 / 4) ** 0.5), rel=1e-3)


def test_always_predicting_the_common_class_of_imbalanced_data_counts_as_chance():
    labels = np.array([0] * 95 + [1] * 5)
    assert chance_of(np.zeros(100, dtype=np.int64), labels) == 1
    finds_most = np.where(np.arange(100) >= 96, 1, 0)
    assert chance_of(finds_most, labels) < 0.01


def test_a_run_stands_as_its_right_predictions_say():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)

    def right(share):
        return np.where(rng.random(400) < share, labels, (labels + 1) % 3)

    weak, strong = right(0.6), right(0.9)
    assert compare(strong, {GIVEN: weak, GOLD: weak}, labels)["standing"] == "better"
    worse = compare(weak, {GIVEN: weak, TRUSTED: strong}, labels)
    assert (worse["standing"], worse["rival"]) == ("worse", TRUSTED)
    assert compare(weak, {GIVEN: weak}, labels)["standing"] == "level"
    assert compare(rng.permutation(labels), {GIVEN: weak}, labels)["standing"] == "chance"


def test_the_rival_that_is_named_is_the_one_that_is_surely_better():
    """One is right most often, but by chance; the other is right wherever the run is."""
    labels = np.arange(100) % 2
    run = np.arange(100) < 80
    chancy, sure = run.copy(), run | (np.arange(100) < 86)
    chancy[:13], chancy[80:] = False, True
    predicted = {name: np.where(right, labels, 1 - labels) for name, right in ((GIVEN, chancy), (GOLD, sure))}
    compared = compare(np.where(run, labels, 1 - labels), predicted, labels)
    assert compared["accuracy"][GIVEN] > compared["accuracy"][GOLD]
    assert (compared["standing"], compared["rival"]) == ("worse", GOLD)


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        (Comparison(reason="processes"), "several processes do not train again"),
        (Comparison(reason="class", single="bee"), "a single trusted sample of 'bee'"),
        (Comparison(), "too few trusted ones"),  # of an earlier version
    ],
)
def test_why_nothing_was_compared(comparison, words):
    (advice,) = advice_on(comparison)
    assert words in str(advice)
    assert "--test FILE" in str(advice)


def test_a_comparison_survives_the_file(tmp_path):
    moved = moved_classes(np.repeat([0, 1], 50), np.zeros(100, dtype=int), np.array([0, 1]), ("a", "b"))
    comparison = Comparison(measured_on="test", samples=9, accuracy={"emlc": 90.0}, moved=moved)
    comparison.save(tmp_path / "rivals.json")
    assert Comparison.load(tmp_path / "rivals.json") == comparison
    (tmp_path / "rivals.json").write_text('{"moved": [], "unknown": 1}')
    with pytest.raises(InputError, match=r"rivals.json: not the comparison"):
        Comparison.load(tmp_path / "rivals.json")


def test_the_classifier_of_the_given_labels_is_a_logistic_regression():
    X, truth, given = _blobs(600, wrong=0.3, seed=0)
    X_out, _, _ = _blobs(500, wrong=0, seed=1)
    data = RivalData(X, given, X[:30], truth[:30], 3)
    expected = LogisticRegression(max_iter=500).fit(X, given).predict(X_out)
    assert (rival_predictions(data, X_out)[GIVEN] == expected).mean() > 0.97


def test_gold_loss_correction_undoes_noise_that_misleads_the_given_labels():
    rng = np.random.default_rng(0)
    X, truth, _ = _blobs(1200, wrong=0, seed=0)
    given = np.where((truth == 0) & (rng.random(1200) < 0.7), 1, truth)  # most of class 0 is called 1
    X_out, labels, _ = _blobs(500, wrong=0, seed=1)
    data = RivalData(X[60:], given[60:], X[:60], truth[:60], 3)
    accuracy = {name: (each == labels).mean() for name, each in rival_predictions(data, X_out).items()}
    assert accuracy[GOLD] > accuracy[GIVEN] + 0.1


def test_cross_fitting_does_not_show_a_sample_its_own_label():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 60))  # labels that have nothing to do with the features, and many features
    labels = rng.integers(0, 2, 90)
    data = RivalData(rng.normal(size=(200, 60)), rng.integers(0, 2, 200), X, labels, 2)
    predicted = rival_predictions(data, parts=folds(labels, 3, seed=0))
    assert (predicted[TRUSTED] == labels).mean() < 0.7  # nearly 1 if it had been learned from
    assert sorted(np.concatenate(folds(labels, 3, seed=0)).tolist()) == list(range(90))


def test_a_correction_of_imbalanced_data_is_not_reported_where_the_trusted_samples_bear_it_out():
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 4000, p=[0.9, 0.08, 0.02])
    given = np.where(rng.random(4000) < 0.6, rng.integers(0, 3, 4000), truth)  # rare classes look common
    trusted = rng.choice(3, 100, p=[0.9, 0.08, 0.02])
    assert (np.bincount(given) / 4000)[2] > 0.2
    assert moved_classes(given, truth, trusted, ("a", "b", "c")) == ()


def test_a_rare_class_that_the_correction_erases_is_reported():
    truth = np.repeat([0, 1], [900, 100])
    trusted = np.repeat([0, 1], [90, 10])
    (moved,) = moved_classes(truth, np.zeros(1000, dtype=int), trusted, ("common", "rare"))
    assert (moved.name, moved.given, moved.corrected, moved.trusted) == ("rare", 0.1, 0.0, 0.1)
    balanced = np.repeat([0, 1], 10)
    assert [
        m.name for m in moved_classes(truth, np.zeros(1000, dtype=int), balanced, ("common", "rare"))
    ] == ["rare"]


def test_corrections_that_fall_into_one_class_are_reported_and_advised_against():
    rng = np.random.default_rng(0)
    given = rng.integers(0, 10, 2000)
    predicted = np.where(rng.random(2000) < 0.9, 3, given)  # as networks do that have learned nothing
    classes = tuple("abcdefghij")
    moved = moved_classes(given, predicted, np.repeat(np.arange(10), 10), classes)
    assert "d" in [each.name for each in moved]
    labels = np.arange(100) % 10
    figures = compare(np.full(100, 3), {GIVEN: labels}, labels)
    advice = advice_on(Comparison(measured_on="validation", **figures, moved=moved))
    assert [each.level for each in advice] == ["warning", "warning"]
    assert "no better than chance" in advice[0].text
    assert "'d' from" in advice[1].text


def test_nothing_is_said_where_emlc_is_better_and_the_classes_stay():
    comparison = Comparison(
        measured_on="test", samples=100, accuracy={"emlc": 95.0, GIVEN: 80.0}, standing="better", rival=GIVEN
    )
    assert advice_on(comparison) == []
    assert "it is not known how good" in advice_on(Comparison())[0].text
