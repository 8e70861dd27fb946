import functools
import hashlib
import pickle
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from emlc.config import NoiseSettings
from emlc.data import make_split, read
from emlc.data.noise import CIFAR10_CLASSES, CIFAR100_CLASSES
from emlc.data.sources.read import open_source
from emlc.errors import InputError

CLEAN = NoiseSettings()
KINDS = {"cifar10": (CIFAR10, CIFAR10_CLASSES), "cifar100": (CIFAR100, CIFAR100_CLASSES)}


class Miniature:
    """A small data set in the files of CIFAR's python version, whose checksums torchvision is told."""

    def __init__(self, name, root, monkeypatch):
        self.kind, classes = KINDS[name]
        self.folder = root / self.kind.base_folder
        self.folder.mkdir(parents=True)
        self.monkeypatch = monkeypatch
        label_key = "labels" if name == "cifar10" else "fine_labels"
        n = 2 * len(classes)
        rng = np.random.default_rng(0)
        self.images, self.labels = {}, {}
        for attribute in ("train_list", "test_list"):
            files = [file for file, _ in getattr(self.kind, attribute)]
            rows = [rng.integers(0, 256, (n, 3072), dtype=np.uint8) for _ in files]
            labels = [(rng.permutation(n) % len(classes)).tolist() for _ in files]
            checksums = [
                self.write(file, {"data": pixels, label_key: codes})
                for file, pixels, codes in zip(files, rows, labels, strict=True)
            ]
            monkeypatch.setattr(
                self.kind, attribute, [list(pair) for pair in zip(files, checksums, strict=True)]
            )
            self.images[attribute] = np.concatenate(rows).reshape(-1, 3, 32, 32)
            self.labels[attribute] = [code for codes in labels for code in codes]
        meta = self.kind.meta
        checksum = self.write(meta["filename"], {meta["key"]: list(classes)})
        monkeypatch.setattr(self.kind, "meta", meta | {"md5": checksum})

    def write(self, file, content):
        """Write a file; returns its checksum."""
        (self.folder / file).write_bytes(pickle.dumps(content, protocol=2))
        return md5(self.folder / file)

    def archive(self, path, url):
        """Move the files into an archive, which torchvision is told to find at a URL."""
        with tarfile.open(path, "w:gz") as archive:
            archive.add(self.folder, arcname=self.folder.name)
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()
        self.monkeypatch.setattr(self.kind, "url", f"{url}/{path.name}")
        self.monkeypatch.setattr(self.kind, "tgz_md5", md5(path))


def md5(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def miniature(root, monkeypatch):
    return lambda name: Miniature(name, root, monkeypatch)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_by_name_with_its_test_set_in_the_original_order(settings, root, miniature, name):
    made = miniature(name)
    classes = KINDS[name][1]
    data = read(name, settings(data_root=str(root)), role="data")
    np.testing.assert_array_equal(data.inputs.numpy(), made.images["train_list"])
    assert data.labels.tolist() == data.true_labels.tolist() == made.labels["train_list"]
    assert data.classes == classes
    split, schema = make_split(settings(name, data_root=str(root), trusted_per_class=1), CLEAN, seed=0)
    assert np.bincount(split.trusted.labels).tolist() == [1] * len(classes)
    assert sorted([*split.noisy.ids, *split.trusted.ids], key=int) == data.ids.tolist()
    np.testing.assert_array_equal(split.test.inputs.numpy(), made.images["test_list"])
    assert split.test.labels.tolist() == made.labels["test_list"]
    assert split.test.ids[0] == "test-0"
    assert schema.input_shape == (3, 32, 32)


def test_the_settings_decide_on_the_test_set(settings, root, miniature):
    miniature("cifar10")
    named = settings("cifar10", data_root=str(root), trusted_per_class=1, test_fraction=0.2)
    split, _ = make_split(named, CLEAN, seed=0)
    assert len(split.test) == 20
    assert not any(name.startswith("test-") for name in split.test.ids)


@pytest.mark.parametrize(("name", "wrong"), [("cifar10", 5 / 10), ("cifar100", 1)])
def test_asymmetric_noise_knows_the_classes(settings, root, miniature, name, wrong):
    miniature(name)
    noise = NoiseSettings(noise="asymmetric", noise_rate=1.0)
    split, _ = make_split(settings(name, data_root=str(root), trusted_per_class=1), noise, seed=0)
    assert split.noise_rate_actual == wrong


def test_a_relative_root_may_begin_at_home(settings, tmp_path, monkeypatch, miniature):
    miniature("cifar10")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(read("cifar10", settings(data_root="~/root"), role="test")) == 20


def test_for_prediction_no_labels_are_read(settings, root, miniature):
    miniature("cifar10")
    assert read("cifar10", settings(data_root=str(root)), role="predict").labels is None


def test_there_is_no_validation_set(settings, root, miniature):
    miniature("cifar10")
    with pytest.raises(InputError, match="cifar10 has no validation set; --validation_fraction"):
        read("cifar10", settings(data_root=str(root)), role="validation")


# Downloading


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The URL of a web server of this machine that gives out the files of tmp_path."""
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_it_is_downloaded_once(settings, root, tmp_path, miniature, server, logged, name):
    made = miniature(name)
    made.archive(tmp_path / made.kind.filename, server)
    for _ in range(2):
        samples = read(name, settings(data_root=str(root)), role="data")
        np.testing.assert_array_equal(samples.inputs.numpy(), made.images["train_list"])
    assert logged.text.count(f"{name}: not in {root}; downloading {made.kind.url}") == 1


def test_an_archive_put_there_by_hand_needs_no_network(settings, root, miniature):
    made = miniature("cifar10")
    made.archive(root / made.kind.filename, "file:///nowhere")
    assert len(read("cifar10", settings(data_root=str(root)), role="data")) == 100


def test_without_network_it_says_what_to_do(settings, root, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "file:///nowhere/cifar-10-python.tar.gz")
    message = (
        rf"cifar10: not in {root}, and the download failed: .*Put .*cifar-10-python\.tar\.gz there by hand"
    )
    with pytest.raises(InputError, match=message):
        read("cifar10", settings(data_root=str(root)), role="data")


def test_a_download_with_another_checksum_is_refused(
    settings, root, tmp_path, miniature, server, monkeypatch
):
    made = miniature("cifar10")
    made.archive(tmp_path / made.kind.filename, server)
    monkeypatch.setattr(made.kind, "tgz_md5", "0" * 32)
    with pytest.raises(InputError, match="the download failed: File not found or corrupted"):
        read("cifar10", settings(data_root=str(root)), role="data")
    assert not made.folder.exists()


class Hostile:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("file", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_a_file_with_another_checksum_is_never_unpickled(
    settings, root, tmp_path, miniature, monkeypatch, file
):
    made = miniature("cifar10")
    made.write(file, {"data": Hostile(tmp_path / "executed")})
    monkeypatch.setattr(made.kind, "url", "file:///nowhere/cifar-10-python.tar.gz")
    for role in ("data", "test"):
        with pytest.raises(InputError, match="the download failed"):
            read("cifar10", settings(data_root=str(root)), role=role)
    assert not (tmp_path / "executed").exists()
    pickle.loads((made.folder / file).read_bytes())
    assert (tmp_path / "executed").exists()  # so it was hostile


# Parquet


@pytest.fixture
def save_parquet(save_hugging_face):
    """Save 30 training and 10 test images of CIFAR-10 as Hugging Face has them; returns the pixels."""

    def save(folder, names=CIFAR10_CLASSES, **columns):
        train = save_hugging_face(
            folder / "train-0.parquet", list(names), label=list(range(10)) * 3, **columns
        )
        test = save_hugging_face(
            folder / "test-0.parquet", list(names), first_seed=30, label=list(range(10)), **columns
        )
        return train, test

    return save


@pytest.mark.parametrize("place", [".", "cifar10", "cifar10/plain_text"])
def test_parquet_in_the_root(settings, root, save_parquet, place):
    train, test = save_parquet(root / place)
    split, schema = make_split(settings("cifar10", data_root=str(root), trusted_per_class=1), CLEAN, seed=0)
    np.testing.assert_array_equal(split.test.inputs.permute(0, 2, 3, 1).numpy(), test)
    rows = split.noisy.ids.astype(int)
    np.testing.assert_array_equal(split.noisy.inputs.permute(0, 2, 3, 1).numpy(), train[rows])
    assert split.noisy.true_labels.tolist() == (rows % 10).tolist()
    assert schema.classes == CIFAR10_CLASSES


def test_parquet_of_other_classes_is_refused(settings, root, save_parquet):
    save_parquet(root, names=[f"class {k}" for k in range(10)])
    with pytest.raises(InputError, match="expected the 10 classes of cifar10, found class 0"):
        open_source("cifar10", settings(data_root=str(root)), role="data")


def save_cifar100(folder, save_image, names=CIFAR100_CLASSES):
    """Parquet with the columns of CIFAR-100 on Hugging Face, without metadata; returns the pixels."""
    pixels = [save_image(folder / f"{k}.png", k, size=(4, 4)) for k in range(100)]
    images = [{"bytes": (folder / f"{k}.png").read_bytes(), "path": None} for k in range(100)]
    table = {"img": images, "fine_label": list(range(100)), "coarse_label": [k % 20 for k in range(100)]}
    for part in ("train", "test"):
        pq.write_table(pa.table(table), folder / f"{part}-0.parquet")
    return np.stack(pixels)


@pytest.mark.parametrize("by_name", [False, True])
def test_the_columns_of_cifar100(settings, root, save_image, by_name):
    pixels = save_cifar100(root, save_image)
    source = "cifar100" if by_name else str(root)
    samples = read(source, settings(data_root=str(root)), role="data")
    np.testing.assert_array_equal(samples.inputs.permute(0, 2, 3, 1).numpy(), pixels)
    assert samples.labels.tolist() == list(range(100))
    assert samples.classes == (CIFAR100_CLASSES if by_name else tuple(map(str, range(100))))
    assert (samples.true_labels is None) != by_name


def test_coarse_labels_on_demand_and_never_as_features(settings, root):
    table = pa.table({"a": [1.0, 2], "fine_label": [3, 4], "coarse_label": [0, 1]})
    root.mkdir()
    pq.write_table(table, root / "e.parquet")
    fine = read(str(root / "e.parquet"), settings(), role="data")
    coarse = read(str(root / "e.parquet"), settings(label_column="coarse_label"), role="data")
    assert (fine.classes, coarse.classes) == (("3", "4"), ("0", "1"))
    assert fine.inputs.tolist() == coarse.inputs.tolist() == [[1], [2]]
