"""The map of the samples: t-SNE of the student's features."""

import colorsys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from emlc.report.figures.base import NAME_LENGTH, Figure, plain, plot_text
from emlc.runtime.colours import AMBER, BLUE, GREEN, ORANGE, PURPLE, SKY

_CLASS_COLOURS = (
    *(BLUE, AMBER, GREEN, ORANGE, SKY, PURPLE, "#b8a900"),  # the last is the palette's yellow, darkened
    *("#7f7f7f", "#7b3f1d", "#6a3d9a", "#e7298a", "#5aae61"),
)


def feature_map(points: pd.DataFrame, classes: tuple[str, ...], in_gallery: dict[str, int]) -> Figure:
    """Plot the map of the student's features, coloured by class, with label issues as crosses."""
    corrected = "corrected_label" in points
    if corrected:  # the legend shows the symbol of each class's first point, which is to be a circle
        points = points.sort_values("is_label_issue", kind="stable", ignore_index=True)
    coloured_by = points["corrected_label" if corrected else "given_label"]
    issue = points["is_label_issue"] if corrected else pd.Series(False, index=points.index)
    data = []
    for name, colour in zip(classes, class_colours(len(classes)), strict=True):
        of_class = points[coloured_by == name]
        if of_class.empty:
            continue
        crosses = issue[of_class.index]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plot_text(name, NAME_LENGTH),
                "x": plain(of_class["x"]),
                "y": plain(of_class["y"]),
                "text": [_hover(row) for row in of_class.to_dict("records")],
                "customdata": [in_gallery.get(str(key)) for key in of_class["id"]],
                "marker": {
                    "color": colour,
                    "size": 7,
                    "opacity": 0.8,
                    "symbol": np.where(crosses, "x", "circle").tolist(),
                },
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    axis = {"visible": False}
    layout = {
        "xaxis": axis,
        "yaxis": axis | {"scaleanchor": "x"},
        "height": 620,
        "showlegend": len(data) <= 40,
        "legend": {"itemsizing": "constant"},
    }
    table = pd.DataFrame({"class": list(classes)})
    table["points"] = [int((coloured_by == name).sum()) for name in classes]
    if corrected:
        table["label issues"] = [int((issue & (coloured_by == name)).sum()) for name in classes]
    caption = (
        "Each point is a noisy sample, coloured by its corrected class; crosses are label issues. Click a "
        "point to show it in the gallery, if it is there."
        if corrected
        else "Each point is a noisy sample, coloured by its given class."
    )
    return Figure(
        "map", "Map of the samples", f"t-SNE of the student's features. {caption}",
        {"data": data, "layout": layout}, table, "points by class", wide=True,
    )  # fmt: skip


def _hover(row: Mapping[Any, Any]) -> str:
    lines = [f"<b>{plot_text(str(row['id']), 60)}</b>", f"given {plot_text(row['given_label'], 40)}"]
    if "corrected_label" in row:
        lines.append(f"corrected {plot_text(row['corrected_label'], 40)}")
    if "retain_weight" in row:
        lines.append(f"retain weight {row['retain_weight']:.3f}")
    return "<br>".join(lines)


def class_colours(num_classes: int) -> list[str]:
    """Return one colour per class: up to twelve distinct ones, for more classes evenly spaced hues."""
    if num_classes <= len(_CLASS_COLOURS):
        return list(_CLASS_COLOURS[:num_classes])
    colours = []
    for k in range(num_classes):
        red, green, blue = colorsys.hls_to_rgb(k / num_classes, (0.38, 0.55)[k % 2], 0.75)
        colours.append(f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}")
    return colours
