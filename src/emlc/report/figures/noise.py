"""The noise that a method has learned, beside that of the labels where the truth is known."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emlc.report.figures.base import NAME_LENGTH, Figure, plain, plot_text
from emlc.report.figures.matrices import largest_pairs, matrix, share_cell
from emlc.runtime.colours import BLUE, ORANGE

_MOST_MAPPED = 30  # classes; of more, few entries of a learned matrix are large enough to be seen on a map
_PAIRS = 25

_TITLE = "Label noise, learned"
_CAPTION = (
    "What training has learned about the labels: of the samples that truly belong to a class, the share that "
    "it expects to carry each label, in per cent."
)


def learned_noise(
    learned: NDArray[np.float64], true: NDArray[np.float64] | None, classes: tuple[str, ...]
) -> Figure:
    """A learned transition matrix (C, C) as a map; of many classes, its largest entries off the diagonal.

    Args:
        learned: P(given label | true class), rows = true class.
        true: The same as it is, where that is known; NaN in rows of absent classes.
        classes: C names.
    """
    if len(classes) <= _MOST_MAPPED:
        return matrix("learned-transition", _TITLE, _CAPTION, learned, classes, ("true class", "given"))
    pairs = largest_pairs(learned if true is None else np.fmax(learned, true), _PAIRS)
    rows, columns = (np.array([pair[k] for pair in pairs], dtype=np.int64) for k in (0, 1))
    shares = pd.DataFrame({"learned": learned[rows, columns]})
    if true is not None:
        shares["true"] = true[rows, columns]
    names = np.array(classes, dtype=object)
    table = pd.DataFrame({"true class": names[rows], "given": names[columns]})
    which = "most frequent wrong labels" + ("" if true is None else ", learned or true,")
    return Figure(
        "learned-transition",
        _TITLE,
        f"{_CAPTION} Of {len(classes):,} classes, the {len(pairs)} {which} are shown.",
        {"data": _bars(shares), "layout": _layout(names[rows], names[columns])},
        table.join(shares.map(share_cell)),
        f"the {len(pairs)} most frequent wrong labels, in per cent",
        wide=True,
    )


def _bars(shares: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {"type": "bar", "orientation": "h", "name": name, "x": plain(shares[name]),
         "y": list(range(len(shares))), "marker": {"color": colour},
         "hovertemplate": f"%{{x:.1%}}<extra>{name}</extra>"}
        for name, colour in (("learned", BLUE), ("true", ORANGE)) if name in shares
    ]  # fmt: skip


def _layout(true: NDArray[np.object_], given: NDArray[np.object_]) -> dict[str, object]:
    texts = [
        f"{plot_text(a, NAME_LENGTH)} labelled {plot_text(b, NAME_LENGTH)}"
        for a, b in zip(true, given, strict=True)
    ]
    return {
        "xaxis": {"title": {"text": "share of the class"}, "tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {
            "tickmode": "array",
            "tickvals": list(range(len(texts))),
            "ticktext": texts,
            "autorange": "reversed",
            "showgrid": False,
        },
        "barmode": "group",
        "height": 24 * len(texts) + 110,
        "showlegend": True,
    }
