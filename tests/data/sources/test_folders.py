"""Which files of a folder are read as images, and what is said of the others."""

import os

import numpy as np
import pytest
from PIL import Image, features

from emlc.data import read
from emlc.errors import InputError

ENDINGS = ["gif", "jfif", "tif", "tiff", "bmp", "webp", "jpe", "JPG", "png", "ppm", "tga", "jp2"]


@pytest.mark.parametrize("ending", [*ENDINGS, *(["avif"] if features.check("avif") else [])])
def test_files_are_read_whatever_format_they_have(tmp_path, settings, ending, logged):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (16, 8), (200, 40, 40)).save(tmp_path / "a" / f"x.{ending}")
    pixels = read(str(tmp_path), settings(), role="data").inputs
    assert pixels.shape == (1, 3, 8, 16)
    np.testing.assert_allclose(pixels.float().mean((0, 2, 3)), [200, 40, 40], atol=8)
    assert not logged.text


def test_the_first_picture_of_a_film_is_read(tmp_path, settings):
    (tmp_path / "a").mkdir()
    frames = [Image.new("L", (4, 4), level) for level in (10, 200)]
    frames[0].save(tmp_path / "a" / "x.gif", save_all=True, append_images=frames[1:])
    assert set(read(str(tmp_path), settings(), role="data").inputs.flatten().tolist()) == {10}


def test_what_is_left_out_is_counted_by_ending(tmp_path, settings, save_image, logged):
    save_image(tmp_path / "a" / "x.png")
    for name in ("a/x.heic", "a/y.HEIC", "a/movie.mp4", "a/noending", "readme.txt"):
        (tmp_path / name).write_text("x")
    for name in (".DS_Store", "a/Thumbs.db", "a/desktop.ini", "a/._x.png"):
        (tmp_path / name).write_text("x")
    save_image(tmp_path / "__MACOSX" / "a" / "x.png")
    samples = read(str(tmp_path), settings(), role="data")
    assert samples.ids.tolist() == ["a/x.png"]
    left_out = "left out 5 files that are not read as images, by their ending: .heic (2), "
    assert logged.text.count(left_out) == 1
    assert all(part in logged.text for part in (".mp4 (1)", "no ending (1)", ".txt (1)"))
    assert ".db" not in logged.text


@pytest.mark.parametrize(
    ("inside", "message"),
    [("x.svg", r"have no images: b, only \.svg \(1\); convert"), (None, "have no images: b; convert")],
)
def test_a_class_without_an_image_is_an_error(tmp_path, settings, save_image, inside, message):
    save_image(tmp_path / "a" / "x.png")
    (tmp_path / "b").mkdir()
    if inside:
        (tmp_path / "b" / inside).write_text("x")
    with pytest.raises(InputError, match="1 sub-folders, which would be classes, " + message):
        read(str(tmp_path), settings(), role="data")
    assert len(read(str(tmp_path), settings(), role="predict")) == 1


def test_a_folder_of_other_files_says_which(tmp_path, settings):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.heic").write_text("x")
    with pytest.raises(InputError, match=r"no images.*; not read as images: \.heic \(1\)"):
        read(str(tmp_path), settings(), role="data")


def test_links_in_a_circle_are_followed_once(tmp_path, settings, save_image, logged):
    save_image(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "b").symlink_to(tmp_path / "c", target_is_directory=True)
    (tmp_path / "c").symlink_to(tmp_path / "b", target_is_directory=True)
    assert read(str(tmp_path), settings(), role="data").ids.tolist() == ["a/x.png"]
    assert "left out links to folders above them: a/again" in logged.text


def test_links_to_other_folders_are_followed(tmp_path, settings, save_image):
    save_image(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert read(str(tmp_path / "data"), settings(), role="data").ids.tolist() == ["a/x.png"]


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are UTF-16")
def test_names_that_are_no_text_are_refused(tmp_path, settings, save_image):
    save_image(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "x.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/a/caf\xe9.png"))
    with pytest.raises(InputError, match=r"b'caf\\xe9\.png' is not in UTF-8; rename it"):
        read(str(tmp_path), settings(), role="data")


def test_names_with_line_breaks_are_read(tmp_path, settings, save_image):
    save_image(tmp_path / "a\nb" / "x\n.png")
    samples = read(str(tmp_path), settings(), role="data")
    assert (samples.ids.tolist(), samples.classes) == (["a\nb/x\n.png"], ("a\nb",))


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes of that kind")
def test_files_that_are_empty_cut_off_or_gone_are_told_apart(tmp_path, settings, save_image):
    save_image(tmp_path / "a" / "cut.png", size=(40, 40))
    content = (tmp_path / "a" / "cut.png").read_bytes()
    (tmp_path / "a" / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "a" / "empty.png").touch()
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")  # to open it would wait for ever
    with pytest.raises(InputError) as caught:
        read(str(tmp_path), settings(), role="data")
    reasons = [line.split(": ", 1)[1] for line in str(caught.value).splitlines()[1:]]
    assert "truncated" in reasons[0]
    assert reasons[1:] == ["not an image", "no such file", "not a file"]
