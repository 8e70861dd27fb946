"""The decision against slow obvious versions; its file, and that of earlier versions."""

import json
from dataclasses import replace

import numpy as np
import pytest

from emlc import InputError
from emlc.labels.decision import (
    Decision,
    KindsDecision,
    PosteriorDecision,
    bayes,
    best_f1_threshold,
    expected_f1,
    log_odds,
    weighted,
)

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
LABELS = np.array([1, 2, 1, 2])
T = ((0.8, 0.1, 0.1), (0.3, 0.6, 0.1), (0.0, 0.0, 1.0))
COMMON = {"threshold": 0.5, "noise_rate": 0.3, "expected_f1": 0.9}
COMMON |= {"calibrated_on": "trusted", "trusted_samples": 4, "noisy_samples": 40}
POSTERIOR = PosteriorDecision(
    **COMMON, exponent=0.5, class_weights=(1.0, 0.5, 0.25), transition=T, transition_power=0.7
)
KINDS = KindsDecision(**COMMON, slopes=(1.5, 0.2, 0.0), intercepts=(0.1, 0.2, -0.3), shares=(0.7, 0.2, 0.1))


def test_the_posterior_is_bayes_rule_one_by_one():
    soft = POSTERIOR.soft_labels(P, LABELS)
    for row, label, prediction in zip(soft, LABELS, P, strict=True):
        p = [max(v, 1e-12) ** 0.5 * w for v, w in zip(prediction, POSTERIOR.class_weights, strict=True)]
        joint = [a / sum(p) * max(T[c][label] ** 0.7, 1e-12) for c, a in enumerate(p)]
        assert row == pytest.approx([j / sum(joint) for j in joint], rel=1e-5)
    np.testing.assert_array_equal(POSTERIOR.label_quality(P, LABELS), soft[np.arange(4), LABELS])


def test_a_prediction_is_softened_and_reweighted_one_by_one():
    result = weighted(P, 0.5, np.array([1.0, 2.0, 4.0]))
    for row, prediction in zip(result, P, strict=True):
        slow = [max(v, 1e-12) ** 0.5 * w for v, w in zip(prediction, [1, 2, 4], strict=True)]
        assert row == pytest.approx([v / sum(slow) for v in slow])


def test_a_label_that_no_class_gives_leaves_a_distribution():
    q = bayes(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1]))
    assert q.sum() == pytest.approx(1)


def test_log_odds_one_by_one():
    odds = log_odds(P, LABELS)
    slow = [np.log(0.2 / 0.7), np.log(0.6 / 0.3), 0, np.log(1e-12)]
    np.testing.assert_allclose(odds, slow, atol=1e-12)


def test_the_rule_of_earlier_versions_one_by_one():
    soft = KINDS.soft_labels(P, LABELS)
    for row, label, prediction, odds in zip(soft, LABELS, P, log_odds(P, LABELS), strict=True):
        parts = [
            share * np.exp(slope * odds + intercept)
            for share, slope, intercept in zip(KINDS.shares, KINDS.slopes, KINDS.intercepts, strict=True)
        ]
        quality = parts[0] / sum(parts)
        others = [k for k in range(3) if k != label]
        total = sum(max(prediction[k], 1e-12) for k in others)
        assert row[label] == pytest.approx(quality)
        for k in others:
            assert row[k] == pytest.approx((1 - quality) * max(prediction[k], 1e-12) / total)


def test_the_threshold_against_every_possible_one():
    quality = np.random.default_rng(0).beta(2, 1, size=50)
    threshold = best_f1_threshold(quality)

    def slow_f1(cut):
        found = sum(1 - each for each in quality if each < cut)
        return 2 * found / (sum(each < cut for each in quality) + sum(1 - quality))

    assert expected_f1(quality, threshold) == pytest.approx(slow_f1(threshold))
    assert slow_f1(threshold) == pytest.approx(max(slow_f1(cut) for cut in [*quality + 1e-9, 2]))
    assert threshold == pytest.approx(1 - slow_f1(threshold) / 2)


@pytest.mark.parametrize("decision", [POSTERIOR, KINDS], ids=["posterior", "kinds"])
def test_it_can_be_saved(tmp_path, decision):
    decision.save(tmp_path / "decision.json")
    assert Decision.load(tmp_path / "decision.json") == decision


def test_what_is_unknown_stays_unknown(tmp_path):
    unknown = PosteriorDecision(**{**vars(POSTERIOR), "noise_rate": None, "expected_f1": None})
    unknown.save(tmp_path / "decision.json")
    assert json.loads((tmp_path / "decision.json").read_text())["expected_f1"] is None
    assert Decision.load(tmp_path / "decision.json") == unknown


def test_the_file_of_an_earlier_version_does_not_tell_its_kind(tmp_path):
    KINDS.save(tmp_path / "decision.json")
    values = json.loads((tmp_path / "decision.json").read_text())
    del values["kind"]
    (tmp_path / "decision.json").write_text(json.dumps(values))
    assert Decision.load(tmp_path / "decision.json") == KINDS


def test_the_file_of_an_earlier_version_has_no_power(tmp_path):
    POSTERIOR.save(tmp_path / "decision.json")
    values = json.loads((tmp_path / "decision.json").read_text())
    del values["transition_power"]
    (tmp_path / "decision.json").write_text(json.dumps(values))
    assert Decision.load(tmp_path / "decision.json") == replace(POSTERIOR, transition_power=1.0)


@pytest.mark.parametrize(
    ("decision", "changes", "message"),
    [
        (POSTERIOR, {"transition_power": 2}, r"transition_power: expected values in \[0, 1\], found"),
        (POSTERIOR, {"threshold": None}, "threshold: expected 1 finite number"),
        (POSTERIOR, {"threshold": 3}, r"threshold: expected values in \[0, 1\], found \[3\]"),
        (POSTERIOR, {"expected_f1": "high"}, "expected_f1: expected 1 finite number"),
        (POSTERIOR, {"noise_rate": -1}, r"noise_rate: expected values in \[0, 1\], found \[-1\]"),
        (POSTERIOR, {"calibrated_on": "test"}, "calibrated_on: expected one of validation, trusted, found"),
        (POSTERIOR, {"calibrated_on": ["trusted"]}, "calibrated_on: expected one of validation, trusted"),
        (POSTERIOR, {"trusted_samples": -1}, "trusted_samples: expected a number of samples, found -1"),
        (POSTERIOR, {"trusted_samples": True}, "trusted_samples: expected a number of samples, found True"),
        (POSTERIOR, {"noisy_samples": "many"}, "noisy_samples: expected a number of samples, found 'many'"),
        (POSTERIOR, {"noisy_samples": 2.5}, "noisy_samples: expected a number of samples, found 2.5"),
        (POSTERIOR, {"exponent": 0}, "exponent: expected a number above 0, found 0"),
        (POSTERIOR, {"class_weights": [1, 2]}, "class_weights: expected 3 finite number"),
        (POSTERIOR, {"class_weights": [1, 2, 0]}, "class_weights: expected numbers above 0, found"),
        (POSTERIOR, {"transition": []}, "transition: expected C rows, found "),
        (POSTERIOR, {"transition": [[1, 0, 0], [0, 1, 0], [1]]}, "transition: expected 3 finite number"),
        (POSTERIOR, {"kind": "magic"}, "kind: expected one of posterior, kinds, found 'magic'"),
        (KINDS, {"slopes": [1, 2]}, "slopes: expected 3 finite number"),
        (KINDS, {"intercepts": "0"}, "intercepts: expected 3 finite number"),
        (KINDS, {"shares": [0.5, 0.5, -1]}, r"shares: expected values in \[0, 1\]"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, decision, changes, message):
    decision.save(tmp_path / "decision.json")
    values = json.loads((tmp_path / "decision.json").read_text())
    (tmp_path / "decision.json").write_text(json.dumps(values | changes))
    with pytest.raises(InputError, match=message):
        Decision.load(tmp_path / "decision.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "not JSON"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "decision.json").write_text(text)
    with pytest.raises(InputError, match=r"decision\.json"):
        Decision.load(tmp_path / "decision.json")
