import numpy as np
import pytest
import torch

from emlc.data import Samples
from emlc.errors import InputError

FEATURES = np.arange(12, dtype=np.float64).reshape(6, 2)


def test_string_labels_are_sorted_into_classes():
    samples = Samples.from_arrays(FEATURES, ["dog", "cat", "dog", "ant", "cat", "cat"])
    assert samples.classes == ("ant", "cat", "dog")
    assert samples.labels.tolist() == [2, 1, 2, 0, 1, 1]
    assert samples.inputs.dtype == torch.float32
    assert samples.ids.tolist() == ["0", "1", "2", "3", "4", "5"]
    assert not samples.own_ids


def test_integer_labels_are_sorted_by_value():
    samples = Samples.from_arrays(FEATURES, np.array([10, 2, 2, 1, 10, 1]))
    assert samples.classes == ("1", "2", "10")
    assert samples.labels.tolist() == [2, 1, 1, 0, 2, 0]


@pytest.mark.parametrize(
    "labels", [np.array([True, False, True, True, False, False]), [True, False, True, True, False, False]]
)
def test_boolean_labels(labels):
    samples = Samples.from_arrays(FEATURES, labels)
    assert samples.classes == ("False", "True")
    assert samples.labels.tolist() == [1, 0, 1, 1, 0, 0]


def test_integers_index_a_given_class_list():
    samples = Samples.from_arrays(FEATURES, [2, 0, 1, 0, 0, 0], classes=["z", "y", "x"])
    assert samples.labels.tolist() == [2, 0, 1, 0, 0, 0]


def test_integers_are_names_where_classes_are_called_by_numbers():
    samples = Samples.from_arrays(FEATURES, [2, 1, 1, 2, 1, 1], classes=["2", "1"])
    assert samples.labels.tolist() == [0, 1, 1, 0, 1, 1]
    with pytest.raises(InputError, match="'0', which is not among the 2 classes: 2, 1"):
        Samples.from_arrays(FEATURES, [2, 1, 1, 2, 1, 0], classes=["2", "1"])


def test_classes_are_the_union_of_given_and_true_labels():
    samples = Samples.from_arrays(
        FEATURES, list("aabbab"), true_labels=["a", None, "c", float("nan"), "", "b"]
    )
    assert samples.classes == ("a", "b", "c")
    assert samples.true_labels.tolist() == [0, -1, 2, -1, -1, 1]


def test_whole_floats_are_integers_and_fractions_are_refused():
    assert Samples.from_arrays(FEATURES, np.array([1.0, 2, 2, 1, 1, 1])).classes == ("1", "2")
    with pytest.raises(InputError, match=r"row 3 is 0\.5"):
        Samples.from_arrays(FEATURES, np.array([1.0, 2, 2, 0.5, 1, 1]))


@pytest.mark.parametrize("missing", ["", None, float("nan")])
def test_a_missing_label_is_named(missing):
    with pytest.raises(InputError, match=r"y: row 2 \(id 's2'\) has no label"):
        Samples.from_arrays(FEATURES, ["a", "b", missing, "a", "b", "a"], ids=[f"s{k}" for k in range(6)])


def test_a_label_outside_the_classes_is_named():
    with pytest.raises(InputError, match=r"row 4 \(id '4'\) has the label 'cow', .* classes: cat, dog"):
        Samples.from_arrays(FEATURES, ["cat", "dog", "cat", "dog", "cow", "cat"], classes=["cat", "dog"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_feature_that_is_not_finite_is_named(bad):
    features = FEATURES.copy()
    features[4, 1] = bad
    with pytest.raises(InputError, match=r"X: row 4 \(id 'e'\), column 1: expected a finite number"):
        Samples.from_arrays(features, [0, 1] * 3, ids=list("abcdef"))


def test_duplicate_ids_are_named_with_their_rows():
    with pytest.raises(
        InputError, match=r"2 ids occur more than once: 'a' in rows 0, 3; 'b' in rows 1, 2, 4"
    ):
        Samples.from_arrays(FEATURES, [0, 1] * 3, ids=list("abbabc"))


@pytest.mark.parametrize("name", ["y", "ids", "true_labels", "trusted"])
def test_lengths_must_agree(name):
    with pytest.raises(InputError, match="6 samples but 2"):
        Samples.from_arrays(FEATURES, **{name: np.array([0, 1])})


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="no samples"):
        Samples.from_arrays(np.empty((0, 3)), [])


def test_repeated_class_names_are_refused():
    with pytest.raises(InputError, match="occur more than once: a"):
        Samples.from_arrays(FEATURES, list("aaaaaa"), classes=["a", "b", "a"])


def test_a_trusted_mask_must_be_boolean():
    samples = Samples.from_arrays(FEATURES, [0, 1] * 3, trusted=[1, 0, 0, 1, 0, 0])
    assert samples.trusted.tolist() == [True, False, False, True, False, False]
    with pytest.raises(InputError, match=r"row 1: expected true or false .* found '2'"):
        Samples.from_arrays(FEATURES, [0, 1] * 3, trusted=[1, 2, 0, 1, 0, 0])


@pytest.mark.parametrize("layout", ["nhw", "nchw", "nhwc"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_image_layouts(layout, as_tensor):
    channels = 1 if layout == "nhw" else 3
    images = np.random.default_rng(0).integers(0, 256, (2, channels, 4, 5), dtype=np.uint8)
    given = {"nhw": images[:, 0], "nchw": images, "nhwc": images.transpose(0, 2, 3, 1).copy()}[layout]
    samples = Samples.from_arrays(torch.from_numpy(given) if as_tensor else given, [0, 1])
    assert samples.inputs.dtype == torch.uint8
    np.testing.assert_array_equal(samples.inputs.numpy(), images)


def test_float_images_become_uint8_only_if_nothing_is_lost():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    exact = Samples.from_arrays(levels / 255)
    np.testing.assert_array_equal(exact.inputs[:, 0].numpy(), levels)
    fine = np.linspace(0, 1, 1024).reshape(1, 32, 32)
    kept = Samples.from_arrays(fine)
    assert kept.inputs.dtype == torch.float32
    np.testing.assert_allclose(kept.inputs[:, 0].numpy(), fine, atol=1e-7)


@pytest.mark.parametrize("bad", [-0.5, 1.5, float("nan")])
def test_float_images_outside_the_unit_interval_are_refused(bad):
    images = np.zeros((3, 4, 4))
    images[1, 2, 2] = bad
    with pytest.raises(InputError, match=r"row 1 has values"):
        Samples.from_arrays(images)


def test_integer_images_outside_0_to_255_are_refused():
    with pytest.raises(InputError, match="row 0 has values from 0 to 256"):
        Samples.from_arrays(np.array([[[0, 256]]]))


@pytest.mark.parametrize("shape", [(6,), (2, 5, 4, 4), (2, 3, 4, 4, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="found shape"):
        Samples.from_arrays(np.zeros(shape))


def test_strings_are_no_inputs():
    with pytest.raises(InputError, match="expected numbers"):
        Samples.from_arrays(np.array([["a", "b"]]))


def test_take_by_index_and_by_mask():
    samples = Samples.from_arrays(FEATURES, list("abcabc"), true_labels=list("abcabc"), trusted=[1, 0] * 3)
    some = samples.take([4, 0])
    assert some.ids.tolist() == ["4", "0"]
    assert some.inputs[:, 0].tolist() == [8, 0]
    assert some.labels.tolist() == [1, 0]
    assert some.classes == samples.classes
    masked = samples.take(samples.trusted)
    assert masked.ids.tolist() == ["0", "2", "4"]
    assert masked.true_labels.tolist() == [0, 2, 1]


def test_with_classes_matches_by_name():
    samples = Samples.from_arrays(FEATURES, list("bbaabb"), true_labels=["a", None, None, None, None, "b"])
    wider = samples.with_classes(("c", "b", "a"), "test")
    assert wider.labels.tolist() == [1, 1, 2, 2, 1, 1]
    assert wider.true_labels.tolist() == [2, -1, -1, -1, -1, 1]
    with pytest.raises(InputError, match=r"test: row 2 \(id '2'\).* 'a'.*classes: b"):
        samples.with_classes(("b",), "test")


def test_samples_are_a_copy():
    images = np.zeros((2, 3, 3), dtype=np.uint8)
    samples = Samples.from_arrays(images)
    images[:] = 7
    assert int(samples.inputs.max()) == 0
    images.flags.writeable = False
    assert int(Samples.from_arrays(images).inputs.min()) == 7


def test_given_labels_are_there_or_are_asked_for():
    samples = Samples.from_arrays(FEATURES, list("bbaabb"))
    assert samples.given.tolist() == [1, 1, 0, 0, 1, 1]
    with pytest.raises(
        InputError, match=r"labels: expected one for each of 6 samples \(0, 1, 2 and 3 more\)"
    ):
        _ = Samples.from_arrays(FEATURES).given
