"""Every kind of picture of one run, and the times of steps."""

import io

import pandas as pd
import pytest
from grids import TINY, grid, run_grid
from PIL import Image
from rich.console import Console

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


def record(method, k, seconds):
    common = {"engine": None, "meta_gradient": None, "precision": "float32", "memory_format": "channels_last"}
    common |= {"device": "cpu", "network": "cnn", "noisy_batch": 8, "trusted_batch": 4, "classes": 14}
    common |= {
        "seconds_per_image": seconds[0],
        "ratio_to_erm": 1.0,
        "over_model": 1.0,
        "peak_memory_bytes": 1,
    }
    common |= {
        "captured": False,
        "ratio_to_plain": None,
        "ratio_to_authors": None,
        "ratio_spread": None,
        "problem": None,
    }
    teacher = "gate" if method == "emlc" else None
    return Record(method=method, teacher=teacher, k=k, seconds=seconds, **common)


def test_times_are_hours_of_an_epoch_and_multiples_of_mlcs(tmp_path, monkeypatch):
    records = [
        record("mlc", 1, [0.002, 0.004]),
        record("emlc", 1, [0.001, 0.003]),
        record("emlc", 5, [0.001, 0.001]),
    ]
    monkeypatch.setattr(engine, "measure_steps", lambda *_: records)
    timing = Timing("table3", "Times", StepOptions(repetitions=2), images=3_600_000, paper="times")
    engine.time_steps(timing, tmp_path, command="typed", console=Console(file=io.StringIO()))
    table = pd.read_csv(tmp_path / "table.csv").set_index(["measure", "row"])
    assert list(table.loc["hours"]["mean"]) == pytest.approx([3, 2, 1])
    assert list(table.loc["hours"]["paper_mean"]) == [7.241, 3.67, 3.467]
    assert list(table.loc["ratio"]["mean"]) == pytest.approx([1, (0.5 + 0.75) / 2, (0.5 + 0.25) / 2])
    assert list(table.loc["ratio"]["paper_mean"]) == pytest.approx([1, 3.67 / 7.241, 3.467 / 7.241], abs=1e-3)
    with Image.open(tmp_path / "picture.png") as image:
        assert image.format == "PNG"
