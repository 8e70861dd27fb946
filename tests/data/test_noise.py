import itertools

import numpy as np
import pytest

from emlc.config import NoiseSettings
from emlc.data import noise
from emlc.errors import InputError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def within_binomial_bounds(count, n, p):
    """Whether a count lies within 5 standard deviations of its mean."""
    return abs(count - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1e-9


def test_symmetric_matrix_entry_by_entry():
    matrix = noise.symmetric(4, 0.6)
    for c, d in itertools.product(range(4), range(4)):
        assert matrix[c, d] == pytest.approx(0.6 / 4 + (0.4 if c == d else 0))


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_outside_the_unit_interval_are_refused(rate):
    with pytest.raises(InputError, match=r"noise_rate must be in \[0, 1\]"):
        noise.symmetric(3, rate)
    with pytest.raises(InputError, match=r"noise_rate must be in \[0, 1\]"):
        noise.asymmetric(CIFAR10, rate)


@pytest.mark.parametrize("order", [CIFAR10, CIFAR10[::-1]])
def test_asymmetric_cifar10_moves_the_five_classes_of_the_protocol(order):
    matrix = noise.asymmetric(order, 0.4)
    moved = {
        (order[c], order[d]): matrix[c, d]
        for c, d in itertools.product(range(10), range(10))
        if c != d and matrix[c, d] > 0
    }
    pairs = "truck automobile, bird airplane, deer horse, cat dog, dog cat"
    assert moved == {tuple(pair.split()): 0.4 for pair in pairs.split(", ")}
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_asymmetric_knows_the_short_class_names():
    short = tuple({"airplane": "plane", "automobile": "Car"}.get(name, name) for name in CIFAR10)
    np.testing.assert_array_equal(noise.asymmetric(short, 0.3), noise.asymmetric(CIFAR10, 0.3))


def test_asymmetric_digits():
    matrix = noise.asymmetric([str(k) for k in range(10)], 1.0)
    assert matrix.argmax(axis=1).tolist() == [0, 1, 7, 8, 4, 6, 5, 1, 8, 9]


def test_which_labels_asymmetric_noise_moves_is_told(caplog):
    caplog.set_level("INFO", "emlc")
    settings = NoiseSettings(noise="asymmetric", noise_rate=0.4)
    noise.from_settings(settings, tuple("0123456789"))
    assert caplog.messages == ["asymmetric noise takes 7 for 2, 8 for 3, 6 for 5, 5 for 6, 1 for 7"]


def test_asymmetric_cifar100_is_a_cycle_of_five_in_each_super_class():
    classes = sorted(name for group in noise._CIFAR100_SUPER_CLASSES for name in group)
    assert len(classes) == len(set(classes)) == 100
    successor = noise.asymmetric(classes, 1.0).argmax(axis=1)
    once, fifth = successor, np.arange(100)
    for _ in range(5):
        fifth = successor[fifth]
    assert (once != np.arange(100)).all()
    assert (fifth == np.arange(100)).all()
    to = dict(zip(classes, np.array(classes)[successor], strict=True))
    assert (to["beaver"], to["whale"], to["pickup_truck"], to["woman"]) == (
        "dolphin",
        "beaver",
        "train",
        "baby",
    )


def test_asymmetric_refuses_unknown_classes():
    with pytest.raises(InputError, match=r"cat, dog; for other data give --noise matrix"):
        noise.asymmetric(["cat", "dog"], 0.2)


@pytest.mark.parametrize("header", ["", "0,1,2\n", ",,\n", "cat, dog,cow\n"])
def test_matrix_from_csv_with_and_without_header(tmp_path, header):
    path = tmp_path / "matrix.csv"
    path.write_text(header + "0.5,0.5,0\n0,1,0\n0.1,0.2,0.7\n")
    expected = [[0.5, 0.5, 0], [0, 1, 0], [0.1, 0.2, 0.7]]
    np.testing.assert_allclose(noise.load_transition_matrix(path, ["cat", "dog", "cow"]), expected)


@pytest.mark.parametrize("classes", [("cat", "dog", "cow"), ("2", "NA", "0")])
def test_a_header_of_class_names_says_their_order(tmp_path, classes):
    a, b, c = classes
    path = tmp_path / "matrix.csv"
    path.write_text(f"{c},{a},{b}\n0.7,0.1,0.2\n0,0.5,0.5\n0,0.4,0.6\n")
    expected = [[0.5, 0.5, 0], [0.4, 0.6, 0], [0.1, 0.2, 0.7]]
    np.testing.assert_allclose(noise.load_transition_matrix(path, classes), expected)


def test_matrix_from_npy(tmp_path):
    np.save(tmp_path / "matrix.npy", np.eye(3))
    np.testing.assert_array_equal(
        noise.load_transition_matrix(tmp_path / "matrix.npy", ["a", "b", "c"]), np.eye(3)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,0\n0.5,0.4\n", r"matrix\.csv: row 1 must .* sum to 1, found a sum of 0\.9"),
        ("1,0\n1.5,-0.5\n", r"matrix\.csv: row 1 must have entries in \[0, 1\].*1\.5"),
        ("1,0\nx,1\n", r"matrix\.csv: row 1 .*nan"),
        ("a,b\n1,0\n0,1\n", r"matrix\.csv: expected a header of the classes cat, dog, or none, found a, b"),
        ("cat,cat\n1,0\n0,1\n", r"matrix\.csv: expected a header of the classes cat, dog"),
        ("cat,1\n1,0\n0,1\n", r"matrix\.csv: expected a header of the classes cat, dog"),
        ("1,0,0\n0,1,0\n", r"matrix\.csv: expected a 2 x 2 transition matrix, found 2 x 3"),
        ("", r"matrix\.csv: cannot be read"),
    ],
)
def test_wrong_matrices_are_refused(tmp_path, text, message):
    (tmp_path / "matrix.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        noise.load_transition_matrix(tmp_path / "matrix.csv", ["cat", "dog"])


def test_a_pickled_matrix_is_refused(tmp_path):
    np.save(tmp_path / "matrix.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(InputError, match=r"matrix\.npy: cannot be read"):
        noise.load_transition_matrix(tmp_path / "matrix.npy", ["a"])


def test_sampled_labels_follow_the_matrix():
    matrix = np.array([[0.7, 0.2, 0.1], [0, 1, 0], [0.25, 0.25, 0.5]])
    labels = np.repeat([0, 1, 2], 20_000)
    noisy = noise.inject(labels, matrix, np.random.default_rng(0))
    for c, d in itertools.product(range(3), range(3)):
        count = int(((labels == c) & (noisy == d)).sum())
        assert within_binomial_bounds(count, 20_000, matrix[c, d])


def test_symmetric_noise_stays_below_its_nominal_rate():
    labels = np.arange(40_000) % 10
    noisy = noise.inject(labels, noise.symmetric(10, 0.5), np.random.default_rng(1))
    wrong = int((noisy != labels).sum())
    assert within_binomial_bounds(wrong, 40_000, 0.5 * (1 - 1 / 10))
    assert noise.actual_rate(noisy, labels) == wrong / 40_000


def test_exact_asymmetric_noise_moves_exactly_the_chosen_samples():
    labels = np.full(101, CIFAR10.index("truck"))
    matrix = noise.asymmetric(CIFAR10, 0.4)
    noisy = noise.inject(labels, matrix, np.random.default_rng(2), draw="exact", rate=0.4)
    assert (noisy == CIFAR10.index("automobile")).sum() == round(0.4 * 101)
    assert (noisy == CIFAR10.index("truck")).sum() == 101 - round(0.4 * 101)


def test_exact_symmetric_noise_redraws_over_all_classes():
    labels = np.zeros(30_000, dtype=np.int64)
    noisy = noise.inject(labels, noise.symmetric(3, 1.0), np.random.default_rng(3), draw="exact", rate=1.0)
    for c in range(3):
        assert within_binomial_bounds(int((noisy == c).sum()), 30_000, 1 / 3)
    few = noise.inject(labels, noise.symmetric(3, 0.01), np.random.default_rng(3), draw="exact", rate=0.01)
    assert 0 < (few != labels).sum() <= 300


def test_exact_matrix_noise_rounds_by_largest_remainder():
    matrix = np.array([[0.5, 0.3, 0.2], [0, 1, 0], [0.3, 0.3, 0.4]])
    labels = np.array([0] * 7 + [1] * 4 + [2] * 10)
    noisy = noise.inject(labels, matrix, np.random.default_rng(4), draw="exact")
    # 7 * (0.5, 0.3, 0.2) = (3.5, 2.1, 1.4): the one missing goes to the largest remainder
    assert np.bincount(noisy[labels == 0], minlength=3).tolist() == [4, 2, 1]
    assert np.bincount(noisy[labels == 1], minlength=3).tolist() == [0, 4, 0]
    assert np.bincount(noisy[labels == 2], minlength=3).tolist() == [3, 3, 4]


def test_injection_depends_on_the_generator_alone_and_leaves_its_argument():
    labels = np.arange(500) % 5
    first, again, other = (
        noise.inject(labels, noise.symmetric(5, 0.5), np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert (labels == np.arange(500) % 5).all()
    assert (first == again).all()
    assert (first != other).any()


def test_rates_count_only_known_truth():
    given = np.array([0, 1, 2, 0])
    assert noise.actual_rate(given, np.array([0, 0, -1, -1])) == 0.5
    assert noise.actual_rate(given, np.full(4, -1)) is None
    assert noise.actual_rate(given, None) is None
    assert noise.nominal_rate(np.array([0, 0, 0, 1]), np.array([[0.6, 0.4], [0, 1]])) == pytest.approx(0.3)


def test_observed_transitions_are_shares_counted_one_by_one():
    rng = np.random.default_rng(0)
    given, true = rng.integers(0, 4, 60), rng.integers(-1, 3, 60)  # of the last class there is no sample
    observed = noise.observed_transition(given, true, 4)
    for c, d in itertools.product(range(3), range(4)):
        labels = [label for label, known in zip(given, true, strict=True) if known == c]
        assert observed[c, d] == pytest.approx(labels.count(d) / len(labels))
    assert np.isnan(observed[3]).all()
