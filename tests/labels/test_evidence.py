"""The evidence against slow obvious versions, and against data whose posterior is known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from emlc.labels.decision import bayes, best_f1_threshold, weighted
from emlc.labels.evidence import (
    CheckedLabels,
    Noise,
    adapt,
    decide,
    estimate_noise,
    judge,
    power_of_noise,
)
from emlc.labels.probe import Probe, _few_of_each, best_probe, cross_fit, given_scores

TRANSITION = np.array([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6]])
SHARES = np.array([0.6, 0.3, 0.1])
DISTANCE = 2.0


def drawn(n, *, seed, shares=SHARES, distance=DISTANCE):
    """Normal features around a centre for each class, the true classes, and their exact posterior."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size=n, p=shares)
    X = rng.normal(size=(n, 3)) + distance * np.eye(3)[truth]
    density = np.exp(distance * X) * shares
    return X, truth, density / density.sum(axis=1, keepdims=True)


def with_noise(truth, seed):
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(3, p=TRANSITION[c]) for c in truth])


@cache
def example(*, seed=0, trusted=40, n=3000, distance=DISTANCE):
    X, truth, p = drawn(n, seed=seed, distance=distance)
    Z, trusted_labels, _ = drawn(3 * trusted, seed=seed + 1, shares=np.full(3, 1 / 3), distance=distance)
    return X, truth, p, with_noise(truth, seed + 2), Z, trusted_labels


def figures(decision, prediction, given, truth):
    """The true F1 score of the issues, and the share of labels right after correction."""
    soft = decision.soft_labels(prediction, given)
    rows = np.arange(len(given))
    issue, wrong = soft[rows, given] < decision.threshold, given != truth
    soft[rows, given] = -1
    corrected = np.where(issue, soft.argmax(axis=1), given)
    return 2 * (issue & wrong).sum() / (issue.sum() + wrong.sum()), (corrected == truth).mean()


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_where_the_posterior_is_exact_the_claimed_f1_is_the_true_one(seed):
    X, truth, p, given, Z, labels = example(seed=seed)
    decision = decide(p, given, Z, labels, X)
    f1, right = figures(decision, p, given, truth)
    assert decision.expected_f1 == pytest.approx(f1, abs=0.06)
    assert decision.noise_rate == pytest.approx((given != truth).mean(), abs=0.04)
    assert right > (given == truth).mean() + 0.05


@pytest.mark.parametrize("exponent", [0.2, 5])
def test_networks_that_are_too_sure_or_not_sure_enough_claim_no_more(exponent):
    X, truth, p, given, Z, labels = example()
    wrong_confidence = weighted(p, exponent, np.ones(3))
    decision = decide(wrong_confidence, given, Z, labels, X)
    f1, _ = figures(decision, wrong_confidence, given, truth)
    assert decision.expected_f1 == pytest.approx(f1, abs=0.06)
    assert decision.exponent == pytest.approx(1 / exponent, rel=0.5)


def test_networks_that_favour_the_wrong_classes_are_reweighted():
    X, truth, p, given, Z, labels = example()
    balanced = weighted(p, 1, 1 / SHARES)  # as after learning from as many samples of every class
    decision = decide(balanced, given, Z, labels, X)
    weights = np.array(decision.class_weights)
    np.testing.assert_allclose(weights / weights.sum(), SHARES, atol=0.1)
    assert figures(decision, balanced, given, truth)[1] > (given == truth).mean() + 0.05


def test_noise_that_the_networks_have_learned_makes_the_posterior():
    X, truth, p, given, Z, labels = example()
    decision = decide(p, given, Z, labels, X, transition=TRANSITION)
    T = np.array(decision.transition)
    np.testing.assert_allclose(2 * T - TRANSITION, decide(p, given, Z, labels, X).transition, atol=1e-12)
    joint = p * T[:, given].T
    soft = decision.soft_labels(p, given)
    np.testing.assert_allclose(soft, joint / joint.sum(axis=1, keepdims=True), rtol=1e-9)
    f1, right = figures(decision, p, given, truth)
    assert decision.expected_f1 == pytest.approx(f1, abs=0.06)
    assert right > (given == truth).mean() + 0.05


@pytest.mark.parametrize("seed", range(5))
def test_where_nothing_is_known_no_label_is_an_issue_whatever_the_networks_claim(seed):
    rng = np.random.default_rng(seed)
    X, Z = rng.normal(size=(1000, 5)), rng.normal(size=(30, 5))
    sure = np.eye(3)[rng.integers(3, size=1000)] * 0.97 + 0.01
    decision = decide(sure, rng.integers(3, size=1000), Z, np.arange(30) % 3, X)
    assert (decision.threshold, decision.noise_rate, decision.expected_f1) == (0, None, None)


def test_labels_that_are_right_are_left_alone():
    X, truth, p, _, Z, labels = example(distance=1.0)
    assert decide(p, truth, Z, labels, X).threshold == 0


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_where_classes_overlap_only_labels_that_are_rather_wrong_are_issues(seed):
    """The best F1 score is had by changing many labels that are rather right: no gain, or a small one."""
    X, truth, p, given, Z, labels = example(distance=0.8, trusted=300, seed=seed)
    decision = decide(p, given, Z, labels, X)
    f1, right = figures(decision, p, given, truth)
    assert decision.threshold == 0.5
    assert decision.expected_f1 == pytest.approx(f1, abs=0.06)
    best = best_f1_threshold(decision.label_quality(p, given))
    assert right > figures(replace(decision, threshold=best), p, given, truth)[1] + 0.02
    assert right > (given == truth).mean() + 0.03


def test_correction_that_would_be_worse_is_not_done():
    """The networks are sure of wrong classes; their labels are better than that."""
    X, truth, _, given, Z, labels = example()
    contrary = np.eye(3)[(truth + 1) % 3] * 0.97 + 0.01
    decision = decide(contrary, given, Z, labels, X)
    assert figures(decision, contrary, given, truth)[1] >= (given == truth).mean() - 0.02


def test_the_noise_maximises_the_likelihood():
    _, _, p, given, *_ = example()
    fair = np.full(3, 1 / 3)
    balanced = weighted(p, 1, 1 / SHARES)
    found = estimate_noise(balanced, given, fair)

    def loss(logits):
        pi = np.exp(logits[:3]) / np.exp(logits[:3]).sum()
        T = np.exp(logits[3:].reshape(3, 3))
        T /= T.sum(axis=1, keepdims=True)
        total = -np.log(((balanced * 3 * pi) @ T)[np.arange(len(given)), given]).sum()
        start = (np.eye(3) + 1 / 3) / 2
        return total - (start * np.log(T)).sum()  # one sample more for each row

    start = np.log(np.concatenate([fair, ((np.eye(3) + 1 / 3) / 2).ravel()]))
    best = minimize(loss, start, method="BFGS").x
    T = np.exp(best[3:].reshape(3, 3))
    np.testing.assert_allclose(found.transition, T / T.sum(axis=1, keepdims=True), atol=0.02)
    np.testing.assert_allclose(found.class_shares, np.exp(best[:3]) / np.exp(best[:3]).sum(), atol=0.02)
    np.testing.assert_allclose(found.transition, TRANSITION, atol=0.08)


def test_a_class_that_the_noisy_samples_lack_does_no_harm():
    p = np.array([[0.9, 0.1, 0.0]] * 20)
    noise = estimate_noise(p, np.zeros(20, np.int64), np.full(3, 1 / 3))
    assert np.isfinite(noise.transition).all()
    np.testing.assert_allclose(noise.transition.sum(axis=1), 1)


def test_the_power_is_the_most_likely_one_and_the_classes_have_their_shares():
    _, _, p, given, *_ = example()
    sharp = weighted(p, 4, np.ones(3))
    noise = Noise(SHARES, TRANSITION)
    exponent, weights = adapt(sharp, given, noise)
    adapted = weighted(sharp, exponent, weights)
    np.testing.assert_allclose(adapted.mean(axis=0), SHARES, atol=0.01)

    def likelihood(p):
        return np.mean([np.log(row @ TRANSITION[:, y]) for row, y in zip(p, given, strict=True)])

    assert exponent == pytest.approx(0.25, rel=0.5)
    assert likelihood(adapted) > max(likelihood(weighted(sharp, e, weights)) for e in (0.05, 1, 3))


def test_no_head_has_seen_what_it_is_held_out_for():
    """Labels at random, features by which each sample can be learned by heart."""
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(60, 200)), rng.permutation(np.arange(60) % 3)
    probe = cross_fit(X, labels, X[:5], 3)
    assert (probe.held_out.argmax(axis=1) == labels).mean() < 0.55
    assert not probe.knows_something()
    np.testing.assert_allclose(probe.held_out.sum(axis=1), 1)
    assert probe.noisy.shape == (5, 5, 3)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 2], [0, 0, 1, 2]])
def test_without_two_samples_of_two_classes_or_without_one_of_each_there_is_no_probe(labels):
    X = np.random.default_rng(0).normal(size=(len(labels), 2))
    assert cross_fit(X, np.array(labels), X, 3) is None
    decision = decide(np.full((4, 3), 1 / 3), np.array([0, 1, 2, 0]), X, np.array(labels), np.zeros((4, 2)))
    assert decision.threshold == 0


def test_the_only_sample_of_a_class_is_seen_by_every_head_and_judges_none():
    X, _, _, given, Z, labels = example()
    single = np.flatnonzero(labels == 2)[0]
    rows = np.append(np.flatnonzero(labels < 2), single)
    probe = cross_fit(Z[rows], labels[rows], X, 3)
    assert probe.noisy.shape == (5, len(X), 3)
    assert (probe.noisy[:, :, 2] > 0).all()
    assert np.array_equal(probe.labels, labels[labels < 2])
    np.testing.assert_allclose(probe.class_shares, np.bincount(labels[rows]) / len(rows))
    _, _, p, _, _, _ = example()
    decision = decide(p, given, Z[rows], labels[rows], X)
    assert decision.threshold > 0


def test_one_class_has_no_issue():
    one, zeros = np.ones((5, 1)), np.zeros(5, np.int64)
    decision = decide(one, zeros, one, zeros, one)
    assert decision.threshold == 0
    assert decision.soft_labels(one, zeros).tolist() == [[1.0]] * 5


def test_many_trusted_samples_are_thinned_out_class_by_class(monkeypatch):
    monkeypatch.setattr("emlc.labels.probe._MOST_TRUSTED", 12)
    X, _, _, _, Z, labels = example()
    assert np.bincount(cross_fit(Z, labels, X, 3).labels).tolist() == [4, 4, 4]
    rows = _few_of_each(np.repeat([0, 1], [100, 3]), 10)
    assert np.array_equal(rows, np.unique(rows))
    assert (len(rows), (rows >= 100).sum(), (rows < 100).sum()) == (13, 3, 10)
    assert rows[9] > 50  # a table may be sorted by anything: the first are no fair sample


def test_the_judgement_one_by_one():
    rng = np.random.default_rng(0)
    f = rng.dirichlet(np.ones(3), size=(2, 30))
    trusted_labels = np.array([0, 0, 1, 1, 1, 2])
    probe = Probe(rng.dirichlet(np.ones(3), 6), f, trusted_labels, np.array([2, 3, 1]) / 6)
    labels, corrected = rng.integers(3, size=(2, 30))
    noise = Noise(SHARES, TRANSITION)
    judged = judge(probe, noise, labels, corrected)

    def slow(f, noise):
        wrong, found, gain = [], 0.0, 0.0
        for row, given, now in zip(f, labels, corrected, strict=True):
            joint = row / (np.bincount(trusted_labels) / 6) * noise.class_shares
            joint = joint * noise.transition[:, given]
            q = joint / joint.sum()
            wrong.append(1 - q[given])
            found += (now != given) * (1 - q[given])
            gain += (q[now] - q[given]) / len(labels)
        f1 = 2 * found / ((corrected != labels).sum() + sum(wrong))
        return np.mean(wrong), f1, gain

    rate, f1, gain = slow(f.mean(axis=0), noise)
    assert (judged.noise_rate, judged.f1, judged.gain) == pytest.approx((rate, f1, gain))
    parts = [slow(fold, estimate_noise(fold, labels, probe.class_shares, noise)) for fold in f]
    error = [np.sqrt(sum((p[k] - (parts[0][k] + parts[1][k]) / 2) ** 2 for p in parts) / 2) for k in (1, 2)]
    assert (judged.f1_error, judged.gain_error) == pytest.approx(tuple(error))


def test_the_posterior_of_the_probe_means_what_it_says():
    X, truth, _, given, Z, labels = example(trusted=200)
    probe = cross_fit(Z, labels, X, 3)
    f = probe.noisy.mean(axis=0)
    noise = estimate_noise(f, given, probe.class_shares)
    q = bayes(weighted(f, 1, noise.class_shares / probe.class_shares), noise.transition, given)
    quality = q[np.arange(len(given)), given]
    for low, high in [(0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)]:
        among = (quality >= low) & (quality < high)
        assert among.sum() > 50
        assert (given == truth)[among].mean() == pytest.approx(quality[among].mean(), abs=0.1)


def test_the_score_of_a_sample_does_not_depend_on_its_own_label():
    X, _, _, given, Z, _ = example()
    _, before = given_scores(Z, X, given, 3)
    other = given.copy()
    other[7] = (other[7] + 1) % 3
    _, after = given_scores(Z, X, other, 3)
    np.testing.assert_array_equal(after[1::2], before[1::2])
    assert not np.allclose(after[::2], before[::2])


@pytest.mark.parametrize("columns", [3, 80])
def test_scores_are_ridge_regression_on_the_other_half(columns):
    from sklearn.linear_model import Ridge

    X, _, _, given, Z, _ = example(n=100)  # halves of 50: with 80 columns, the other form of the solution
    rng = np.random.default_rng(0)
    X, Z = (np.column_stack([each, rng.normal(size=(len(each), columns - 3))]) for each in (X, Z))
    trusted, noisy = given_scores(Z, X, given, 3)
    A = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
    B = np.column_stack([(Z - X.mean(axis=0)) / X.std(axis=0), np.ones(len(Z))])
    even, odd = (
        Ridge(alpha=0.1 * len(A[k::2]), fit_intercept=False).fit(A[k::2], np.eye(3)[given[k::2]])
        for k in (0, 1)
    )
    np.testing.assert_allclose(noisy[1::2], even.predict(A[1::2]), atol=1e-8)
    np.testing.assert_allclose(noisy[::2], odd.predict(A[::2]), atol=1e-8)
    np.testing.assert_allclose(trusted, (even.predict(B) + odd.predict(B)) / 2, atol=1e-8)


def test_where_trusted_samples_are_few_the_given_labels_make_the_better_probe():
    rng = np.random.default_rng(0)
    truth, few = rng.integers(3, size=3000), np.arange(9) % 3
    X, Z = (rng.normal(size=(len(y), 60)) + 2.5 * np.eye(3, 60)[y] for y in (truth, few))
    probe = best_probe(Z, few, X, with_noise(truth, 1), 3)
    alone = cross_fit(Z, few, X, 3)
    right = [(w.noisy.mean(axis=0).argmax(axis=1) == truth).mean() for w in (probe, alone)]
    assert right[0] > right[1] + 0.1


def test_noise_is_that_of_all_labels_where_the_worst_were_reviewed():
    """A review takes the least probable labels away; counted, they make the estimate the one of before."""
    _, truth, p, given, _, _ = example(n=6000)
    quality = bayes(p, TRANSITION, given)[np.arange(len(given)), given]
    worst, rest = np.split(np.argsort(quality), [500])
    counts = np.zeros((3, 3))
    np.add.at(counts, (truth[worst], given[worst]), 1)
    whole = estimate_noise(p, given, SHARES)
    counted = estimate_noise(p[rest], given[rest], SHARES, counts=counts)
    ignored = estimate_noise(p[rest], given[rest], SHARES)
    np.testing.assert_allclose(counted.transition, whole.transition, atol=0.03)
    np.testing.assert_allclose(counted.class_shares, whole.class_shares, atol=0.02)
    np.testing.assert_allclose(counted.transition, TRANSITION, atol=0.08)
    assert (np.diag(ignored.transition) > np.diag(TRANSITION) + 0.03).all()


def by_looks(p, seed):
    """Labels that are wrong where a sample looks like another class: given its looks, they tell nothing."""
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(3, p=row) for row in p])


def shares_of(given, truth):
    counts = np.zeros((3, 3))
    np.add.at(counts, (truth, given), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def test_the_power_is_one_where_errors_are_random_and_falls_where_they_follow_the_looks():
    _, truth, p = drawn(2000, seed=3)
    at_random, by_the_looks = with_noise(truth, 4), by_looks(p, 5)
    assert power_of_noise(TRANSITION, CheckedLabels(p, at_random, truth)) >= 0.9
    assert power_of_noise(shares_of(by_the_looks, truth), CheckedLabels(p, by_the_looks, truth)) <= 0.1
    few = CheckedLabels(p[:5], by_the_looks[:5], truth[:5])
    assert power_of_noise(shares_of(by_the_looks, truth), few) > 0.5


def test_the_power_maximises_the_posterior():
    _, truth, p = drawn(60, seed=6)
    given = np.where(np.arange(60) % 2 == 0, by_looks(p, 7), with_noise(truth, 8))
    T = shares_of(given, truth)

    def loss(power, exponent):
        total = 0.5 * ((power - 1) / 0.5) ** 2
        for i in range(60):
            joint = [p[i, c] ** exponent * T[c, given[i]] ** power for c in range(3)]
            total -= np.log(joint[truth[i]] / sum(joint))
        return total

    def best(power):
        return minimize_scalar(lambda e: loss(power, 2**e), bounds=(-5, 1.5), method="bounded").fun

    slow = minimize_scalar(best, bounds=(0, 1), method="bounded").x
    found = power_of_noise(T, CheckedLabels(p, given, truth))
    assert 0.1 < slow < 0.9
    assert found == pytest.approx(slow, abs=0.06)


def test_checked_labels_that_follow_the_looks_make_more_labels_right():
    X, truth, p, _, Z, labels = example(n=4000)
    given = by_looks(p, 9)
    T = shares_of(given, truth)
    checked = CheckedLabels(p[:200], given[:200], truth[:200])
    rest = p[200:], given[200:], Z, labels, X[200:]
    without, with_checked = (decide(*rest, transition=T, checked=c) for c in (None, checked))
    assert without.transition_power == 1
    assert with_checked.transition_power < 0.5
    right = [figures(d, p[200:], given[200:], truth[200:])[1] for d in (without, with_checked)]
    assert right[1] > right[0] + 0.02
