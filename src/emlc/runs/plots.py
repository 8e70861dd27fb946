"""Pictures of a run, as PNG files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from emlc.methods.base import MetaObjective
from emlc.runtime.colours import BLUE, GREEN, ORANGE
from emlc.runtime.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_run_plots(
    folder: Path, metrics: pd.DataFrame, steps: pd.DataFrame, labels: pd.DataFrame, objective: MetaObjective
) -> None:
    """Write ``recovery.png``, ``retain_weights.png`` and ``meta_objective.png``, as far as there is data.

    Args:
        folder: Run directory.
        metrics: One row per epoch, as in ``metrics.csv``.
        steps: One row per teacher step, as in ``steps.csv``.
        labels: The label table.
        objective: What the column ``meta_objective`` of the steps is.
    """
    if "label_recovery" in metrics:
        save(folder / "recovery.png", plot_recovery, metrics)
    if "retain_weight" in labels:
        save(folder / "retain_weights.png", plot_retain_weights, labels)
    if "meta_objective" in steps:
        save(folder / "meta_objective.png", partial(plot_meta_objective, objective=objective), steps)


def plot_recovery(axes: "Axes", metrics: pd.DataFrame) -> None:
    """Plot the share of labels that are recovered, per epoch (paper, Fig. 1 and 8)."""
    axes.plot(metrics["epoch"], metrics["label_recovery"], color=BLUE, label="all labels")
    if "wrong_label_recovery" in metrics:
        axes.plot(metrics["epoch"], metrics["wrong_label_recovery"], "--", color=ORANGE, label="wrong labels")
    if "test_accuracy" in metrics:
        axes.plot(
            metrics["epoch"], metrics["test_accuracy"], ":", color=GREEN, label="student's test accuracy"
        )
    axes.set(title="Label recovery", xlabel="epoch", ylabel="%")
    axes.legend(loc="lower right")


def plot_retain_weights(axes: "Axes", labels: pd.DataFrame) -> None:
    """Plot a histogram of the retain weight, split into right and wrong labels where the truth is known."""
    bins = np.linspace(0, 1, 41).tolist()
    if "true_label" in labels and (known := labels[labels["true_label"].notna()]).size:
        right = known["given_label"] == known["true_label"]
        axes.hist(
            known["retain_weight"][right],
            bins,
            color=BLUE,
            alpha=0.6,
            label=f"right labels ({right.sum():,})",
        )
        axes.hist(
            known["retain_weight"][~right],
            bins,
            color=ORANGE,
            alpha=0.6,
            label=f"wrong labels ({(~right).sum():,})",
        )
        axes.legend(loc="upper center")  # "best" is slow: it searches all bins
    else:
        axes.hist(labels["retain_weight"], bins, color=BLUE)
    axes.set(
        title="How far the teacher keeps the given label",
        xlabel="retain weight",
        ylabel="samples",
        yscale="log",
    )


def plot_meta_objective(axes: "Axes", steps: pd.DataFrame, objective: MetaObjective) -> None:
    """Plot what the meta-gradient descends, per teacher step (paper, Fig. 5)."""
    values = steps["meta_objective"].dropna()
    smooth = values.rolling(max(1, len(values) // 50), min_periods=1).mean()
    axes.plot(values.index, values, color=BLUE, alpha=0.25, linewidth=0.8)
    axes.plot(values.index, smooth, color=BLUE, label=f"mean of {max(1, len(values) // 50)} steps")
    axes.set(
        title=f"Meta objective: {objective.what}",
        xlabel="teacher step",
        ylabel=objective.unit,
    )
    axes.legend(loc="upper right")


def plot_pretraining(axes: "Axes", metrics: pd.DataFrame) -> None:
    """Plot the contrastive loss and the accuracy of nearest neighbours, per epoch."""
    axes.plot(metrics["epoch"], metrics["contrastive_loss"], color=BLUE, label="contrastive loss")
    axes.set(title="Pretraining", xlabel="epoch", ylabel="contrastive loss (nats)")
    lines = axes.get_lines()
    if "knn_accuracy" in metrics:
        right = axes.twinx()
        right.plot(metrics["epoch"], metrics["knn_accuracy"], "--", color=ORANGE, label="nearest neighbours")
        right.set(ylabel="accuracy on trusted samples (%)")
        right.grid(False)
        lines = [*lines, *right.get_lines()]
    axes.legend(handles=lines, loc="center right")


def plot_confusion(axes: "Axes", confusion: pd.DataFrame) -> None:
    """Plot the confusion matrix with its counts; the colour is the share of the row."""
    from emlc.runs.fonts import drawable  # imports matplotlib

    counts = confusion.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    names, families = drawable(list(map(str, confusion.columns)))
    texts: dict[str, Any] = {"fontfamily": families, "parse_math": False}  # a class may be called $x$
    axes.set_xticks(range(len(counts)), names, rotation=45, ha="right", **texts)
    axes.set_yticks(range(len(counts)), names, **texts)
    axes.set(title="Confusion", xlabel="predicted", ylabel="label")
    if len(counts) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)


def plot_reliability(axes: "Axes", reliability: pd.DataFrame) -> None:
    """Plot accuracy against confidence; a calibrated classifier lies on the diagonal."""
    axes.plot([0, 1], [0, 1], ":", color="grey")
    axes.plot(reliability["confidence"], reliability["accuracy"], "o-", color=BLUE)
    axes.set(title="Calibration", xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))


def save(path: Path, plot: "Callable[[Axes, pd.DataFrame], None]", table: pd.DataFrame) -> None:
    """Plot a table with one of the functions above, and write the PNG file atomically."""
    import matplotlib  # only where a picture is drawn
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 11, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        plot(figure.add_subplot(), table)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120)
