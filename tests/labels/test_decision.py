"""The decision against slow obvious versions, on data whose answer is known, and at the edges."""

import json
from functools import cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from emlc import InputError
from emlc.labels.decision import (
    Decision,
    best_f1_threshold,
    corrupted_odds,
    decide,
    estimate_shares,
    fit_kinds,
    log_odds,
    tells_apart,
)

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])


def predictions(n, classes=4, *, sharp=2.0, seed=0):
    """Predictions that favour a true class, and the classes."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % classes
    scores = np.exp(rng.normal(size=(n, classes)) + sharp * np.eye(classes)[truth])
    return scores / scores.sum(axis=1, keepdims=True), truth


def with_noise(n, rate, *, seed=1, **kind):
    """Predictions, labels of which a share is wrong at random, and the truth."""
    prediction, truth = predictions(n, seed=seed, **kind)
    rng = np.random.default_rng(seed + 100)
    classes = prediction.shape[1]
    wrong = rng.random(n) < rate
    given = np.where(wrong, (truth + rng.integers(1, classes, n)) % classes, truth)
    return prediction, given, truth


@cache
def decided(rate, *, trusted=200, **kind):
    prediction, given, truth = with_noise(4000, rate, **kind)
    return decide(*predictions(trusted, **kind), log_odds(prediction, given)), prediction, given, truth


def test_log_odds_one_by_one():
    odds = log_odds(P, np.array([1, 2, 1, 2]))
    slow = [np.log(0.2 / 0.7), np.log(0.6 / 0.3), 0, np.log(1e-12)]
    np.testing.assert_allclose(odds, slow, atol=1e-12)


def test_each_kind_of_label_one_by_one():
    labels = np.array([0, 2, 1, 0])
    odds, weights = corrupted_odds(P, labels)
    for i, right in enumerate(labels):
        others = [k for k in range(3) if k != right]
        for k in range(3):
            row = i * 3 + k
            assert odds[row] == log_odds(P[i : i + 1], np.array([k]))[0]
            confused = 0 if k == right else max(P[i, k], 1e-12) / sum(max(P[i, o], 1e-12) for o in others)
            assert weights[row] == pytest.approx([float(k == right), confused, 0 if k == right else 0.5])


@pytest.mark.parametrize("classes", [1, 2, 30])
def test_the_odds_of_all_labels_are_those_of_each(classes):
    prediction, labels = predictions(50, classes)
    prediction[:5] = 1 / classes  # no class is the most probable one
    odds, _ = corrupted_odds(prediction, labels)
    slow = [log_odds(prediction, np.full(50, label)) for label in range(classes)]
    np.testing.assert_array_equal(odds.reshape(50, classes), np.stack(slow, axis=1))


def test_odds_of_a_thousand_classes_take_no_thousand_passes(monkeypatch):
    calls = []
    monkeypatch.setattr("emlc.labels.decision.log_odds", lambda *given: calls.append(given))
    odds, _ = corrupted_odds(*predictions(20, 1000))
    assert len(odds) == 20_000
    assert not calls


def test_the_logistic_maximises_the_smoothed_likelihood():
    odds, weights = corrupted_odds(*predictions(60))
    slopes, intercepts = (np.array(values) for values in fit_kinds(odds, weights))
    m, K = 60, 3

    def likelihood(slopes, intercepts):
        logits = odds[:, None] * slopes + intercepts
        log_probability = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        total = 0
        for kind in range(K):
            targets = [(m + 1) / (m + K) if k == kind else 1 / (m + K) for k in range(K)]
            total += (weights[:, kind] * (log_probability @ targets)).sum()
        return total

    best = likelihood(slopes, intercepts)
    rng = np.random.default_rng(0)
    worse = [
        likelihood(slopes + 0.1 * rng.normal(size=K), intercepts + 0.1 * rng.normal(size=K))
        for _ in range(50)
    ]
    assert best > max(worse)
    assert best - max(worse) < 10  # the same scale: the disturbance is small


def test_shares_against_the_iteration_written_out():
    probabilities = np.random.default_rng(0).dirichlet([1, 2, 3], size=40)
    shares = [1 / 3] * 3
    for _ in range(3000):
        posterior = [[s * p for s, p in zip(shares, row, strict=True)] for row in probabilities]
        posterior = [[v / sum(row) for v in row] for row in posterior]
        shares = [sum(row[k] for row in posterior) / len(posterior) for k in range(3)]
    np.testing.assert_allclose(estimate_shares(probabilities), shares, atol=1e-3)


def test_the_threshold_against_every_possible_one():
    quality = np.random.default_rng(0).beta(2, 1, size=50)
    threshold, score = best_f1_threshold(quality)

    def expected_f1(cut):
        flagged = quality < cut
        return 2 * (1 - quality[flagged]).sum() / (flagged.sum() + (1 - quality).sum())

    assert expected_f1(threshold) == pytest.approx(score)
    assert score == pytest.approx(max(expected_f1(cut) for cut in [*quality + 1e-9, 2]))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_it_finds_the_noise_rate_and_the_wrong_labels(rate):
    decision, prediction, given, truth = decided(rate, sharp=5.0)
    assert decision.noise_rate == pytest.approx(rate, abs=0.05)
    quality = decision.label_quality(log_odds(prediction, given))
    issue, wrong = quality < decision.threshold, given != truth
    f1 = 2 * (issue & wrong).sum() / (issue.sum() + wrong.sum())
    assert f1 > 0.9
    assert f1 == pytest.approx(decision.expected_f1, abs=0.05)


def test_quality_is_a_probability_that_means_what_it_says():
    decision, prediction, given, truth = decided(0.3, trusted=2000)
    quality = decision.label_quality(log_odds(prediction, given))
    for low, high in [(0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)]:
        among = (quality >= low) & (quality < high)
        assert among.sum() > 50
        assert (given == truth)[among].mean() == pytest.approx(quality[among].mean(), abs=0.1)


def test_more_evidence_never_lowers_the_quality():
    decision, *_ = decided(0.4)
    quality = decision.label_quality(np.linspace(-30, 30, 200))
    assert (np.diff(quality) >= 0).all()
    assert quality[0] < 0.01
    assert quality[-1] > 0.99


def test_soft_labels_one_by_one():
    decision, *_ = decided(0.3)
    labels = np.array([0, 1, 2, 1])
    soft = decision.soft_labels(P, labels)
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    for row, label, prediction in zip(soft, labels, P, strict=True):
        quality = decision.label_quality(log_odds(prediction[None], np.array([label])))[0]
        assert row[label] == pytest.approx(quality)
        others = [k for k in range(3) if k != label]
        total = sum(max(prediction[k], 1e-12) for k in others)
        for k in others:
            assert row[k] == pytest.approx((1 - quality) * max(prediction[k], 1e-12) / total)


def test_separable_labels_give_finite_numbers():
    sharp = np.eye(3)[np.arange(30) % 3]
    labels = np.arange(30) % 3
    given = labels.copy()
    given[:6] = (given[:6] + 1) % 3
    decision = decide(sharp, labels, log_odds(sharp, given))
    assert np.isfinite([*decision.slopes, *decision.intercepts]).all()
    issue = decision.label_quality(log_odds(sharp, given)) < decision.threshold
    assert issue.tolist() == [True] * 6 + [False] * 24


@pytest.mark.parametrize("classes", [1, 2])
def test_predictions_that_say_nothing(classes):
    flat = np.full((8, classes), 1 / classes)
    labels = np.arange(8) % classes
    decision = decide(flat, labels, log_odds(flat, labels))
    quality = decision.label_quality(log_odds(flat, labels))
    assert np.isfinite(quality).all()
    assert len(np.unique(quality)) == 1


def test_one_class_has_no_issue_to_correct_to():
    one = np.ones((5, 1))
    decision = decide(one, np.zeros(5, np.int64), log_odds(one, np.zeros(5, np.int64)))
    assert decision.soft_labels(one, np.zeros(5, np.int64)).shape == (5, 1)


def test_a_tiny_trusted_set_and_a_network_that_is_wrong():
    prediction, given, _ = with_noise(300, 0.3)
    tiny = decide(prediction[:2], np.array([0, 1]), log_odds(prediction, given))
    assert 0 <= tiny.noise_rate <= 1
    contrary = decide(
        np.roll(predictions(100)[0], 1, axis=1), np.arange(100) % 4, log_odds(prediction, given)
    )
    quality = contrary.label_quality(np.linspace(-5, 5, 50))
    assert (np.diff(quality) >= -1e-12).all()


def test_it_can_be_saved(tmp_path):
    decision, *_ = decided(0.3)
    decision.save(tmp_path / "decision.json")
    again = Decision.load(tmp_path / "decision.json")
    odds = np.linspace(-4, 4, 9)
    np.testing.assert_array_equal(again.label_quality(odds), decision.label_quality(odds))
    assert again.threshold == decision.threshold
    assert json.loads((tmp_path / "decision.json").read_text())["noise_rate"] == decision.noise_rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": None}, "threshold: expected 1 finite number"),
        ({"threshold": 3}, r"threshold: expected values in \[0, 1\], found 3"),
        ({"slopes": [1, 2]}, "slopes: expected 3 finite number"),
        ({"intercepts": "0"}, "intercepts: expected 3 finite number"),
        ({"shares": [0.5, 0.5, -1]}, r"shares: expected values in \[0, 1\]"),
        ({"calibrated_on": "test"}, "calibrated_on: expected one of validation, trusted, found 'test'"),
        ({"calibrated_on": ["trusted"]}, "calibrated_on: expected one of validation, trusted, found"),
        ({"trusted_samples": -1}, "trusted_samples: expected a number of samples, found -1"),
        ({"trusted_samples": True}, "trusted_samples: expected a number of samples, found True"),
        ({"noisy_samples": "many"}, "noisy_samples: expected a number of samples, found 'many'"),
        ({"noisy_samples": 2.5}, "noisy_samples: expected a number of samples, found 2.5"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, changes, message):
    decided(0.3)[0].save(tmp_path / "decision.json")
    values = json.loads((tmp_path / "decision.json").read_text())
    (tmp_path / "decision.json").write_text(json.dumps(values | changes))
    with pytest.raises(InputError, match=message):
        Decision.load(tmp_path / "decision.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "not JSON"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "decision.json").write_text(text)
    with pytest.raises(InputError, match=r"decision\.json"):
        Decision.load(tmp_path / "decision.json")


def test_where_the_networks_know_nothing_no_label_is_an_issue():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    trusted, noisy = rng.dirichlet(np.ones(3), 60), rng.dirichlet(np.ones(3), 240)
    decision = decide(trusted, labels, log_odds(noisy, rng.integers(3, size=240)))
    assert (decision.threshold, decision.noise_rate, decision.expected_f1) == (0, 0, 0)
    assert (decision.label_quality(log_odds(noisy, rng.integers(3, size=240))) == 1).all()


def test_a_kind_that_cannot_be_told_from_right_labels_is_left_out():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=200)
    pairs = np.where(np.arange(4) // 2 == labels[:, None] // 2, 0.5, 1e-9)  # 0 and 1, 2 and 3 look alike
    decision = decide(pairs, labels, log_odds(pairs[:100], rng.integers(4, size=100)))
    right, confused, random = decision.shares
    assert confused == 0
    assert 0.3 < random < 0.9
    assert right + random == pytest.approx(1)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_telling_apart_is_the_area_under_the_roc_curve_and_its_error(shift):
    rng = np.random.default_rng(1)
    right, wrong = rng.normal(shift, 1, 80), rng.normal(0, 1, 80)
    area = roc_auc_score(np.repeat([1, 0], 80), np.r_[right, wrong])
    by_hand = np.mean(right[:, None] > wrong)
    assert area == pytest.approx(by_hand)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 79 * (q1 - area**2) + 79 * (q2 - area**2)) / 80**2)
    is_apart = tells_apart(np.r_[right, wrong], np.repeat([1.0, 0.0], 80), np.repeat([0.0, 1.0], 80))
    assert is_apart == (area - 0.5 > 1.645 * error)
    assert is_apart == (shift > 0)
