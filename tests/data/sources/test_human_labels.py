import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from emlc.config import NoiseSettings
from emlc.data import Samples, make_split, split_samples
from emlc.errors import InputError

TRUE = np.random.default_rng(0).integers(0, 10, 40)
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def columns():
    """The columns of CIFAR-10_human.pt, as they are called there."""
    names = ("worse_label", "aggre_label", "random_label1", "random_label2", "random_label3")
    shifted = {
        name: np.where(np.arange(40) % (k + 2) == 0, (TRUE + 1) % 10, TRUE) for k, name in enumerate(names)
    }
    return {"clean_label": TRUE, **shifted}


@pytest.fixture
def split(settings, tmp_path):
    """A function that splits 40 samples of known labels with a file of human labels."""
    data = Samples.from_arrays(np.arange(80).reshape(40, 2), TRUE, classes=NAMES)

    def split(file, key=None, **values):
        named = settings(human_labels=str(file), human_labels_key=key, trusted_per_class=1, **values)
        return split_samples(data, settings=named)

    return split


def by_row(samples, labels):
    """The labels of samples, whose ids are row numbers, out of those of all rows."""
    return np.asarray(labels)[samples.ids.astype(int)]


def test_samples_that_are_marked_as_trusted_keep_the_datas_own_labels(tmp_path, settings, columns):
    np.savez(tmp_path / "human.npz", **columns)
    data = Samples.from_arrays(np.arange(80).reshape(40, 2), TRUE, classes=NAMES, trusted=np.arange(40) < 35)
    named = {"human_labels": str(tmp_path / "human.npz"), "human_labels_key": "worst"}
    chosen = settings(**named, drop_untrusted_classes=True)
    split = split_samples(data, settings=chosen)
    assert (columns["worse_label"][:35] != TRUE[:35]).any()
    for part, codes in ((split.trusted, TRUE), (split.noisy, columns["worse_label"])):
        names = np.array(split.classes)[part.labels]
        np.testing.assert_array_equal(names, by_row(part, np.array(NAMES)[codes]))


@pytest.mark.parametrize("ending", ["pt", "npz", "csv"])
@pytest.mark.parametrize(
    ("key", "column"),
    [
        ("worst", "worse_label"),
        ("aggregate", "aggre_label"),
        ("random2", "random_label2"),
        ("worse_label",) * 2,
    ],
)
def test_human_labels_are_given_and_the_datas_own_are_true(tmp_path, split, columns, ending, key, column):
    file = tmp_path / f"CIFAR-10_human.{ending}"
    if ending == "pt":
        torch.save(columns, file)
    elif ending == "npz":
        np.savez(file, **columns)
    else:
        pd.DataFrame(columns).to_csv(file, index=False)
    found = split(file, key)
    np.testing.assert_array_equal(found.noisy.labels, by_row(found.noisy, columns[column]))
    np.testing.assert_array_equal(found.noisy.true_labels, by_row(found.noisy, TRUE))
    np.testing.assert_array_equal(found.trusted.labels, by_row(found.trusted, TRUE))
    wrong = columns[column] != TRUE
    assert found.noise_rate_actual == by_row(found.noisy, wrong).mean()


def test_labels_by_name(tmp_path, split, columns):
    names = {name: np.array(NAMES)[values] for name, values in columns.items()}
    pd.DataFrame(names).to_csv(tmp_path / "human.csv", index=False)
    found = split(tmp_path / "human.csv", "worst")
    np.testing.assert_array_equal(found.noisy.labels, by_row(found.noisy, columns["worse_label"]))


def test_cifar100n_has_one_label_an_image(tmp_path, split, columns):
    file = tmp_path / "CIFAR-100_human.pt"
    coarse = {"clean_coarse_label": TRUE, "noisy_coarse_label": TRUE}
    torch.save({"clean_label": TRUE, "noisy_label": columns["worse_label"], **coarse}, file)
    for key in (None, "noisy", "noisy_label"):
        found = split(file, key)
        np.testing.assert_array_equal(found.noisy.labels, by_row(found.noisy, columns["worse_label"]))


def test_which_labels_must_be_said_where_there_are_several(tmp_path, split, columns):
    torch.save(columns, tmp_path / "human.pt")
    for key, got in ((None, "none"), ("worse", "worse")):
        with pytest.raises(
            InputError, match=rf"human_labels_key: expected one of worse_label, .*, got {got}"
        ):
            split(tmp_path / "human.pt", key)


def test_a_file_in_another_order_is_refused(tmp_path, split, columns):
    swapped = TRUE.copy()
    swapped[[7, 30]] = (TRUE[[7, 30]] + 3) % 10
    torch.save(columns | {"clean_label": swapped}, tmp_path / "human.pt")
    message = (
        rf"clean_label differs .* in 2 of 40 rows; the first is row 7 \(id '7'\): "
        rf"'{NAMES[swapped[7]]}' in the file, '{NAMES[TRUE[7]]}' in the data"
    )
    with pytest.raises(InputError, match=message):
        split(tmp_path / "human.pt", "worst")


def test_a_file_of_another_length_is_refused(tmp_path, split, columns):
    torch.save({name: values[:39] for name, values in columns.items()}, tmp_path / "human.pt")
    with pytest.raises(InputError, match=r"clean_label: 39 labels, but the data have 40 samples"):
        split(tmp_path / "human.pt", "worst")


def test_a_label_that_no_class_has_is_refused(tmp_path, split, columns):
    torch.save(columns | {"worse_label": np.where(np.arange(40) == 5, 10, TRUE)}, tmp_path / "human.pt")
    with pytest.raises(InputError, match=r"worse_label: row 5 \(id '5'\) has the label '10'"):
        split(tmp_path / "human.pt", "worst")


def test_a_file_without_clean_labels_is_refused(tmp_path, split, columns):
    del columns["clean_label"]
    torch.save(columns, tmp_path / "human.pt")
    with pytest.raises(InputError, match=r"human\.pt: no 'clean_label'.*found: worse_label, aggre_label"):
        split(tmp_path / "human.pt", "worst")


def old_pickle(values):
    """An array as numpy 1 pickled it under Python 3, module names and integer flags included."""
    text = pickle.dumps(values, protocol=2)
    return text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def test_arrays_pickled_by_numpy_1_are_read(tmp_path, split, columns):
    torch.save(columns, tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name.endswith("data.pkl"):
                assert content == pickle.dumps(columns, protocol=2)
                content = old_pickle(columns)
                assert b"numpy.core" in content
            old.writestr(name, content)
    found = split(tmp_path / "old.pt", "worst")
    np.testing.assert_array_equal(found.noisy.labels, by_row(found.noisy, columns["worse_label"]))


class Hostile:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_is_not_executed(tmp_path, split, columns, legacy):
    file, trace = tmp_path / "human.pt", tmp_path / "executed"
    torch.save(columns | {"more": Hostile(trace)}, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"human\.pt: expected a dictionary of integer arrays") as caught:
        split(file, "worst")
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)
    torch.load(file, weights_only=False)
    assert trace.exists()  # so it was hostile


def test_an_npz_of_objects_is_not_unpickled(tmp_path, split, columns):
    trace = tmp_path / "executed"
    np.savez(tmp_path / "human.npz", **columns, more=np.array([Hostile(trace)], dtype=object))
    with pytest.raises(InputError, match=r"human\.npz: cannot be read"):
        split(tmp_path / "human.npz", "worst")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("human.npy", b"\x93NUMPY", r"is not opened: .* pickles.*CIFAR-10_human\.pt .* \.npz or \.csv"),
        ("human.txt", b"", r"expected a \.pt, \.pth, \.npz, \.csv file"),
        ("human.pt", b"nonsense", r"human\.pt: (cannot be read|expected a dictionary)"),
        ("human.csv", b"", r"human\.csv: cannot be read"),
        ("human.pt", None, r"human\.pt: cannot be read.*No such file"),
    ],
)
def test_other_files_are_refused(tmp_path, split, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        split(tmp_path / name, "worst")


def test_a_pickle_of_something_else_is_refused(tmp_path, split):
    torch.save([1, 2], tmp_path / "human.pt")
    with pytest.raises(InputError, match="expected a mapping of names to labels, found list"):
        split(tmp_path / "human.pt", "worst")


def test_a_source_with_human_labels(tmp_path, settings, columns):
    frame = pd.DataFrame({"x": np.arange(40), "label": TRUE})
    frame.to_csv(tmp_path / "data.csv", index=False)
    torch.save(columns, tmp_path / "human.pt")
    human = {"human_labels": str(tmp_path / "human.pt"), "human_labels_key": "worst"}
    named = settings(tmp_path / "data.csv", trusted_per_class=1, **human)
    found, _ = make_split(named, NoiseSettings(), seed=0)
    np.testing.assert_array_equal(found.noisy.labels, by_row(found.noisy, columns["worse_label"]))
