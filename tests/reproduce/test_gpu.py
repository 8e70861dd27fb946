"""What benchmarks.gpu does with the minutes that it has."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import _attempt, _costs, _Piece, gpu
from emlc.runtime.files import read_json
from emlc.timing.cases import make_cases
from emlc.timing.options import StepOptions


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
    result = _attempt(_Piece("piece", 0.001, measure, "code", goes_on=True), seconds, toy=False)
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


@pytest.mark.parametrize("changed", ["machine", "versions", "code"])
def test_a_piece_is_measured_again_on_another_machine_or_by_other_code(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"machine": 1, "versions": 1, "code": 1}
    monkeypatch.setattr("benchmarks.gpu.describe_hardware", lambda device: {"device": now["machine"]})
    monkeypatch.setattr("benchmarks.gpu.describe_versions", lambda: {"torch": now["versions"]})
    monkeypatch.setattr("benchmarks.gpu._training", lambda *arguments: [])
    monkeypatch.setattr(
        "benchmarks.gpu._costs", lambda *arguments: [_Piece("piece", 0.1, now.copy, f"{now['code']}")]
    )
    monkeypatch.setattr("sys.argv", ["gpu"])

    def piece(minutes: float) -> dict[str, Any]:
        gpu(minutes=minutes, folder=str(tmp_path), device="cpu")
        found: dict[str, Any] = read_json(tmp_path / "gpu.json")["pieces"]["piece"]
        return found

    first = piece(1.0)
    assert (first["figures"], first["command"]) == (now, "python -m benchmarks.gpu")
    assert piece(1.0) == first
    now[changed] = 2
    assert piece(0.0) == first, "what is finished stays as long as there is no time to replace it"
    again = piece(1.0)
    assert again["figures"] == now
    assert (again["hardware"], again["versions"], again["code"]) == (
        {"device": now["machine"]},
        {"torch": now["versions"]},
        f"{now['code']}",
    )


def test_finite_differences_are_measured_without_tf32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[StepOptions] = []
    monkeypatch.setattr("benchmarks.gpu.measure_steps", lambda options: asked.append(options) or [])
    (piece,) = (each for each in _costs("cuda", toy=False) if not each.tf32)
    piece.measure()
    cases = make_cases(asked[0], cuda=True, tf32=False)
    assert {case.engine for case in cases if case.method == "emlc"} == {"forward", "finite-difference"}

    def settings() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    monkeypatch.setattr("benchmarks.gpu._training", lambda *arguments: [])
    pieces = [_Piece(f"{tf32}", 0.01, settings, "code", tf32) for tf32 in (True, False)]
    monkeypatch.setattr("benchmarks.gpu._costs", lambda *arguments: pieces)
    monkeypatch.setattr("sys.argv", ["gpu"])
    before = settings()
    gpu(minutes=1.0, folder=str(tmp_path), device="cpu")
    found = read_json(tmp_path / "gpu.json")["pieces"]
    assert [found[name]["figures"] for name in ("True", "False")] == [list(before), [False, False]]
    assert settings() == before
