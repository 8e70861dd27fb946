"""Folders of images: read by emlc and by torchvision, with files called safely whatever they were called."""

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

import sources
from emlc import InputError
from emlc.config import DataSettings
from emlc.data import read
from emlc.exports import export


def labels_of(run):
    """The corrected labels, and of trusted samples their own."""
    split = run.split()
    trusted = np.array(split.classes)[split.trusted.labels]
    return [*run.correct_labels(split.noisy)["corrected_label"], *trusted]


def test_pixels_of_hostile_classes(pixel_run, tmp_path):
    folder, said = export(pixel_run, "imagefolder", tmp_path / "out")
    files = pd.read_csv(folder / "files.csv", keep_default_na=False)
    classes = pd.read_csv(folder / "classes.csv", keep_default_na=False)
    assert classes["class"].tolist() == list(pixel_run.schema.classes)
    assert files["label"].tolist() == labels_of(pixel_run)
    folder_of = dict(zip(classes["class"], classes["folder"], strict=True))
    assert [path.split("/")[0] for path in files["path"]] == [folder_of[c] for c in files["label"]]
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    assert on_disk == set(files["path"])
    assert classes["images"].sum() == len(files) == 48
    assert said is not None
    assert said.startswith("48 images")
    split = pixel_run.split()
    ids = [*split.noisy.ids, *split.trusted.ids]
    pixels = dict(zip(ids, torch.cat([split.noisy.inputs, split.trusted.inputs]), strict=True))
    for path, sample_id in zip(files["path"], files["id"], strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / path)), pixels[sample_id][0])
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("link", [False, True])
def test_files_are_copied_or_linked(link, file_run, tmp_path):
    folder, _ = export(file_run, "imagefolder", tmp_path / "out", link=link)
    files = pd.read_csv(folder / "files.csv")
    split = file_run.split()
    originals = [*split.noisy.files.to_pylist(), *split.trusted.files.to_pylist()]
    for path, original in zip(files["path"], originals, strict=True):
        assert (folder / path).is_symlink() == link
        assert (folder / path).read_bytes() == Path(original).read_bytes()


def test_torchvision_and_emlc_read_it(file_run, tmp_path):
    folder, _ = export(file_run, "imagefolder", tmp_path / "out")
    theirs = ImageFolder(folder)
    ours = read(str(folder), DataSettings(), role="data")
    expected = sorted(labels_of(file_run))
    assert sorted(theirs.classes[k] for _, k in theirs.samples) == expected
    assert sorted(np.array(ours.classes)[ours.labels]) == expected


def test_other_kinds_of_files_become_png(tmp_path):
    """A file without an ending, and one with an ending that torchvision does not know."""
    for k in range(12):
        rgb = np.random.default_rng(k).integers(0, 256, (5, 4, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(tmp_path / f"{k}{'.gif' if k % 2 else ''}", "GIF" if k % 2 else "PNG")
    paths = [f"{k}{'.gif' if k % 2 else ''}" for k in range(12)]
    table = pd.DataFrame({"image": paths, "label": ["a", "b"] * 6, "checked": np.arange(12) < 4})
    table.to_csv(tmp_path / "d.csv", index=False)
    run = sources.untrained_run(tmp_path, data=str(tmp_path / "d.csv"), trusted_column="checked")
    folder, _ = export(run, "imagefolder", tmp_path / "out")
    split = run.split()
    everything = torch.cat([split.noisy.inputs, split.trusted.inputs])
    for k, path in enumerate(pd.read_csv(folder / "files.csv")["path"]):
        assert path.endswith(".png")
        np.testing.assert_array_equal(
            np.asarray(Image.open(folder / path).convert("RGB")), everything[k].permute(1, 2, 0)
        )


def test_classes_that_are_called_like_splits(tmp_path):
    """Folders called train and test would be taken for two sets."""
    paths = [f"d/{k}.png" for k in range(12)]
    sources.save_images(tmp_path, paths)
    table = pd.DataFrame({"image": paths, "label": ["train", "test"] * 6, "checked": np.arange(12) < 4})
    table.to_csv(tmp_path / "d.csv", index=False)
    run = sources.untrained_run(tmp_path, data=str(tmp_path / "d.csv"), trusted_column="checked")
    folder, _ = export(run, "imagefolder", tmp_path / "out")
    again = read(str(folder), DataSettings(), role="data")
    assert set(again.classes) <= {"class-train", "class-test"}
    assert len(again) == 12


def test_classes_that_are_called_like_the_tables(tmp_path):
    paths = [f"d/{k}.png" for k in range(12)]
    sources.save_images(tmp_path, paths)
    names = ["Classes.csv", "files.csv"]
    table = pd.DataFrame({"image": paths, "label": names * 6, "checked": np.arange(12) < 4})
    table.to_csv(tmp_path / "d.csv", index=False)
    run = sources.untrained_run(tmp_path, data=str(tmp_path / "d.csv"), trusted_column="checked")
    folder, _ = export(run, "imagefolder", tmp_path / "out")
    classes = pd.read_csv(folder / "classes.csv")
    assert classes["class"].tolist() == names
    assert classes["folder"].tolist() == ["Classes.csv-2", "files.csv-2"]
    assert len(ImageFolder(folder).samples) == len(pd.read_csv(folder / "files.csv")) == 12


@pytest.mark.parametrize("link", [False, True])
def test_what_cannot_be_written_is_not_called_unreadable(link, file_run, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr("shutil.copyfile", refuse)
    with pytest.raises(OSError, match="No space left") as raised:
        export(file_run, "imagefolder", tmp_path / "out", link=link)
    assert not isinstance(raised.value, InputError)
    assert list(tmp_path.iterdir()) == []


def test_refused(pixel_run, table_run, file_run, tmp_path):
    with pytest.raises(InputError, match="link: the images are not files of their own"):
        export(pixel_run, "imagefolder", tmp_path / "out", link=True)
    with pytest.raises(InputError, match="the samples are not images"):
        export(table_run, "imagefolder", tmp_path / "out")
    with pytest.raises(InputError, match="link: goes with --to imagefolder, not with csv"):
        export(file_run, "csv", tmp_path / "t.csv", link=True)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_gone_leaves_nothing(tmp_path):
    run = sources.untrained_run(tmp_path, **sources.image_paths(tmp_path), memory_gib=1e-9)
    (tmp_path / "photos/39.jpg").unlink()
    with pytest.raises(InputError, match=r"39\.jpg"):
        export(run, "imagefolder", tmp_path / "out")
    assert not (tmp_path / "out").exists()
