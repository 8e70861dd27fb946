"""Learning curves, and the meta objective."""

from typing import Any

import numpy as np
import pandas as pd

from emlc.methods.base import MetaObjective
from emlc.report.figures.base import Figure, plain
from emlc.runtime.colours import BLUE, GREEN, ORANGE, PURPLE, SKY

_STEPS_SHOWN = 600
"""Largest number of points of the meta objective's curve."""


def learning_curves(
    metrics: pd.DataFrame,
    steps: pd.DataFrame | None,
    chosen: int | None,
    objective: MetaObjective,
    *,
    noisy_test: bool = False,
) -> list[Figure]:
    """Plot accuracy, label recovery and losses per epoch, and the meta objective per step, if known.

    With ``noisy_test`` it is said that the labels of the test set are noisy.
    """
    remark = " Its labels are as noisy as the others." if noisy_test else ""
    groups = (
        (
            "accuracy",
            "Accuracy",
            "%",
            "Share of samples classified correctly, after every epoch. The test set takes part in no choice."
            + remark,
            {
                "test_accuracy": ("student, test", GREEN),
                "validation_accuracy": ("student, validation", PURPLE),
                "trusted_accuracy": ("student, trusted", BLUE),
                "teacher_test_accuracy": ("teacher, test", ORANGE),
            },
        ),
        (
            "recovery",
            "Labels recovered",
            "%",
            "Share of the noisy samples whose corrected label is the true one.",
            {"label_recovery": ("all labels", BLUE), "wrong_label_recovery": ("wrong labels", ORANGE)},
        ),
        (
            "losses",
            "Losses",
            "nats",
            "Means over the steps of an epoch.",
            {
                "student_loss": ("student", BLUE),
                "teacher_ce": ("teacher, cross-entropy", ORANGE),
                "teacher_bce": ("gate, binary cross-entropy", PURPLE),
                "teacher_nll": ("given labels, negative log-likelihood", GREEN),
            },
        ),
    )
    figures = []
    for key, title, unit, caption, names in groups:
        shown = {
            name: named for name, named in names.items() if name in metrics and metrics[name].notna().any()
        }
        if shown:
            figures.append(_curves(key, title, unit, caption, metrics, shown, chosen))
    if steps is not None and "meta_objective" in steps and steps["meta_objective"].notna().any():
        figures.append(_meta_objective(steps, objective))
    return figures


def _curves(
    key: str,
    title: str,
    unit: str,
    caption: str,
    metrics: pd.DataFrame,
    names: dict[str, tuple[str, str]],
    chosen: int | None,
) -> Figure:
    epochs = metrics["epoch"].tolist()
    dashes = ("solid", "dash", "dot", "dashdot")
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(epochs) < 60 else "lines",
            "x": epochs,
            "y": plain(metrics[column]),
            "name": name,
            "line": {"color": colour, "dash": dash, "width": 2},
            "marker": {"size": 5},
            "hovertemplate": "%{y:.4g}",
        }
        for (column, (name, colour)), dash in zip(names.items(), dashes, strict=False)
    ]
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "epoch"}, "tickformat": "d", "rangemode": "tozero"},
        "yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
        "hovermode": "x unified",
    }
    if chosen is not None:
        caption += f" The dotted line marks epoch {chosen}, the chosen one."
        layout["shapes"] = [
            {
                "type": "line",
                "x0": chosen,
                "x1": chosen,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"dash": "dot", "width": 1},
            }
        ]
    table = metrics[["epoch", *names]].rename(columns={column: name for column, (name, _) in names.items()})
    return Figure(key, title, caption, {"data": data, "layout": layout}, table)


def _meta_objective(steps: pd.DataFrame, objective: MetaObjective) -> Figure:
    values = steps.set_index("step")["meta_objective"].dropna()
    window = max(1, len(values) // 50)
    smooth = values.rolling(window, min_periods=1).mean()
    thin = max(1, -(-len(values) // _STEPS_SHOWN))
    raw, smooth = values.iloc[::thin], smooth.iloc[::thin]
    data = [
        {"type": "scatter", "mode": "lines", "x": raw.index.tolist(), "y": plain(raw), "name": "a step",
         "line": {"color": SKY, "width": 1}, "opacity": 0.5},
        {"type": "scatter", "mode": "lines", "x": smooth.index.tolist(), "y": plain(smooth),
         "name": f"mean of {window} steps", "line": {"color": BLUE, "width": 2}},
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "teacher step"}},
        "yaxis": {"title": {"text": objective.unit}, "rangemode": "tozero"},
        "hovermode": "x unified",
    }
    tenths = np.unique(np.linspace(0, len(values) - 1, min(10, len(values))).astype(int))
    mean = values.rolling(window, min_periods=1).mean().iloc[tenths]
    return Figure(
        "meta",
        "Meta objective",
        f"The {objective.what}: what the meta-gradient descends.",
        {"data": data, "layout": layout},
        pd.DataFrame(
            {"teacher step": mean.index, f"mean of {window} steps ({objective.unit})": mean.to_numpy()}
        ),
        "at ten steps",
    )
