"""Images of modes that Pillow alone would turn black, grey or constant."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from emlc.config import NoiseSettings
from emlc.data import Schema, make_split, read
from emlc.errors import InputError

NOISY = NoiseSettings(noise="symmetric", noise_rate=0.2)
VALUES = {
    "float": (0, 1, np.float32),
    "float_beyond": (-3, 700, np.float32),
    "12 bits": (0, 4095, np.uint16),
    "8 bits in 16": (0, 255, np.uint16),
    "16 bits": (0, 65535, np.uint16),
    "32 bits": (1000, 2_000_000, np.int32),
}


def save_values(folder, kind, n=12):
    """Images of two classes whose values span the range over the set, but none of them alone."""
    low, high, dtype = VALUES[kind]
    ramp = np.linspace(low, high, n * 12).reshape(n, 3, 4).astype(dtype)
    for k, values in enumerate(ramp):
        path = folder / "ab"[k % 2] / f"{k:02d}.{'png' if dtype == np.uint16 else 'tif'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return ramp


def in_order(samples):
    """Pixels by the number that the files are called by."""
    order = np.argsort([name.split("/")[-1] for name in samples.ids])
    return samples.inputs[torch.from_numpy(order)].numpy()[:, 0]


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_scaled_by_the_range_of_the_whole_set(tmp_path, settings, kind, logged):
    ramp = save_values(tmp_path, kind)
    levels = in_order(read(str(tmp_path), settings(), role="data"))
    low, high, _ = VALUES[kind]
    expected = (ramp.astype(float) - low) / (high - low) * 255
    assert np.abs(levels - expected).max() <= 1
    assert (levels.min(), levels.max()) == (0, 255)
    assert "one colour" not in logged.text


def test_sixteen_bits_are_cut_to_their_upper_eight_as_always(tmp_path, settings):
    ramp = save_values(tmp_path, "16 bits")
    levels = in_order(read(str(tmp_path), settings(), role="data"))
    np.testing.assert_array_equal(levels, ramp >> 8)


def test_the_range_of_the_noisy_samples_is_told_once_and_kept_for_prediction(tmp_path, settings, logged):
    ramp = save_values(tmp_path / "data", "12 bits")
    values = np.array([[0, 512, 1024, 4095]] * 3, np.uint16)
    (tmp_path / "new").mkdir()
    Image.fromarray(values).save(tmp_path / "new" / "one.png")
    split, schema = make_split(settings(tmp_path / "data", trusted_per_class=2), NOISY, seed=0)
    noisy = ramp[[int(name[2:4]) for name in split.noisy.ids]]
    low, high = schema.image_range
    assert (low, high) == (noisy.min(), noisy.max())
    assert logged.text.count(f"their values from {low:g} to {high:g} become black to white") == 1
    kept = Schema.from_dict(json.loads(json.dumps(asdict(schema))))
    assert kept == schema
    new = read(str(tmp_path / "new"), settings(), role="predict", schema=kept).inputs
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    assert np.abs(new.numpy() - expected).max() <= 1


def test_a_set_range_clips_what_is_outside(tmp_path, settings):
    ramp = save_values(tmp_path, "12 bits")
    levels = in_order(read(str(tmp_path), settings(image_range=[1000, 2000.0]), role="data"))
    assert (levels[ramp <= 1000] == 0).all()
    assert (levels[ramp >= 2000] == 255).all()
    assert 120 <= levels[np.abs(ramp.astype(int) - 1500) < 20].mean() <= 136


def test_deep_images_beside_those_of_eight_bits_are_refused_with_a_way_out(tmp_path, settings, save_image):
    save_image(tmp_path / "a" / "00.png", size=(3, 4), grey=True)
    save_values(tmp_path / "b", "12 bits")
    with pytest.raises(
        InputError, match=r"(?s)12 images cannot be read.*has values from 0 .*--image_range ..LOW"
    ):
        read(str(tmp_path), settings(), role="data")
    inputs = read(str(tmp_path), settings(image_range=[0, 4095]), role="data").inputs
    assert inputs[1:].max() == 255


def test_values_that_are_not_finite_are_refused(tmp_path, settings):
    save_values(tmp_path, "float")
    values = np.full((3, 4), np.nan, np.float32)
    Image.fromarray(values).save(tmp_path / "a" / "99.tif")
    with pytest.raises(
        InputError, match=r"1 images cannot be read.*\n.*99\.tif: has values that are not fin"
    ):
        read(str(tmp_path), settings(), role="data")


def test_runs_of_before_read_their_images_as_they_did(tmp_path, settings):
    before = asdict(Schema(classes=("a", "b"), input_shape=(1, 3, 4)))
    del before["background"], before["image_range"]
    ramp = save_values(tmp_path, "12 bits")
    samples = read(str(tmp_path), settings(), role="data", schema=Schema.from_dict(before))
    np.testing.assert_array_equal(in_order(samples), ramp >> 8)


# Transparency


def icon(seed=0, size=(6, 5)):
    """A black picture that its alpha channel alone shows."""
    alpha = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return alpha, np.dstack([np.zeros((*size, 3), np.uint8), alpha])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize(("background", "level"), [("white", 255), ("#808080", 128), ("black", 0)])
def test_transparent_images_are_composed_on_a_colour(tmp_path, settings, mode, background, level):
    (tmp_path / "a").mkdir()
    alpha, rgba = icon()
    picture = Image.fromarray(rgba)
    if mode == "PA":
        picture = picture.convert("P").convert("PA")
        picture.putalpha(Image.fromarray(alpha))
    picture.convert(mode).save(tmp_path / "a" / ("a.tif" if mode == "PA" else "a.png"))
    inputs = read(str(tmp_path), settings(background=background), role="data").inputs
    assert inputs.shape[1] == (1 if mode == "LA" else 3)
    expected = level * (1 - alpha / 255)
    assert np.abs(inputs.numpy() - expected).max() <= 1


def test_a_transparent_colour_of_a_grey_image_counts_too(tmp_path, settings):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.array([[0, 7], [7, 90]], np.uint8)).save(tmp_path / "a" / "a.png", transparency=7)
    inputs = read(str(tmp_path), settings(), role="data").inputs
    assert inputs.tolist() == [[[[0, 255], [255, 90]]]]


def test_runs_of_before_drop_the_alpha_channel(tmp_path, settings):
    (tmp_path / "a").mkdir()
    Image.fromarray(icon()[1]).save(tmp_path / "a" / "a.png")
    schema = Schema.from_dict({"classes": ["a"], "input_shape": [3, 6, 5]})
    assert read(str(tmp_path), settings(), role="data", schema=schema).inputs.max() == 0


@pytest.mark.parametrize("memory_gib", [8.0, 0.0])
def test_many_images_of_one_colour_are_told(tmp_path, settings, logged, memory_gib):
    for k in range(20):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        Image.fromarray(icon(k)[1]).save(tmp_path / "ab"[k % 2] / f"{k}.png")
    named = settings(background="black", memory_gib=memory_gib, image_size=6)
    samples = read(str(tmp_path), named, role="data")
    samples.inputs[torch.arange(20)]
    assert logged.text.count("20 of 20 images that were looked at have one colour all over") == 1


def test_images_that_are_nearly_black_are_told(tmp_path, settings, logged):
    (tmp_path / "a").mkdir()
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 16, (6, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{k}.png")
    read(str(tmp_path), settings(), role="data")
    assert "3 images that were looked at are nearly black: no value is above 15 of 255" in logged.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"background": "snow-ish"}, "background: expected a colour"),
        ({"image_range": [1.0]}, "image_range: expected two numbers"),
        ({"image_range": [2.0, 1.0]}, "image_range: expected two numbers, the smaller one first"),
    ],
)
def test_wrong_colours_and_ranges_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        tiny.settings(**values)


# Other modes


def test_inks_become_light(tmp_path, settings):
    """Full cyan is without red; no ink is white."""
    (tmp_path / "a").mkdir()
    inks = np.zeros((2, 2, 4), np.uint8)
    inks[0, 0] = (255, 0, 0, 0)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a" / "a.tif")
    inputs = read(str(tmp_path), settings(), role="data").inputs
    assert inputs[0, :, 0, 0].tolist() == [0, 255, 255]
    assert (inputs[0, :, 1] == 255).all()


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_photographs_of_any_format_are_turned_upright(tmp_path, settings, ending, orientation):
    (tmp_path / "a").mkdir()
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:8, :16] = 255  # the upper left is white
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "a" / f"a.{ending}", exif=exif)
    turned = {2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 6: np.rot90(pixels, -1), 8: np.rot90(pixels)}
    upright = read(str(tmp_path), settings(), role="data").inputs[0].float().mean(0).numpy()
    assert np.abs(upright - turned[orientation]).mean() < 8


def test_programs_in_postscript_are_not_run(tmp_path, settings):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n")
    with pytest.raises(InputError, match=r"a\.png: not an image"):
        read(str(tmp_path), settings(), role="data")
