"""What benchmarks.gpu does with the minutes that it has."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import _attempt, _Piece, gpu
from emlc.runtime.files import read_json


def _spin(seconds: float) -> dict[str, float]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return {"slept": seconds}


def _fail() -> None:
    raise RuntimeError("no memory\nand a long trace")


@pytest.mark.parametrize(
    ("measure", "seconds", "finished", "why"),
    [
        (lambda: _spin(0.01), 10.0, True, None),
        (lambda: _spin(60), 0.2, False, "out of time"),
        (_fail, 10.0, False, "RuntimeError: no memory"),
        (lambda: _spin(60), -1.0, False, "needs some 0.001 min, 0.0 were left"),
    ],
)
def test_a_piece_ends_in_its_time_or_says_why_not(
    measure: Callable[[], Any], seconds: float, finished: bool, why: str | None
) -> None:
    begin = time.monotonic()
    result = _attempt(_Piece("piece", 0.001, measure, goes_on=True), seconds, toy=False)
    assert time.monotonic() - begin < 10
    assert result["finished"] is finished
    assert finished or str(result["why"]).startswith(str(why))


def test_training_goes_on_where_it_ran_out_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu._costs", lambda device, toy: [])
    monkeypatch.setattr("sys.argv", ["gpu"])
    gpu(minutes=0.0, folder=str(tmp_path), toy=True)
    assert not any(each["finished"] for each in read_json(tmp_path / "toy.json")["pieces"].values())
    gpu(minutes=5.0, folder=str(tmp_path), toy=True)
    pieces = read_json(tmp_path / "toy.json")["pieces"]
    assert all(each["finished"] for each in pieces.values())
    assert len(pieces) == 7
    gpu(minutes=0.0, folder=str(tmp_path), toy=True)
    assert read_json(tmp_path / "toy.json")["pieces"] == pieces
