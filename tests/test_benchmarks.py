"""Benchmarks that no test of theirs runs, on the smallest data."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import tickets
from benchmarks.kept import Kept, decided_by, script_digest
from benchmarks.patch_features import patch_features
from emlc.reproduce import code
from emlc.reproduce.tables import markdown_table


def test_patch_features_of_images_are_written(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(8):
        path = tmp_path / "images" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    patch_features(str(tmp_path / "images"), str(tmp_path / "features"), centroids=4)
    with np.load(tmp_path / "features/train.npz", allow_pickle=False) as arrays:
        assert arrays["X"].shape == (8, 16)
        assert sorted(zip(arrays["ids"].tolist(), arrays["y"].tolist(), strict=True)) == [
            (f"{name}/{k}.png", name) for name, numbers in (("a", "0246"), ("b", "1357")) for k in numbers
        ]
        assert arrays.files == ["X", "y", "ids", "classes"]


def test_kept_figures_are_measured_again_if_what_decides_them_differs(tmp_path, monkeypatch):
    data, now = tmp_path / "data.npz", {"figure": 1}
    data.write_bytes(b"some")
    measured = []

    def figures(**settings):
        decided = decided_by("benchmarks.drawn", {"seed": 0, **settings}, [data, "digits"])
        kept = Kept(tmp_path / "results.json")  # as another process reads it
        found = kept.figures("case, seed 0", decided, lambda: measured.append(1) or now)
        return found["figure"], len(measured)

    assert figures() == figures() == (1, 1)
    now["figure"] = 2
    assert figures() == (1, 1)
    data.write_bytes(b"else")
    assert figures() == figures() == (2, 2)
    assert figures(method="glc") == figures(method="glc") == (2, 3)
    monkeypatch.setattr("benchmarks.kept.script_digest", lambda script, method: "other code")
    assert figures(method="glc") == (2, 4)


def test_kept_figures_of_an_earlier_form_are_measured_again(tmp_path):
    (tmp_path / "results.json").write_text('{"case": {"test": 0.5}}')
    kept = Kept(tmp_path / "results.json")
    assert kept.figures("case", {"code": "abc"}, lambda: {"test": 0.6}) == {"test": 0.6}


def test_the_code_of_a_script_is_that_of_all_it_imports_and_of_the_method():
    digests = [script_digest("benchmarks.review_rounds", "emlc"), script_digest("benchmarks.drawn", "emlc")]
    digests += [script_digest("benchmarks.drawn", "glc")]
    assert len(set(digests)) == 3
    before, text = digests[0], Path(tickets.__file__).read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        files = code._file
        changed = SimpleNamespace(read_bytes=lambda: (text + "\nOTHER = 1\n").encode())
        patch.setattr(code, "_file", lambda name: changed if name == tickets.__name__ else files(name))
        code.code_digest.cache_clear()
        code._code.cache_clear()
        assert script_digest("benchmarks.review_rounds", "emlc") != before
        assert script_digest("benchmarks.drawn", "emlc") == digests[1]
    code.code_digest.cache_clear()
    code._code.cache_clear()


def test_contents_of_a_folder_are_those_of_its_files_by_name(tmp_path):
    def contents():
        return decided_by("benchmarks.drawn", {}, [tmp_path])["contents"][str(tmp_path)]

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.csv").write_text("x")
    before = contents()
    assert contents() == before
    (tmp_path / "a" / "1.csv").rename(tmp_path / "2.csv")
    assert contents() != before


def test_a_markdown_table_has_a_line_for_each_row():
    assert (
        markdown_table(["", "a"], [["r", "1.0"], ["s", "-"]]) == "| | a |\n|---|---|\n| r | 1.0 |\n| s | - |"
    )
