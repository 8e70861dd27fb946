"""Which images of a source are pretrained on: never those of the test set."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from emlc.config import PretrainSettings, Settings
from emlc.data import make_split
from emlc.errors import InputError
from emlc.pretraining.images import JoinedImages, check_images, read_images

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(40) % 2


def contents(images):
    return {bytes(image.numpy().transpose(1, 2, 0)) for image in images[torch.arange(len(images))]}


def originals(rows):
    return {IMAGES[row].tobytes() for row in rows}


@pytest.fixture
def source(tmp_path):
    """An .npz file with images, labels and their truth."""
    path = tmp_path / "images.npz"
    np.savez(path, X=IMAGES, y=LABELS, true_labels=LABELS)
    return str(path)


def test_with_trusted_samples_the_split_is_that_of_training(source):
    values = {"data": source, "trusted_per_class": 4, "test_fraction": 0.25, "noisy_limit": 11, "seed": 3}
    images, trusted = read_images(PretrainSettings(**values))
    settings = Settings(**values)
    split, _ = make_split(settings, settings, settings.seed)
    assert contents(images) == contents(split.noisy.inputs) | contents(split.trusted.inputs)
    assert len(images) == 11 + 8
    assert list(trusted.ids) == list(split.trusted.ids)
    assert list(trusted.labels) == list(split.trusted.labels)


def test_a_test_fraction_is_held_out_without_trusted_samples_too(source):
    values = {"data": source, "test_fraction": 0.25, "seed": 3}
    images, trusted = read_images(PretrainSettings(**values))
    settings = Settings(**values, trusted_per_class=4)
    split, _ = make_split(settings, settings, settings.seed)
    assert trusted is None
    assert len(images) == 30
    assert contents(images).isdisjoint(contents(split.test.inputs))


def test_digits_are_pretrained_on_without_their_test_quarter():
    images, _ = read_images(PretrainSettings(data="digits"))
    settings = Settings(data="digits", trusted_per_class=1)
    split, _ = make_split(settings, settings, 0)
    assert len(images) == 1797 - len(split.test)
    assert torch.equal(torch.cat([images, split.test.inputs]).sum(dim=0), load_digits_sum())


def load_digits_sum():
    return torch.from_numpy((load_digits().images * 15).sum(axis=0)[None]).long()


def save_npz(folder):
    np.savez(folder / "unlabelled.npz", X=IMAGES)
    return folder / "unlabelled.npz"


def save_folder(folder):
    for k, image in enumerate(IMAGES):
        (folder / "flat").mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / "flat" / f"{k}.png")
    return folder / "flat"


def save_csv(folder):
    paths = [str(path) for path in sorted(save_folder(folder).iterdir())]
    pd.DataFrame({"file": paths}).to_csv(folder / "files.csv", index=False)
    return folder / "files.csv"


def save_parquet(folder):
    content = [{"bytes": path.read_bytes(), "path": path.name} for path in save_folder(folder).iterdir()]
    (folder / "parquet").mkdir()
    pq.write_table(pa.table({"image": content}), folder / "parquet" / "train-0.parquet")
    pq.write_table(pa.table({"image": content[:5]}), folder / "parquet" / "test-0.parquet")
    return folder / "parquet"


@pytest.mark.parametrize("save", [save_npz, save_folder, save_csv, save_parquet])
def test_images_need_no_labels(save, tmp_path):
    source = str(save(tmp_path))
    images, trusted = read_images(PretrainSettings(data=source))
    assert len(images) == 40
    assert contents(images) == originals(range(40))
    assert trusted is None
    some, _ = read_images(PretrainSettings(data=source, noisy_limit=7))
    assert len(some) == len(contents(some)) == 7
    others, _ = read_images(PretrainSettings(data=source, noisy_limit=7, seed=1))
    assert contents(others) != contents(some)


def test_rows_that_are_left_out_are_not_pretrained_on(tmp_path):
    np.savez(tmp_path / "twice.npz", X=IMAGES, ids=np.arange(40) // 2)
    values = {"data": str(tmp_path / "twice.npz"), "repeated_ids": "first"}
    images, _ = read_images(PretrainSettings(**values))
    assert contents(images) == originals(range(0, 40, 2))
    some, _ = read_images(PretrainSettings(**values, noisy_limit=7))
    assert contents(some) < contents(images)


def test_a_test_set_that_would_not_be_read_is_refused(source):
    with pytest.raises(InputError, match="test: needs trusted samples"):
        PretrainSettings(data=source, test=source)


class Stored:
    """Images that are no tensor: read when asked for."""

    def __init__(self, images):
        self._images = images
        self.shape = tuple(images.shape)

    def __len__(self):
        return len(self._images)

    def read(self, rows, threads=None):
        return self._images[rows]


def test_joined_images_are_those_of_their_parts():
    images = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())
    joined = JoinedImages([Stored(images[:3]), Stored(images[3:4]), images[4:]])
    assert joined.shape == images.shape
    assert len(joined) == 40
    for rows in (torch.arange(40), torch.tensor([39, 3, 0, 2, 3]), torch.tensor([], dtype=torch.int64)):
        assert torch.equal(joined[rows], images[rows])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [(torch.zeros(5, 3), "the samples are rows of numbers"), (torch.zeros(1, 3, 8, 8), "there is 1 image")],
)
def test_what_cannot_be_pretrained_on(inputs, message):
    with pytest.raises(InputError, match=message):
        check_images(inputs)
