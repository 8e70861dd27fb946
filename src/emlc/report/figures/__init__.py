"""The figures of a report, as plain Plotly specifications, each with a table of the same figures."""

from emlc.report.figures.base import Figure
from emlc.report.figures.curves import learning_curves
from emlc.report.figures.histograms import calibration, retain_weights
from emlc.report.figures.matrices import largest_pairs, matrix
from emlc.report.figures.noise import learned_noise
from emlc.report.figures.sample_map import feature_map

__all__ = [
    "Figure",
    "calibration",
    "feature_map",
    "largest_pairs",
    "learned_noise",
    "learning_curves",
    "matrix",
    "retain_weights",
]
