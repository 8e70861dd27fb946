"""emlc report on the command line."""

import json
import re
import shutil

import pytest

from emlc.cli import main
from emlc.errors import InputError


def test_it_writes_a_file_beside_the_run(hostile_run, tmp_path, capsys):
    copy = shutil.copytree(hostile_run.folder, tmp_path / "copy")
    assert main(["report", str(copy), "--samples", "7", "--map-samples", "0"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"{re.escape(str(copy))}/report\.html \(\d\.\d MB\)\n", out)
    assert "Traceback" not in err
    data = re.search(r'id="report-data">(.*?)</script>', (copy / "report.html").read_text("utf-8"))[1]
    assert len(json.loads(data)["gallery"]["records"]) == 7
    assert "map" not in json.loads(data)["figures"]


def test_it_says_first_what_will_take_longest(array_run, monkeypatch, capsys):
    def collect(*_, **__):
        raise InputError("stopped")

    monkeypatch.setattr("emlc.report.collect", collect)
    assert main(["report", str(array_run.folder), "--map_samples", "9"]) == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"report of {array_run.folder}; what takes longest is the map of up to 9 samples")


def test_another_file_and_missing_samples(array_run, tmp_path, capsys):
    out = tmp_path / "new" / "out.html"
    assert main(["report", str(array_run.folder), "--output", str(out), "--weights", "last"]) == 0
    assert out.is_file()
    assert "which are not kept; parts of the report are missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "-1"], "samples: expected 0 or more, got -1"),
        (["--map_samples", "-5"], "map_samples: expected 0 or more, got -5"),
        (["--samples", "many"], "samples"),
        (["--weights", "best"], "weights"),
    ],
)
def test_bad_options(array_run, options, message, capsys):
    assert main(["report", str(array_run.folder), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("emlc: error: ")
    assert message in err
    assert "Traceback" not in err


def test_no_run_and_no_file(array_run, tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err
    assert main(["report", str(array_run.folder), "--output", str(tmp_path)]) == 2
    assert "is a directory, expected a file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
