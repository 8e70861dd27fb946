import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from emlc.config import NoiseSettings
from emlc.data import Samples, Schema, check_split, make_split, read, split_samples
from emlc.data.images import decode_many as decoding
from emlc.data.images.stored import StoredImages
from emlc.errors import InputError

CLEAN = NoiseSettings()
SYMMETRIC = NoiseSettings(noise="symmetric", noise_rate=0.5)
STORED = {"memory_gib": 0.0, "image_size": 6}
EVERYTHING = torch.arange(24)


def pixels(samples):
    return samples.inputs[torch.arange(len(samples))]


def save_photos(folder, save_image, n=24):
    """Photos of differing sizes in two class folders; returns their paths."""
    names = [f"{'cats' if k % 2 else 'dogs'}/{k:02d}.png" for k in range(n)]
    for k, name in enumerate(names):
        save_image(folder / name, k, size=(8 + k % 3, 9))
    return names


@pytest.fixture
def source(tmp_path, save_image):
    """A function that makes a source of 24 images, of a kind: folder, csv or parquet."""

    def make(kind):
        folder = tmp_path / "images"
        names = save_photos(folder, save_image)
        labels = [name.split("/")[0] for name in names]
        if kind == "folder":
            return folder
        path = tmp_path / f"data.{kind}"
        if kind == "csv":
            frame = pd.DataFrame({"path": [f"images/{name}" for name in names], "label": labels})
            frame.to_csv(path, index=False)
        else:
            images = [{"bytes": (folder / name).read_bytes(), "path": None} for name in names]
            pq.write_table(pa.table({"image": images, "label": labels}), path, row_group_size=5)
        return path

    return make


@pytest.fixture
def stored(source, settings):
    """A function that reads such a source without its images."""
    return lambda kind="folder", **values: read(str(source(kind)), settings(**STORED | values), role="data")


# The same images, wherever they are


@pytest.mark.parametrize("size", [{"image_size": 6}, {"image_size": 6, "resize": 7}])
@pytest.mark.parametrize("kind", ["folder", "csv", "parquet"])
def test_the_split_is_the_same_in_memory_on_disk_and_in_the_cache(tmp_path, settings, source, kind, size):
    path = source(kind)
    cache = {"image_cache": str(tmp_path / "cache")}
    common = size | {"trusted_per_class": 3, "validation_fraction": 0.5, "test_fraction": 0.25}
    ways = [{}, {"memory_gib": 0.0}, {"memory_gib": 0.0} | cache, cache]
    splits = [make_split(settings(path, **common, **way), SYMMETRIC, seed=1)[0] for way in ways]
    assert [isinstance(split.noisy.inputs, StoredImages) for split in splits] == [False, True, True, False]
    for split in splits[1:]:
        for role in ("noisy", "trusted", "validation", "test"):
            part, expected = getattr(split, role), getattr(splits[0], role)
            assert part.ids.tolist() == expected.ids.tolist()
            assert part.labels.tolist() == expected.labels.tolist()
            assert torch.equal(pixels(part), pixels(expected))
            assert part.inputs.shape == expected.inputs.shape
            assert (part.inputs.dtype, part.inputs.ndim) == (torch.uint8, 4)
            assert len(part.inputs) == len(part)


@pytest.mark.parametrize("kind", ["folder", "csv", "parquet"])
def test_images_come_in_the_order_asked_for(stored, kind):
    samples = stored(kind)
    everything = pixels(samples)
    assert (everything[1:] != everything[:-1]).flatten(1).any(dim=1).all()
    rows = torch.tensor([17, 3, 3, 23, 0, 16])
    assert torch.equal(samples.inputs[rows], everything[rows])
    part = samples.take(rows.numpy())
    assert isinstance(part.inputs, StoredImages)
    assert torch.equal(part.inputs[torch.tensor([3, 0])], everything[[23, 17]])
    assert samples.inputs[torch.tensor([], dtype=torch.int64)].shape == (0, 3, 6, 6)


class AsDataset:
    def __init__(self, inputs):
        self.inputs = inputs

    def __getitems__(self, rows):
        return self.inputs[torch.tensor(rows)]

    def __len__(self):
        return len(self.inputs)


@pytest.mark.parametrize("kind", ["folder", "parquet"])
@pytest.mark.parametrize("cached", [False, True])
def test_loading_processes_read_the_same(tmp_path, stored, kind, cached):
    samples = stored(kind, **({"image_cache": str(tmp_path / "cache")} if cached else {}))
    everything = pixels(samples)
    for workers in (0, 2):
        batches = DataLoader(
            AsDataset(samples.inputs), 5, num_workers=workers, collate_fn=lambda batch: batch
        )
        assert torch.equal(torch.cat(list(batches)), everything)
    assert torch.equal(pickle.loads(pickle.dumps(samples.inputs))[EVERYTHING], everything)


@pytest.mark.parametrize("size", [(31, 47), (47, 31), (40, 41), (100, 24), (24, 24)])
@pytest.mark.parametrize(("resize", "image_size"), [(24, 24), (25, 16), (32, 17)])
def test_resizing_and_cutting_are_torchvisions(tmp_path, settings, save_image, size, resize, image_size):
    values = save_image(tmp_path / "cats" / "a.png", size=size)
    named = settings(resize=resize, image_size=image_size)
    inputs = read(str(tmp_path), named, role="data").inputs
    known = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(image_size)])
    np.testing.assert_array_equal(
        inputs[0].permute(1, 2, 0).numpy(), np.asarray(known(Image.fromarray(values)))
    )


@pytest.mark.parametrize("memory_gib", [0.0, 8.0])
def test_one_colour_image_makes_all_of_them_colour(tmp_path, settings, save_image, memory_gib):
    for k in range(80):
        save_image(tmp_path / "cats" / f"{k:02d}.png", k, grey=True)
    named = settings(memory_gib=memory_gib, image_size=4)
    assert read(str(tmp_path), named, role="data").input_shape == (1, 4, 4)
    save_image(tmp_path / "cats" / "79.png", 79)
    colour = read(str(tmp_path), named, role="data")
    assert colour.input_shape == (3, 4, 4)
    assert pixels(colour).shape == (80, 3, 4, 4)


# The budget


def test_the_budget_holds_for_all_sets_together_and_is_told(tmp_path, settings, save_image, logged):
    for part in ("data", "trusted"):
        save_photos(
            tmp_path / part, lambda path, seed, part=part, **size: save_image(path, seed + len(part), **size)
        )
    need = 2 * 24 * 3 * 6 * 6
    named = {"trusted": str(tmp_path / "trusted"), "image_size": 6, "overlap": "drop"}
    split, _ = make_split(settings(tmp_path / "data", **named, memory_gib=need / 2**30), CLEAN, seed=0)
    assert isinstance(split.noisy.inputs, torch.Tensor)
    assert "stay on disk" not in logged.text
    split, _ = make_split(settings(tmp_path / "data", **named, memory_gib=(need - 1) / 2**30), CLEAN, seed=0)
    assert isinstance(split.noisy.inputs, StoredImages)
    assert isinstance(split.trusted.inputs, StoredImages)
    lines = [line for line in logged.messages if "stay on disk" in line]
    size, budget = f"{need / 2**30:.3g} GiB", f"{(need - 1) / 2**30:g} GiB"
    assert lines == [
        f"images stay on disk: 48 of 3 x 6 x 6 bytes take {size}, more than the {budget} of --memory_gib"
    ]


def test_images_that_stay_on_disk_need_a_size(source, settings):
    message = (
        r"24 images of 9 x 9, as the first, take .*, more than the 0 GiB of --memory_gib\. .*--image_size N"
    )
    with pytest.raises(InputError, match=message):
        read(str(source("folder")), settings(memory_gib=0.0), role="data")


@pytest.fixture
def counted(monkeypatch):
    """How many images were decoded, and how many headers read."""
    counts = {"decode": 0, "read_header": 0}

    def counting(name):
        function = getattr(decoding, name)

        def counted(*arguments):
            counts[name] += 1
            return function(*arguments)

        monkeypatch.setattr(decoding, name, counted)

    for name in counts:
        counting(name)
    return counts


def test_images_that_stay_on_disk_are_not_read_before_they_are_needed(
    tmp_path, settings, save_image, counted, monkeypatch
):
    monkeypatch.setattr(decoding, "_CORES", 2)
    save_photos(tmp_path / "images", save_image, 600)
    named = settings(tmp_path / "images", **STORED, trusted_per_class=5, test_fraction=0.1)
    split, _ = make_split(named, SYMMETRIC, seed=0)
    split.table()
    assert counted["decode"] == 0
    assert counted["read_header"] < 300  # until one is not grey, and a few blocks ahead
    split.noisy.inputs[torch.tensor([3, 1])]
    assert counted["decode"] == 2


def test_a_cache_in_the_home_folder_is_there(tmp_path, monkeypatch, stored):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    stored(image_cache="~/cache")
    assert any((tmp_path / "home/cache").iterdir())
    assert not (tmp_path / "~").exists()


def test_embedded_images_are_read_by_row_group(stored, monkeypatch):
    samples = stored("parquet")
    read_groups = []
    iter_batches = pq.ParquetFile.iter_batches

    def recorded(self, *arguments, row_groups, **named):
        read_groups.extend(row_groups)
        return iter_batches(self, *arguments, row_groups=row_groups, **named)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", recorded)
    samples.inputs[torch.tensor([23, 6, 22, 5])]
    assert read_groups == [1, 4]


def test_a_row_group_is_not_read_further_than_needed(tmp_path, settings, save_image):
    save_image(tmp_path / "a.png")
    image = (tmp_path / "a.png").read_bytes()
    pq.write_table(
        pa.table({"image": [{"bytes": image}] * 200, "label": ["a"] * 200}), tmp_path / "data.parquet"
    )
    images = read(str(tmp_path / "data.parquet"), settings(**STORED), role="data").inputs.images
    blocks = images.fetch(np.array([40, 3, 150]), 8)
    positions, found = next(blocks)
    assert (positions.tolist(), found) == ([1], [image])
    assert [positions.tolist() for positions, _ in blocks] == [[0], [2]]


def test_a_struct_of_a_path_and_no_bytes(tmp_path, settings, save_image):
    values = save_image(tmp_path / "photos" / "a.png", size=(6, 6))
    images = [{"bytes": None, "path": "photos/a.png"}, {"bytes": None, "path": "photos/gone.png"}]
    pq.write_table(pa.table({"image": images, "label": ["a", "b"]}), tmp_path / "data.parquet")
    with pytest.raises(InputError, match=r"row 1 \(.*photos/gone\.png\): no such file"):
        read(str(tmp_path / "data.parquet"), settings(), role="data")
    inputs = read(str(tmp_path / "data.parquet"), settings(**STORED), role="data").inputs
    np.testing.assert_array_equal(inputs[torch.tensor([0])][0].permute(1, 2, 0).numpy(), values)


@pytest.mark.parametrize("values", [[1, 2], [1.5, 2.5]])
def test_a_column_that_holds_no_images_is_named(tmp_path, settings, values):
    pd.DataFrame({"a": values, "label": ["u", "v"]}).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(InputError, match=r"column 'a' \(--image_column\) has values of type"):
        read(str(tmp_path / "data.parquet"), settings(image_column="a"), role="data")


# Other sources


def test_sources_are_brought_to_the_shape_of_the_data(source, settings, save_image, tmp_path):
    save_image(tmp_path / "one" / "a.png", size=(8, 9))
    schema = Schema(input_shape=(3, 8, 9))
    samples = read(str(tmp_path / "one"), settings(memory_gib=0.0), role="predict", schema=schema)
    assert isinstance(samples.inputs, StoredImages)
    assert samples.input_shape == (3, 8, 9)
    samples = read(str(source("folder")), settings(memory_gib=0.0), role="predict", schema=schema)
    with pytest.raises(InputError, match=r"01\.png: 9 x 9 pixels, expected 8 x 9; this image cannot be read"):
        samples.inputs[torch.tensor([0])]
    with pytest.raises(InputError, match=r"images, but each input of the data has shape \(4,\)"):
        read(str(tmp_path / "one"), settings(), role="predict", schema=Schema(input_shape=(4,)))


def test_float_images_do_not_go_with_images_on_disk(stored, settings):
    trusted = Samples.from_arrays(np.full((2, 3, 6, 6), 0.5003), ["cats", "dogs"])
    with pytest.raises(InputError, match=r"the noisy samples are images on disk.*--memory_gib"):
        split_samples(stored(), trusted, settings=settings())


# Unreadable images


@pytest.fixture
def broken(tmp_path, save_image):
    """Photos of which two of the data and one of the trusted ones are broken."""
    for part, bad in {"data": [5, 8], "trusted": [4]}.items():
        names = save_photos(
            tmp_path / part,
            lambda path, seed, part=part, **size: save_image(path, seed + 100 * len(part), **size),
        )
        for k in bad:
            (tmp_path / part / names[k]).write_text("no image")
    return tmp_path


@pytest.mark.parametrize("way", ["memory", "cache", "cache on disk"])
def test_unreadable_images_of_all_sets_are_listed_together(broken, settings, way):
    named = {"trusted": str(broken / "trusted"), "image_size": 6}
    named |= {"image_cache": str(broken / "cache")} if "cache" in way else {}
    named |= {"memory_gib": 0.0} if "disk" in way else {}
    with pytest.raises(InputError) as caught:
        make_split(settings(broken / "data", **named), CLEAN, seed=0)
    lines = str(caught.value).splitlines()
    assert lines == [
        f"{broken}/data: 2 images cannot be read; --skip_unreadable leaves them out:",
        "  - cats/05.png: not an image",
        "  - dogs/08.png: not an image",
        f"{broken}/trusted: 1 images cannot be read; --skip_unreadable leaves them out:",
        "  - dogs/04.png: not an image",
    ]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("memory_gib", [0.0, 8.0])
def test_unreadable_images_are_left_out_beforehand(broken, settings, logged, memory_gib, cached):
    named = {"trusted": str(broken / "trusted"), "image_size": 6, "memory_gib": memory_gib}
    named |= {"image_cache": str(broken / "cache")} if cached else {}
    split, _ = make_split(settings(broken / "data", skip_unreadable=True, **named), CLEAN, seed=0)
    assert (len(split.noisy), len(split.trusted)) == (22, 23)
    assert not {"cats/05.png", "dogs/08.png"} & set(split.noisy.ids)
    for part, folder in ((split.noisy, "data"), (split.trusted, "trusted")):
        for name, image in zip(part.ids, pixels(part), strict=True):
            picture = Image.open(broken / folder / name.removeprefix("trusted/")).resize(
                (6, 6), Image.Resampling.BILINEAR
            )
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture))
    assert (
        f"{broken}/data: left out 2 unreadable images: cats/05.png: not an image, dogs/08.png: "
        in logged.text
    )
    assert f"{broken}/trusted: left out 1 unreadable images: dogs/04.png: " in logged.text


def test_an_unreadable_image_is_named_when_it_is_needed(broken, settings):
    named = settings(broken / "data", trusted=str(broken / "trusted"), **STORED)
    split, _ = make_split(named, CLEAN, seed=0)
    row = split.noisy.ids.tolist().index("dogs/08.png")
    split.noisy.inputs[torch.tensor([row - 1])]
    with pytest.raises(
        InputError, match=r"data: dogs/08\.png: not an image.*--resume, or .*--skip_unreadable"
    ):
        split.noisy.inputs[torch.tensor([row - 1, row])]


# Which images are the same


def test_images_on_disk_overlap_by_path(tmp_path, settings, save_image):
    names = save_photos(tmp_path / "images", save_image)
    (tmp_path / "copy.png").write_bytes((tmp_path / "images" / names[5]).read_bytes())
    (tmp_path / "lists").mkdir()
    rows = "".join(f"images/{name},{name[:4]}\n" for name in names)
    (tmp_path / "data.csv").write_text("path,label\n" + rows)
    same = f"../images/./{names[3]},cats\n{tmp_path}/images/{names[4]},dogs\n../copy.png,dogs\n"
    (tmp_path / "lists" / "trusted.csv").write_text("path,label\n" + same)
    named = {"trusted": str(tmp_path / "lists" / "trusted.csv")} | STORED
    with pytest.raises(InputError, match=r"2 samples are both noisy and trusted, .*; noisy ids: 3, 4;"):
        make_split(settings(tmp_path / "data.csv", **named, overlap="error"), CLEAN, seed=0)
    split, _ = make_split(settings(tmp_path / "data.csv", **named, overlap="drop"), CLEAN, seed=0)
    assert split.noisy.ids.tolist() == [str(k) for k in range(24) if k not in (3, 4)]


def test_embedded_images_overlap_by_file_and_row(tmp_path, settings, source):
    path = source("parquet")
    named = STORED | {"trusted": str(path), "overlap": "drop"}
    with pytest.raises(InputError, match="all noisy samples are also trusted samples"):
        make_split(settings(path, **named), CLEAN, seed=0)
    other = tmp_path / "other.parquet"
    other.write_bytes(path.read_bytes())
    split, _ = make_split(settings(path, **named | {"trusted": str(other)}), CLEAN, seed=0)
    assert len(split.noisy) == 24
    assert len({*split.noisy.input_digests(), *split.trusted.input_digests()}) == 48


def test_rows_without_an_image_are_not_the_same(tmp_path, settings, save_image):
    save_image(tmp_path / "a.png")
    for name in ("data", "trusted"):
        (tmp_path / f"{name}.csv").write_text(
            f"path,label\n{'a.png' if name == 'data' else './a.png'},u\n,v\n"
        )
    data, trusted = (
        read(str(tmp_path / f"{n}.csv"), settings(**STORED), role="data") for n in ("data", "trusted")
    )
    same = [here == there for here, there in zip(data.input_digests(), trusted.input_digests(), strict=True)]
    assert same == [True, False]


def test_a_run_may_go_on_with_more_memory(tmp_path, settings, source):
    path = source("folder")
    common = {"trusted_per_class": 3, "image_size": 6}
    stored, _ = make_split(settings(path, **common, memory_gib=0.0), SYMMETRIC, seed=0)
    in_memory, _ = make_split(settings(path, **common), SYMMETRIC, seed=0)
    stored.save(tmp_path / "split.csv")
    check_split(stored, tmp_path / "split.csv")
    check_split(in_memory, tmp_path / "split.csv")
    other, _ = make_split(settings(path, **common), SYMMETRIC, seed=1)
    with pytest.raises(InputError, match=r"split\.csv: the data, settings or seed have changed"):
        check_split(other, tmp_path / "split.csv")
    stored.save(tmp_path / "split.csv")
    text = (tmp_path / "split.csv").read_text()
    digest = stored.noisy.input_digests()[4]
    assert digest.startswith("path:")
    (tmp_path / "split.csv").write_text(text.replace(digest, "path:" + "0" * 32))
    with pytest.raises(InputError, match="row 4 was"):
        check_split(stored, tmp_path / "split.csv")
