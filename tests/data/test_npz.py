"""Archives of arrays that are not what they claim."""

import zipfile

import numpy as np
import pytest

from emlc.data import npz
from emlc.data.npz import read_npy, read_npz
from emlc.errors import InputError


@pytest.fixture
def file(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", X=np.arange(12.0).reshape(6, 2), y=np.array(list("aabbcc")))
    return tmp_path / "a.npz"


def _header(shape, dtype="<f4"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_sound_arrays_are_read_as_numpy_reads_them(file, tmp_path):
    with np.load(file) as expected:
        found = read_npz(file)
        assert found.keys() == {*expected.files}
        assert all(np.array_equal(found[name], expected[name]) for name in found)
    np.save(tmp_path / "b.npy", np.eye(3, order="F"))
    assert np.array_equal(read_npy(tmp_path / "b.npy"), np.eye(3))


@pytest.mark.parametrize("shape", [(10**12, 4), (2**62, 2**62), (-1, 4), (5, 5)])
def test_a_claim_to_more_than_there_is(file, tmp_path, shape):
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("Z.npy", _header(shape) + bytes(16))
    with pytest.raises(InputError, match=rf"{file}: .*Z.npy"):
        read_npz(file)
    (tmp_path / "b.npy").write_bytes(_header(shape) + bytes(16))
    with pytest.raises(InputError, match=r"b\.npy"):
        read_npy(tmp_path / "b.npy")


def test_arrays_that_are_far_too_well_compressed(file, monkeypatch):
    monkeypatch.setattr(npz, "_LARGE", 2**20)
    np.savez_compressed(file, X=np.zeros((2**16, 100)))
    with pytest.raises(InputError, match=r"its arrays take 0\.0488 GiB, which is suspiciously more"):
        read_npz(file)
    np.savez(file, X=np.zeros((2**16, 100)))
    assert read_npz(file)["X"].shape == (2**16, 100)


def test_an_encrypted_archive(file):
    data = bytearray(file.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be read as an .npz file of plain arrays: .*encrypted"):
        read_npz(file)


def test_pickles_are_not_opened(file):
    np.savez(file, X=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"X\.npy: expected plain values, found object"):
        read_npz(file)
