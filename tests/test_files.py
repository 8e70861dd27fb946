import json

import pytest

from emlc.files import atomic_write, write_json, write_text


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_appears_when_it_is_whole(tmp_path):
    with atomic_write(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("half")
        assert not (tmp_path / "new" / "a.txt").exists()
        temporary.write_text("whole")
    assert contents(tmp_path / "new") == {"a.txt": "whole"}


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert contents(tmp_path) == {"a.txt": "new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [{}, {"a.txt": "old"}], ids=["no file", "old file"])
def test_an_exception_leaves_the_old_content_and_nothing_else(tmp_path, before, error):
    for name, text in before.items():
        (tmp_path / name).write_text(text)

    def fail_halfway():
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail_halfway()
    assert contents(tmp_path) == before


def test_an_exception_before_anything_is_written(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.txt"):
        raise RuntimeError
    assert contents(tmp_path) == {}


def test_the_temporary_file_lies_beside_and_has_the_same_ending(tmp_path):
    with atomic_write(tmp_path / "a.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".png"
        temporary.write_text("x")


def test_text_and_json(tmp_path):
    write_text(tmp_path / "a.txt", "grün\n")
    assert (tmp_path / "a.txt").read_bytes() == "grün\n".encode()
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
