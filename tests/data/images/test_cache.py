import signal
import subprocess
import sys
import threading
from collections import namedtuple

import numpy as np
import pytest
import torch
from filelock import FileLock

from emlc.data import read
from emlc.data.images import cache
from emlc.data.images import decode_many as decoding
from emlc.data.sources.read import open_source
from emlc.errors import InputError

N = 60
KILLED_AFTER = 25

# Reads a folder into a cache, and is killed in the middle, as by a batch system.
KILLED = f"""
import itertools, os, signal, sys
from emlc.config import DataSettings
from emlc.data import read
from emlc.data.images import cache, decode_many as decoding

decode, count = decoding.decode, itertools.count(1)

def decode_or_die(*arguments):
    if next(count) > {KILLED_AFTER}:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(*arguments)

decoding.decode, decoding._BLOCK, decoding._CORES, cache._COMMIT_BYTES = decode_or_die, 4, 1, 1
read(sys.argv[1], DataSettings(image_size=6, memory_gib=0.0, image_cache=sys.argv[2]), role="data")
"""


@pytest.fixture
def folder(tmp_path, save_image):
    for k in range(N):
        save_image(tmp_path / "images" / "cats" / f"{k:02d}.png", k, size=(9, 8))
    return tmp_path / "images"


@pytest.fixture
def cached(tmp_path, folder, settings):
    """A function that reads the images through the cache."""

    def read_cached(**values):
        named = {"image_size": 6, "memory_gib": 0.0, "image_cache": str(tmp_path / "cache")} | values
        return read(str(folder), settings(**named), role="data")

    return read_cached


@pytest.fixture
def expected(folder, settings):
    """The pixels without a cache."""
    return read(str(folder), settings(image_size=6), role="data").inputs


@pytest.fixture
def decoded(monkeypatch):
    """The images that are decoded, one by one, by name."""
    names = []
    decode = decoding.decode

    def recorded(image, *arguments):
        names.append(image.name)
        return decode(image, *arguments)

    monkeypatch.setattr(decoding, "decode", recorded)
    monkeypatch.setattr(decoding, "_BLOCK", 4)
    monkeypatch.setattr(decoding, "_CORES", 1)
    monkeypatch.setattr(cache, "_COMMIT_BYTES", 1)
    return names


def everything(samples):
    return samples.inputs[torch.arange(len(samples))]


def test_no_image_is_decoded_twice(cached, expected, decoded):
    assert torch.equal(everything(cached()), expected)
    assert len(decoded) == N
    assert torch.equal(everything(cached()), expected)
    assert torch.equal(cached(memory_gib=1.0).inputs, expected)
    assert len(decoded) == N


def test_the_size_is_told_before_the_first_image_is_decoded(tmp_path, cached, logged, monkeypatch):
    def decode(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "decode", decode)
    with pytest.raises(KeyboardInterrupt):
        cached()
    told = f"images: writing 60 decoded images, {60 * 108 / 2**30:.3g} GiB, to {tmp_path / 'cache'}"
    assert told in logged.text


def test_a_killed_process_is_gone_on_with(tmp_path, folder, cached, expected, decoded):
    command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "cache")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert torch.equal(everything(cached()), expected)
    done = KILLED_AFTER // 4 * 4  # whole blocks
    assert decoded == [f"{k:02d}.png" for k in range(done, N)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_process_is_gone_on_with(cached, expected, decoded, monkeypatch, error):
    commit, calls = cache.ImageCache._commit, []

    def commit_or_stop(*arguments):
        commit(*arguments)
        calls.append(arguments)
        if len(calls) == 5:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(cache.ImageCache, "_commit", commit_or_stop)
        with pytest.raises(error):
            cached()
    assert len(decoded) == 20
    assert torch.equal(everything(cached()), expected)
    assert decoded == [f"{k:02d}.png" for k in range(N)]


def test_only_the_images_that_are_needed_are_decoded(tmp_path, folder, settings, decoded):
    source = open_source(str(folder), settings(), role="data")
    named = settings(image_size=6, memory_gib=0.0, image_cache=str(tmp_path / "cache"))
    some = source.take(np.array([50, 3, 7]), named)
    assert sorted(decoded) == ["03.png", "07.png", "50.png"]
    more = source.take(np.array([7, 8]), named)
    assert decoded[3:] == ["08.png"]
    assert torch.equal(some.inputs[torch.tensor([2])], more.inputs[torch.tensor([0])])
    assert len(list((tmp_path / "cache").glob("*.pixels"))) == 1


@pytest.mark.parametrize("change", ["size", "resize", "list", "order"])
def test_other_images_or_sizes_are_another_file(
    tmp_path, settings, folder, cached, expected, save_image, change
):
    everything(cached())
    first = {file: file.read_bytes() for file in (tmp_path / "cache").glob("*.pixels")}
    values = {"size": {"image_size": 5}, "resize": {"resize": 7}}.get(change, {})
    if change == "list":
        save_image(folder / "cats" / "99.png", 99)
    if change == "order":
        (folder / "cats" / "00.png").rename(folder / "cats" / "zz.png")
    samples = cached(**values)
    fresh = read(str(folder), settings(**{"image_size": 6} | values), role="data")
    assert torch.equal(everything(samples), fresh.inputs)
    files = {file: file.read_bytes() for file in (tmp_path / "cache").glob("*.pixels")}
    assert len(files) == 2
    assert files.items() >= first.items()


def test_the_same_name_in_another_folder_is_another_image(tmp_path, cached, settings, save_image):
    cached()
    other = tmp_path / "other"
    for k in range(N):
        save_image(other / "cats" / f"{k:02d}.png", 1000 + k)
    named = {"image_size": 6, "image_cache": str(tmp_path / "cache")}
    samples = read(str(other), settings(**named), role="data")
    assert torch.equal(samples.inputs, read(str(other), settings(image_size=6), role="data").inputs)


@pytest.mark.parametrize("ending", ["pixels", "done", "json"])
def test_damaged_files_are_refused(tmp_path, cached, ending):
    cached()
    (file,) = (tmp_path / "cache").glob(f"*.{ending}")
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(InputError, match=rf"image_cache: {file.with_suffix('')}\.\* .* delete these files"):
        cached()


@pytest.mark.parametrize("damage", [lambda pixels: pixels ^ 4, lambda pixels: 0])
def test_damaged_pixels_are_not_read_as_images(tmp_path, cached, expected, damage):
    cached()
    (file,) = (tmp_path / "cache").glob("*.pixels")
    pixels = bytearray(file.read_bytes())
    at = 7 * len(pixels) // N  # in the eighth image
    at += next(k for k, byte in enumerate(pixels[at:]) if byte)
    pixels[at] = damage(pixels[at])
    file.write_bytes(pixels)
    with pytest.raises(InputError, match=rf"image_cache: {file} is damaged at image 7 of .*; delete"):
        everything(cached())
    for part in (tmp_path / "cache").iterdir():
        part.unlink()
    assert torch.equal(everything(cached()), expected)


def test_a_cache_of_before_there_were_checksums_is_told(tmp_path, cached, logged, monkeypatch):
    monkeypatch.setattr(cache, "_VERSION", 1)
    cached()
    monkeypatch.undo()
    cached()
    assert "has no checksums and is not used any more; delete it" in logged.text


def test_a_file_that_was_cut_meanwhile_is_refused(tmp_path, cached):
    samples = cached()
    (file,) = (tmp_path / "cache").glob("*.pixels")
    file.write_bytes(file.read_bytes()[:-1])
    samples.inputs[torch.arange(N - 1)]
    with pytest.raises(InputError, match=rf"{file} has become shorter"):
        samples.inputs[torch.tensor([N - 1])]


def test_what_was_unreadable_is_tried_again(folder, cached, settings, save_image, decoded):
    good = (folder / "cats" / "05.png").read_bytes()
    (folder / "cats" / "05.png").write_text("no image")
    assert len(cached(skip_unreadable=True)) == N - 1
    (folder / "cats" / "05.png").write_bytes(good)
    del decoded[:]
    samples = cached(skip_unreadable=True)
    assert decoded == ["05.png"]
    assert torch.equal(everything(samples), read(str(folder), settings(image_size=6), role="data").inputs)


def test_a_disk_without_room_is_found_out_beforehand(tmp_path, cached, decoded, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage(2**40, 2**40 - 6479, 6479))
    with pytest.raises(InputError, match=r"60 decoded images take .* GiB, but .*cache has .* GiB free"):
        cached()
    assert decoded == []


def test_of_two_processes_one_waits_and_decodes_nothing(tmp_path, cached, expected, decoded):
    cached()
    (json,) = (tmp_path / "cache").glob("*.json")
    done = json.with_suffix(".done")
    complete = done.read_bytes()
    done.write_bytes(bytes(4 * N))
    del decoded[:]
    with FileLock(json.with_suffix(".lock")):
        other = threading.Thread(target=cached)
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert decoded == []
        done.write_bytes(complete)  # what a first process would have done meanwhile
    other.join(20)
    assert not other.is_alive()
    assert decoded == []
    assert torch.equal(everything(cached()), expected)


def test_a_complete_cache_may_be_read_only(tmp_path, cached, expected, decoded, monkeypatch):
    cached()

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(cache, "FileLock", refuse)
    assert torch.equal(everything(cached()), expected)
