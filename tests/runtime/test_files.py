import json
import os
import shutil
from pathlib import Path

import pytest

from emlc import InputError
from emlc.runtime.files import (
    atomic_folder,
    atomic_write,
    check_file,
    remove_leftovers,
    write_json,
    write_json_list,
    write_text,
)


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


def test_a_folder_appears_when_it_is_whole(tmp_path):
    for name in ("new", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with atomic_folder(tmp_path / name) as temporary:
            (temporary / "a.txt").write_text("whole")
            assert not (tmp_path / name / "a.txt").exists()
        assert contents(tmp_path / name) == {"a.txt": "whole"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    def fail(temporary):
        (temporary / "a.txt").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "new") as temporary:
        fail(temporary)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_not_written_to(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(InputError, match="output: "), atomic_folder(taken):
            pass
    assert contents(tmp_path) == {"a.txt": "mine"}


def test_the_working_directory_and_a_link_get_what_is_in_the_folder(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    monkeypatch.chdir(tmp_path / "empty")
    inode = (tmp_path / "empty").stat().st_ino
    for name in (".", "../link"):
        with atomic_folder(Path(name)) as temporary:
            (temporary / "a").mkdir()
            (temporary / "b.txt").write_text("whole")
        assert sorted(os.listdir()) == ["a", "b.txt"]
        assert (tmp_path / "empty").stat().st_ino == inode
        Path("a").rmdir()
        Path("b.txt").unlink()
    with pytest.raises(InputError, match=r"output: the folder \.\. is not empty"), atomic_folder(Path("..")):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]


@pytest.mark.parametrize("name", [".", ".."])
def test_a_directory_is_no_file_to_write(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"output: \.+ is a directory"):
        check_file(Path(name))
    with pytest.raises(IsADirectoryError), atomic_write(Path(name)) as temporary:
        temporary.write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_two_writers_have_nothing_in_common(tmp_path):
    """Even of one process number, as processes in containers have."""
    with atomic_write(tmp_path / "a.txt") as first, atomic_write(tmp_path / "a.txt") as second:
        first.write_text("first")
        second.write_text("second")
    assert contents(tmp_path) == {"a.txt": "first"}
    with atomic_folder(tmp_path / "b") as late:
        with atomic_folder(tmp_path / "b") as early:
            (early / "x").write_text("early")
        (late / "x").write_text("late")
        shutil.rmtree(tmp_path / "b")
    assert contents(tmp_path / "b") == {"x": "late"}


def test_files_and_folders_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
        with atomic_folder(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750


def test_leftovers_are_removed_whatever_they_are(tmp_path):
    (tmp_path / ".writing-1-a.txt").write_text("")
    (tmp_path / ".writing-2-b" / "c").mkdir(parents=True)
    (tmp_path / ".writing-2-b" / "c" / ".writing-3-d").write_text("")
    (tmp_path / "mine").mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("items", [[], [1], [{"a": "猫"}, [None, "\n"]]])
def test_json_lists_are_written_as_they_come(items, tmp_path):
    with (tmp_path / "a.json").open("w", encoding="utf-8") as file:
        write_json_list(file, iter(items))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == items
