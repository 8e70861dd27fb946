"""Class names of any script in pictures; that matplotlib warns of missing glyphs would fail these tests."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from emlc.runs import fonts
from emlc.runs.plots import plot_confusion, save

NAMES = ["cat", "猫", "قط", "кошка", "🐈‍⬛", "$x_", "price in $", "line\nbreak", "\x00"]


@pytest.fixture
def only_matplotlibs_fonts(monkeypatch):
    """The fonts that come with matplotlib, whatever else this machine has."""
    own = [f for f in font_manager.fontManager.ttflist if f.fname.startswith(matplotlib.get_data_path())]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    fonts._families.cache_clear()
    yield
    fonts._families.cache_clear()


def test_names_of_any_script_are_drawn_without_a_warning(tmp_path):
    confusion = pd.DataFrame(np.eye(len(NAMES), dtype=int), index=NAMES, columns=NAMES)
    save(tmp_path / "confusion.png", plot_confusion, confusion)
    assert np.asarray(Image.open(tmp_path / "confusion.png").convert("L")).min() < 50


def test_what_no_font_has_is_escaped_and_told_once(only_matplotlibs_fonts, logged):
    names, families = fonts.drawable(NAMES[:4])
    assert fonts.drawable(NAMES[:4]) == (names, families)
    assert names == ["cat", "\\u732b", "قط", "кошка"]
    assert logged.text.count("no installed font has the characters 猫: they are shown as escapes") == 1


def test_control_characters_are_escaped_in_silence(only_matplotlibs_fonts, logged):
    assert fonts.drawable(["line\nbreak", "\x00"])[0] == ["line\\nbreak", "\\x00"]
    assert not logged.text


def test_a_font_that_has_the_characters_is_used(monkeypatch):
    """A font of mathematical letters stands for one of another script."""
    families = {f.name for f in font_manager.fontManager.ttflist}
    assert "STIXGeneral" in families
    monkeypatch.setattr(fonts, "_DEFAULT", "cmtt10")  # it has no Greek
    fonts._families.cache_clear()
    names, chosen = fonts.drawable(["αβγ"])
    fonts._families.cache_clear()
    assert names == ["αβγ"]
    assert len(chosen) > 1
    figure = Figure()
    figure.text(0, 0, names[0], fontfamily=chosen)
    figure.canvas.draw()


def test_dollars_are_no_formulas():
    axes = Figure().add_subplot()
    plot_confusion(axes, pd.DataFrame([[1, 0], [0, 1]], index=["$x_", "$"], columns=["$x_", "$"]))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["$x_", "$"]
    axes.figure.canvas.draw()
