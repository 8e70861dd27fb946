"""Every kind of picture of one run, and the times of steps."""

import io
import json

import pandas as pd
import pytest
from grids import TINY, grid, run_grid
from PIL import Image
from rich.console import Console

from emlc.cli import main
from emlc.reproduce import engine
from emlc.reproduce.figures import save
from emlc.reproduce.plan import CHOSEN, LAST, META_OBJECTIVE, SEPARATION, Part, Timing
from emlc.timing.options import StepOptions
from emlc.timing.step import Record

ROW = Part("emlc, k = 1", {"method": "emlc", "look_ahead": 2}, paper="emlc, k = 1", at=2)


@pytest.fixture(scope="module")
def emlc(tmp_path_factory):
    """One run, and its experiment; its pictures are made from it again."""
    home = tmp_path_factory.mktemp("pictures")
    measures = (META_OBJECTIVE, SEPARATION, CHOSEN, LAST)
    experiment = grid(
        rows=(ROW,),
        columns=grid().columns[:1],
        common=TINY | {"noisy_batch": 16},
        seeds=(0,),
        measures=measures,
    )
    return experiment, home, run_grid(experiment, home)


@pytest.mark.parametrize("picture", ["against", "epochs", "steps", "features"])
def test_every_kind_of_picture_is_drawn(emlc, picture, tmp_path, monkeypatch):
    experiment, home, _ = emlc
    monkeypatch.setattr("emlc.reproduce.features.MOST", 40)
    drawn = []
    monkeypatch.setattr(
        engine.figures, "save", lambda path, results: drawn.append((save(path, results), path))
    )
    changed = {
        "rows": experiment.rows,
        "columns": experiment.columns,
        "common": experiment.common,
        "seeds": (0,),
    }
    measures = (CHOSEN, LAST) if picture == "against" else experiment.measures
    run_grid(grid(picture=picture, measures=measures, name=picture, **changed), home)
    with Image.open(home / picture / "picture.png") as image:
        assert min(image.size) > 300
        assert len(image.convert("L").getcolors()) > 10
    assert len(drawn) == 1


def test_measures_beside_the_summary_are_those_of_the_runs_files(emlc):
    _, home, outcome = emlc
    table = pd.read_csv(outcome.folder / "table.csv").set_index("measure")
    (run,) = (path.parent for path in (home / "runs").glob("*/steps.csv"))
    steps = pd.read_csv(run / "steps.csv")
    assert len(steps) == 6  # of 60 samples, 4 batches of 16 and so 2 pairs of them, three times
    assert table.loc["meta_objective", "mean"] == pytest.approx(steps["meta_objective"].iloc[-1])
    assert -1 <= table.loc["separation", "mean"] <= 1


def record(method, k, seconds, problem=None):
    common = {"engine": None, "meta_gradient": None, "precision": "float32", "memory_format": "channels_last"}
    common |= {"device": "cpu", "network": "cnn", "noisy_batch": 8, "trusted_batch": 4, "classes": 14}
    common |= {
        "seconds_per_image": seconds[0] if seconds else None,
        "ratio_to_erm": 1.0,
        "over_model": 1.0,
        "peak_memory_bytes": 1,
    }
    common |= {
        "captured": False,
        "ratio_to_plain": None,
        "ratio_to_authors": None,
        "ratio_spread": None,
        "problem": problem,
    }
    teacher = "gate" if method == "emlc" else None
    return Record(method=method, teacher=teacher, k=k, seconds=seconds, **common)


TIMING = Timing("table3", "Times", StepOptions(repetitions=3), images=3_600_000, paper="times")


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """Write the table of given records; return the failures, and the table by measure and row."""

    def write(*records):
        monkeypatch.setattr(engine, "measure_steps", lambda *_: list(records))
        failed = engine.time_steps(TIMING, tmp_path, command="typed", console=Console(file=io.StringIO()))
        return failed, pd.read_csv(tmp_path / "table.csv").set_index(["measure", "row"])

    return write


def test_times_are_hours_of_an_epoch_and_multiples_of_mlcs(tmp_path, timed):
    failed, table = timed(
        record("mlc", 1, [0.002, 0.004, 0.01]),
        record("emlc", 1, [0.001, 0.003, 0.05]),
        record("emlc", 5, [0.001, 0.001, 0.001]),
    )
    assert failed == {}
    assert list(table.loc["hours"]["median"]) == pytest.approx([4, 3, 1])
    assert list(table.loc["hours"]["lower_quartile"]) == pytest.approx([3, 2, 1])
    assert list(table.loc["hours"]["upper_quartile"]) == pytest.approx([7, 26.5, 1])
    assert list(table.loc["hours"]["paper_mean"]) == [7.241, 3.67, 3.467]
    # Ratios are those of the same round, 0.5, 0.75 and 5, not of the medians.
    assert list(table.loc["ratio"]["median"]) == pytest.approx([1, 0.75, 0.25])
    assert list(table.loc["ratio"]["paper_mean"]) == pytest.approx([1, 3.67 / 7.241, 3.467 / 7.241], abs=1e-3)
    text = (tmp_path / "table.md").read_text()
    assert "## Hours per epoch" in text
    assert "| emlc, k = 1 | 3.0 (2.0 to 26.5) (paper 3.67) |" in text
    assert "| emlc, k = 5 | **0.250 (0.175 to 0.375)** (paper 0.479) |" in text
    assert "Median (lower to upper quartile) of 3 round(s) on " in text
    with Image.open(tmp_path / "picture.png") as image:
        assert image.format == "PNG"


def test_steps_that_failed_are_returned_and_kept(tmp_path, timed):
    refused = "RuntimeError: no memory"
    failed, table = timed(
        record("mlc", 1, [0.002, 0.004, 0.006]),
        record("emlc", 1, [0.001, 0.003, 0.003]),
        record("emlc", 5, [], refused),
    )
    assert failed == {"emlc, k = 5": refused}
    assert table.loc[("hours", "emlc, k = 5"), "n"] == 0
    text = (tmp_path / "table.md").read_text()
    assert f"emlc, k = 5: not measured: {refused}" in text
    assert "| emlc, k = 5 | - (paper 3.467) |" in text
    records = json.loads((tmp_path / "results.json").read_text())["records"]
    assert [(r["method"], r["k"], r["problem"]) for r in records] == [
        ("mlc", 1, None),
        ("emlc", 1, None),
        ("emlc", 5, refused),
    ]


@pytest.mark.parametrize("measured", [[], [0.001, 0.003, 0.003]])
def test_without_times_of_mlc_there_is_no_picture(tmp_path, timed, measured):
    (tmp_path / "picture.png").write_bytes(b"of before")
    failed, _ = timed(
        record("mlc", 1, [], "RuntimeError: no memory"),
        record("emlc", 1, measured, None if measured else "RuntimeError: no memory"),
    )
    assert failed.keys() == ({"mlc"} if measured else {"mlc", "emlc, k = 1"})
    assert not (tmp_path / "picture.png").exists()
    assert len(json.loads((tmp_path / "results.json").read_text())["records"]) == 2


def test_the_command_fails_if_a_step_was_not_measured(tmp_path, monkeypatch, capsys):
    for problem, status in ((None, 0), ("RuntimeError: no memory", 1)):
        steps = [record("mlc", 1, [0.002]), record("emlc", 1, [] if problem else [0.001], problem)]
        monkeypatch.setattr(engine, "measure_steps", lambda *_, steps=steps: steps)
        assert main(["reproduce", "table3", "--folder", str(tmp_path)]) == status
        assert ("not measured: RuntimeError: no memory" in capsys.readouterr().out) == bool(status)
