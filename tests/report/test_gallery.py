"""Which samples are shown for review, and what of them."""

import base64
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

import tiny
from emlc import Samples
from emlc.data.classes import UNKNOWN
from emlc.report.gallery import Choice, choose, make_gallery, plain_gallery
from emlc.report.thumbnails import thumbnails


def label_table(samples, seed=0):
    rng = np.random.default_rng(seed)
    names = np.array(samples.classes, dtype=object)
    n = len(samples)
    given, corrected = samples.labels, np.where(rng.random(n) < 0.5, samples.labels, rng.integers(0, 3, n))
    return pd.DataFrame(
        {
            "id": samples.ids,
            "given_label": names[given],
            "corrected_label": names[corrected],
            "corrected_probability": rng.random(n),
            "retain_weight": rng.random(n),
            "predicted_label": names[rng.integers(0, 3, n)],
            "label_quality": rng.random(n),
            "is_label_issue": given != corrected,
        }
    )


def picture(uri):
    kind, encoded = uri.split(",", 1)
    return kind, Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))


# Choice


def test_the_least_probable_labels_the_unsure_and_a_random_sample():
    table = label_table(tiny.samples(200))
    rows, uncertain, places = choose(table, 50)
    assert len(set(rows)) == 50
    assert table["label_quality"].iloc[rows].is_monotonic_increasing
    drawn = rows[places != UNKNOWN]
    assert sorted(places[places != UNKNOWN]) == list(range(10))
    others = table.drop(index=drawn)
    worst = others["label_quality"].sort_values().index[:35]
    assert set(worst) <= set(rows)
    unsure = others.drop(index=worst)["corrected_probability"].sort_values().index[:5]
    assert set(rows[uncertain]) == set(unsure)
    assert set(rows) == {*worst, *unsure, *drawn}


def test_the_random_sample_does_not_depend_on_the_labels():
    """Every row has the same chance, whatever its quality; and the order does not change with the size."""
    drawn = []
    for seed, size in ((0, 50), (1, 50), (2, 150)):
        rows, _, places = choose(label_table(tiny.samples(200), seed), size)
        drawn.append(rows[np.argsort(places)][(places == UNKNOWN).sum() :][:10].tolist())
    assert drawn[0] == drawn[1] == drawn[2]
    large = label_table(tiny.samples(3000))
    rows, _, places = choose(large, 2000)
    mean = large["label_quality"].iloc[rows[places != UNKNOWN]].mean()
    assert abs(mean - 0.5) < 4 * np.sqrt(1 / 12 / 400)


@pytest.mark.parametrize("size", [200, 5000])
def test_all_samples_where_they_fit(size):
    table = label_table(tiny.samples(200))
    rows, uncertain, places = choose(table, size)
    assert not uncertain.any()
    assert table["label_quality"].iloc[rows].is_monotonic_increasing
    assert sorted(rows) == sorted(places) == list(range(200))


def test_one_sample():
    rows, uncertain, places = choose(label_table(tiny.samples(200)), 1)
    assert (len(rows), uncertain.tolist(), places.tolist()) == (1, [False], [UNKNOWN])


# Content


def all_of(n):
    return Choice(np.arange(n), np.zeros(n, dtype=np.bool_), np.arange(n))


def test_records():
    n = 40
    rng = np.random.default_rng(3)
    q = rng.dirichlet([0.3] * 3, n)
    samples = Samples.from_arrays(
        np.stack([np.arange(n), rng.normal(size=n)], axis=1),
        rng.integers(0, 3, n),
        classes=list(tiny.CLASSES),
        ids=[f"id {k}" for k in range(n)],
    )
    table = label_table(samples).assign(true_label=[*["cow"] * 20, *[None] * 20])
    known = table.assign(**{f"probability_{name}": q[:, c] for c, name in enumerate(tiny.CLASSES)})
    rows = rng.permutation(n)[:30]
    places = np.where(np.arange(30) % 3 == 0, np.arange(30) // 3, UNKNOWN)
    choice = Choice(rows, np.arange(30) >= 26, places)
    gallery = make_gallery(known.iloc[rows], choice, tiny.CLASSES, samples.take(rows), ("row", "value"))
    assert (gallery.content, gallery.columns, gallery.hidden_values) == ("values", ["row", "value"], 0)
    assert [record["id"] for record in gallery.records] == [f"id {k}" for k in rows]
    assert [record["uncertain"] for record in gallery.records] == [False] * 26 + [True] * 4
    assert [record["place"] for record in gallery.records[:5]] == [0, None, None, 1, None]
    by_id = table.set_index("id")
    for record in gallery.records:
        row, k = by_id.loc[record["id"]], int(record["id"].split()[1])
        assert tiny.CLASSES[record["given"]] == row["given_label"]
        if row["corrected_label"] != row["given_label"]:
            assert tiny.CLASSES[record["suggested"]] == row["corrected_label"]
        else:
            assert record["suggested"] is None
        assert record["true"] == (1 if k < 20 else None)
        assert record["retain"] == pytest.approx(row["retain_weight"], rel=1e-3)
        shown = dict(record["top"])
        assert record["given"] in shown
        assert shown[int(q[k].argmax())] == pytest.approx(q[k].max(), rel=1e-3)
        for c in set(range(3)) - shown.keys():
            assert q[k, c] < 0.001
        assert [float(value) for value in record["content"]] == pytest.approx(
            samples.inputs[k].tolist(), rel=1e-3
        )


def test_without_the_samples_there_is_nothing_to_see_but_a_suggestion():
    samples = tiny.samples(40)
    table = label_table(samples)
    gallery = make_gallery(table, all_of(40), tiny.CLASSES)
    assert gallery.content == "none"
    for record, (_, row) in zip(gallery.records, table.iterrows(), strict=True):
        assert record["top"] == []
        if row["corrected_label"] == row["given_label"]:
            assert record["suggested"] is None
        else:
            assert tiny.CLASSES[record["suggested"]] == row["corrected_label"]


def test_long_vectors_are_abbreviated_and_texts_shown_instead():
    samples = replace(tiny.samples(10), inputs=torch.arange(4000.0).reshape(10, 400))
    gallery = make_gallery(label_table(samples), all_of(10), tiny.CLASSES, samples)
    assert gallery.hidden_values == 388
    assert gallery.columns == [str(k) for k in range(12)]
    assert {len(record["content"]) for record in gallery.records} == {12}
    texts = [f"<b>text {k}</b> " * (1000 if k == 3 else 1) for k in range(10)]
    with_texts = replace(samples, texts=pa.array(texts))
    assert gallery.cut_at is None
    gallery = make_gallery(label_table(samples), all_of(10), tiny.CLASSES, with_texts)
    assert gallery.content == "text"
    for record in gallery.records:
        whole = texts[int(record["id"][1:])]
        assert len(record["content"]) <= 2000
        assert whole.startswith(record["content"].removesuffix("…"))
    assert gallery.cut_at == 2000
    short = with_texts.take(np.arange(3))
    assert plain_gallery(with_texts, None, ()).cut_at == 2000
    assert plain_gallery(short, None, ()).cut_at is None


# Thumbnails


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("floats", [False, True])
def test_small_images_are_shown_without_loss(channels, floats):
    pixels = np.random.default_rng(0).integers(0, 256, (5, channels, 8, 6)).astype(np.uint8)
    inputs = torch.from_numpy(pixels.astype(np.float32) / 255 if floats else pixels)
    samples = replace(tiny.samples(5), inputs=inputs)
    rows = np.array([3, 1])
    for row, uri in zip(rows, thumbnails(samples.take(rows)), strict=True):
        kind, image = picture(uri)
        assert kind == "data:image/png;base64"
        shown = np.asarray(image).reshape(8, 6, channels).transpose(2, 0, 1)
        np.testing.assert_array_equal(shown, pixels[row])


def test_large_images_are_made_small():
    samples = replace(tiny.samples(1), inputs=torch.zeros((1, 3, 400, 200), dtype=torch.uint8))
    kind, image = picture(thumbnails(samples)[0])
    assert kind == "data:image/jpeg;base64"
    assert image.size == (80, 160)


def test_files_are_opened_again_and_the_pixels_serve_where_they_are_gone(tmp_path):
    Image.new("RGB", (300, 150), (0, 158, 115)).save(tmp_path / "good.jpg")
    Image.new("P", (20, 20), 0).save(tmp_path / "palette.png", transparency=0)
    Image.new("I;16", (20, 20), 300).save(tmp_path / "deep.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    names = ["good.jpg", "palette.png", "deep.png", "broken.png", "gone.png"]
    samples = replace(
        tiny.samples(5),
        inputs=torch.full((5, 3, 8, 8), 7, dtype=torch.uint8),
        files=pa.array([str(tmp_path / name) for name in names]),
    )
    shown = [picture(uri)[1] for uri in thumbnails(samples)]
    assert shown[0].size == (160, 80)
    np.testing.assert_allclose(np.asarray(shown[0])[40, 80], (0, 158, 115), atol=4)
    assert shown[1].size == (20, 20)
    for image in shown[3:]:
        assert image.size == (8, 8)
        assert (np.asarray(image) == 7).all()


def test_files_of_many_bits_or_with_transparency_are_shown_as_people_see_them(tmp_path):
    values = np.array([[0, 4095], [2048, 1024]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)).save(tmp_path / "icon.png")
    files = pa.array([str(tmp_path / name) for name in ("deep.png", "icon.png")], pa.large_string())
    samples = replace(Samples.from_arrays(np.zeros((2, 1, 2, 2), np.uint8), ["a", "b"]), files=files)
    deep, icon = (np.asarray(picture(uri)[1].convert("L")) for uri in thumbnails(samples))
    assert np.abs(deep - values / 4095 * 255).max() <= 1
    assert icon.tolist() == [[255, 0]]
