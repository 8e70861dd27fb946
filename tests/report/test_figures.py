"""Figures: what Plotly is given, and the tables beside it."""

import html
import re

import numpy as np
import pandas as pd
import pytest

from emlc.methods.base import MetaObjective
from emlc.report import figures
from emlc.report.figures.base import plot_text
from emlc.report.figures.matrices import MOST_CLASSES
from emlc.report.figures.sample_map import class_colours

HOSTILE = ['<b>"x"</b>&amp;', "</script><script>alert(1)</script>", "<a href='javascript:alert(1)'>x</a>"]


@pytest.mark.parametrize("text", [*HOSTILE, "two\nlines\x00", "plain", "Straße", "数字"])
def test_plotly_shows_text_as_it_is(text):
    shown = plot_text(text)
    assert not re.search(r"[<>]|&(?!(amp|lt|gt);)", shown)
    assert html.unescape(shown) == re.sub(r"[\n\x00]", " ", text)


@pytest.mark.parametrize("text", ["\u202eevil", "שלום", "a\u2067b"])
def test_text_from_right_to_left_is_isolated(text):
    assert plot_text(text) == f"\u2068{text}\u2069"


def test_long_text_is_shortened_before_it_is_escaped():
    assert plot_text("<" * 30, 5) == "&lt;&lt;&lt;&lt;…"
    assert plot_text("<" * 5, 5) == "&lt;" * 5


def test_a_small_matrix_has_its_figures_in_cells_and_table():
    counts = np.array([[8, 2], [0, 0]])
    figure = figures.matrix("m", "M", "", counts, ("<a>", "b"), ("given", "corrected"))
    (trace,) = figure.spec["data"]
    assert trace["z"] == [[0.8, 0.2], [None, None]]  # a class that never occurs has no shares
    assert trace["text"] == [["8", "2"], ["0", "0"]]
    assert figure.spec["layout"]["xaxis"]["ticktext"] == ["&lt;a&gt;", "b"]
    assert figure.spec["matrix"]["counts"] == counts.tolist()
    assert figure.table.to_numpy().tolist() == [["<a>", 8, 2], ["b", 0, 0]]


def test_shares_are_shown_in_per_cent():
    shares = np.array([[0.5, 0.499, 0.001], [0.0001, 0.04, 0.9599], [np.nan] * 3])
    figure = figures.matrix("m", "M", "", shares, ("a", "b", "c"), ("class", "given"))
    assert figure.spec["data"][0]["text"] == [["50", "50", "0.1"], ["0", "4.0", "96"], ["", "", ""]]
    assert figure.spec["data"][0]["z"][2] == [None] * 3
    assert figure.spec["matrix"]["counts"] is None


def test_a_class_with_the_name_of_an_axis():
    figure = figures.matrix("m", "M", "", np.eye(2, dtype=np.int64), ("r \\ c", "c"), ("r", "c"))
    assert figure.table.columns.tolist() == ["r \\ c", "r \\ c", "c"]


def test_a_matrix_of_many_classes_has_no_text_and_its_table_the_largest_pairs():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 100, (100, 100))
    figure = figures.matrix("m", "M", "", counts, tuple(map(str, range(100))), ("given", "corrected"))
    assert "text" not in figure.spec["data"][0]
    assert np.shape(figure.spec["data"][0]["z"]) == (100, 100)
    assert figure.wide
    assert figure.spec["layout"]["width"] > 1000
    off = pd.DataFrame(counts).where(~np.eye(100, dtype=bool)).stack().sort_values(ascending=False)
    assert figure.table["samples"].tolist() == off.head(50).astype(int).tolist()
    for given, corrected, samples in figure.table.itertuples(index=False):
        assert counts[int(given), int(corrected)] == samples
    assert "50 largest" in figure.table_caption


def test_of_too_many_classes_the_most_confused_are_shown():
    n = MOST_CLASSES + 50
    counts = np.diag(np.full(n, 1000))
    counts[n - 1, 3], counts[5, n - 2] = 7, 9
    figure = figures.matrix("m", "M", "What it is.", counts, tuple(map(str, range(n))), ("a", "b"))
    shown = figure.spec["matrix"]["classes"]
    assert len(shown) == MOST_CLASSES
    assert {n - 1, 3, 5, n - 2} <= set(shown)
    at = shown.index(n - 1), shown.index(3)
    assert figure.spec["matrix"]["counts"][at[0]][at[1]] == 7
    assert figure.spec["data"][0]["z"][at[0]][at[1]] == pytest.approx(7 / 1007, abs=1e-4)
    assert f"Of {n} classes" in figure.caption


def test_wrong_labels_of_many_classes_that_were_not_learned_are_shown_where_they_are_true():
    C, names = 40, tuple(f"class {k}" for k in range(40))
    learned, true = np.eye(C), np.eye(C)
    learned[2, 5], true[7, 3], true[9] = 0.25, 0.5, np.nan  # no sample is of class 9
    learned[9, 1] = 0.0001
    figure = figures.learned_noise(learned, true, names)
    shares = {trace["name"]: trace["x"] for trace in figure.spec["data"]}
    assert shares == {"learned": [0, 0.25, 0.0001], "true": [0.5, 0, None]}
    assert figure.spec["layout"]["yaxis"]["ticktext"][1] == "class 2 labelled class 5"
    assert figure.table.to_numpy().tolist() == [
        ["class 7", "class 3", "0", "50"],
        ["class 2", "class 5", "25", "0"],
        ["class 9", "class 1", "0", ""],
    ]
    assert figure.wide


OBJECTIVE = MetaObjective("student's distance", "furlongs")


def metrics(epochs):
    return pd.DataFrame({"epoch": range(1, epochs + 1), "trusted_accuracy": 50.0, "student_loss": 1.5})


@pytest.mark.parametrize("epochs", [1, 100])
def test_learning_curves_of_the_metrics_that_exist(epochs):
    curves = {figure.key: figure for figure in figures.learning_curves(metrics(epochs), None, 1, OBJECTIVE)}
    assert curves.keys() == {"accuracy", "losses"}
    (trace,) = curves["accuracy"].spec["data"]
    assert trace["name"] == "student, trusted"
    assert trace["y"] == [50.0] * epochs
    assert ("markers" in trace["mode"]) == (epochs < 60)
    assert len(curves["accuracy"].table) == epochs
    assert "epoch 1" in curves["accuracy"].caption


def test_gaps_in_curves_stay_gaps():
    table = metrics(3).assign(label_recovery=[np.nan, 20.0, 30.0])
    (recovery,) = (f for f in figures.learning_curves(table, None, None, OBJECTIVE) if f.key == "recovery")
    assert recovery.spec["data"][0]["y"] == [None, 20.0, 30.0]
    assert "shapes" not in recovery.spec["layout"]


def test_the_meta_objective_is_thinned_and_smoothed():
    steps = pd.DataFrame({"step": range(1, 5001), "meta_objective": np.arange(5000.0)})
    steps.loc[:999, "meta_objective"] = np.nan  # warm-up
    (figure,) = (f for f in figures.learning_curves(metrics(2), steps, 1, OBJECTIVE) if f.key == "meta")
    raw, smooth = figure.spec["data"]
    assert len(raw["x"]) == len(smooth["x"]) <= 600
    assert raw["x"][0] == 1001
    assert smooth["name"] == "mean of 80 steps"
    assert figure.spec["layout"]["yaxis"]["title"]["text"] == "furlongs"
    assert list(figure.table) == ["teacher step", "mean of 80 steps (furlongs)"]
    assert figure.caption == "The student's distance: what the meta-gradient descends."
    at = smooth["x"].index(raw["x"][100])
    assert smooth["y"][at] == pytest.approx(raw["y"][100] - 39.5)


def test_the_map_marks_issues_and_finds_the_gallery():
    points = pd.DataFrame(
        {
            "id": ["<i>1</i>", "2", "3"],
            "given_label": ["a", "a", "b"],
            "corrected_label": ["b", "a", "b"],
            "retain_weight": 0.5,
            "is_label_issue": [True, False, False],
            "x": [0.0, 1, 2],
            "y": [0.0, 1, 2],
        }
    )
    figure = figures.feature_map(points, ("a", "b", "never"), {"<i>1</i>": 17})
    a, b = figure.spec["data"]
    assert a["x"] == [1]
    assert a["marker"]["symbol"] == ["circle"]
    assert b["x"] == [2, 0]
    assert b["marker"]["symbol"] == ["circle", "x"]
    assert b["customdata"] == [None, 17]
    assert b["text"][1].startswith("<b>&lt;i&gt;1&lt;/i&gt;</b><br>given a<br>corrected b")
    assert figure.table["points"].tolist() == [1, 2, 0]
    assert figure.table["label issues"].tolist() == [0, 1, 0]


@pytest.mark.parametrize("n", [1, 8, 12, 13, 1000])
def test_a_colour_a_class(n):
    colours = class_colours(n)
    assert len(colours) == n
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    assert len(set(colours)) > 0.6 * n
