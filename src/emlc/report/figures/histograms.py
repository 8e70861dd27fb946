"""Histograms: of the student's confidence, with its accuracy, and of the retain weights."""

import pandas as pd

from emlc.report.figures.base import Figure, plain
from emlc.runtime.colours import BLUE, ORANGE, SKY


def calibration(reliability: pd.DataFrame) -> Figure:
    """Plot accuracy against confidence, with the share of samples in each bin."""
    shares = reliability["samples"] / reliability["samples"].sum()
    data = [
        {"type": "bar", "x": plain(reliability["confidence"]), "y": plain(shares), "width": 0.03,
         "name": "share of samples", "marker": {"color": SKY}, "opacity": 0.5,
         "hovertemplate": "%{y:.1%} of the samples<extra></extra>"},
        {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "calibrated",
         "line": {"color": "#7f7f7f", "dash": "dot", "width": 1}, "hoverinfo": "skip"},
        {"type": "scatter", "mode": "lines+markers", "x": plain(reliability["confidence"]),
         "y": plain(reliability["accuracy"]), "name": "student", "line": {"color": BLUE, "width": 2},
         "customdata": reliability["samples"].tolist(),
         "hovertemplate": "confidence %{x:.1%}<br>accuracy %{y:.1%}<br>%{customdata} samples<extra></extra>"},
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "confidence"}, "range": [-0.02, 1.03], "tickformat": ".0%"},
        "yaxis": {"title": {"text": "accuracy"}, "range": [-0.02, 1.03], "tickformat": ".0%"},
        "height": 420,
    }
    return Figure(
        "calibration",
        "Calibration",
        "The student's accuracy on the samples that it classifies with a given confidence. A calibrated "
        "classifier lies on the diagonal.",
        {"data": data, "layout": layout},
        reliability.rename(columns={"confidence": "mean confidence"}),
    )


def retain_weights(bins: pd.DataFrame) -> Figure:
    """Plot the histogram of the retain weight, of right and wrong labels apart if true labels are known."""
    colours = {
        "samples": (BLUE, "all labels"),
        "right": (BLUE, "right labels"),
        "wrong": (ORANGE, "wrong labels"),
    }
    centres = plain((bins["from"] + bins["to"]) / 2)
    data = [
        {"type": "bar", "x": centres, "y": bins[name].tolist(), "name": f"{label} ({bins[name].sum():,})",
         "marker": {"color": colour}, "opacity": 0.7, "width": 1 / len(bins),
         "hovertemplate": "%{y} with a weight near %{x:.3f}"}
        for name, (colour, label) in colours.items() if name in bins
    ]  # fmt: skip
    layout = {
        "barmode": "overlay",
        "xaxis": {"title": {"text": "retain weight"}, "range": [0, 1]},
        "yaxis": {"title": {"text": "samples (logarithmic)"}, "type": "log", "dtick": 1},
        "height": 420,
        "showlegend": True,
    }
    tenths = bins.assign(tenth=(bins.index * 10) // len(bins)).groupby("tenth")
    table = tenths[[name for name in colours if name in bins]].sum()
    ranges = [f"{t / 10:.1f} to {(t + 1) / 10:.1f}" for t in table.index]
    table.insert(0, "retain weight", ranges)
    return Figure(
        "retain",
        "Retain weights",
        "How far the given label is kept in training: near 1 it is trusted, near 0 it is replaced by a "
        "prediction.",
        {"data": data, "layout": layout},
        table.rename(columns={"right": "right labels", "wrong": "wrong labels"}),
    )
