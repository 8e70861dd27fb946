"""The evaluation of a classifier: accuracy per class, confusion and calibration, as tables and pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from emlc.runs import plots
from emlc.runs.metrics import accuracy, cross_entropy
from emlc.runtime.files import write_csv, write_json

_BINS = 15
"""Number of equal bins of the confidence, for the calibration."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of a classifier on labelled samples.

    Attributes:
        figures: accuracy (per cent), balanced_accuracy (per cent, over the classes present),
            cross_entropy (nats), expected_calibration_error (per cent, 15 bins that include
            their upper ends, as Guo et al. 2017 define it), samples.
        per_class: One row per class: class, samples, recall and precision in per cent.
        confusion: Counts; rows are labels, columns predicted classes.
        reliability: One row per non-empty bin of confidence: mean confidence and accuracy in [0, 1], samples.
    """

    figures: dict[str, float]
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    reliability: pd.DataFrame

    def save(self, folder: Path, **about: Any) -> None:
        """Write evaluation.json; per_class, confusion and calibration as CSV; the last two as pictures.

        Args:
            folder: Where the files go.
            about: What evaluation.json says besides the figures, such as what was evaluated.
        """
        write_json(folder / "evaluation.json", {**about, **self.figures})
        write_csv(folder / "per_class.csv", self.per_class)
        write_csv(folder / "confusion.csv", self.confusion, index=True)
        write_csv(folder / "calibration.csv", self.reliability)
        plots.save(folder / "confusion.png", plots.plot_confusion, self.confusion)
        plots.save(folder / "calibration.png", plots.plot_reliability, self.reliability)


def evaluate_probabilities(
    probabilities: Tensor, labels: NDArray[np.int64], classes: tuple[str, ...]
) -> Evaluation:
    """Compare class probabilities (n, C) with labels (n,)."""
    C = len(classes)
    pairs = labels * C + probabilities.argmax(dim=1).numpy()
    counts = np.bincount(pairs, minlength=C * C).reshape(C, C)
    hits, per_label, per_prediction = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):  # a class without samples or predictions has no figure: NaN
        recall, precision = 100 * hits / per_label, 100 * hits / per_prediction
    reliability = _reliability(probabilities, labels)
    gaps = (reliability["accuracy"] - reliability["confidence"]).abs()
    calibration_error = float(np.average(gaps, weights=reliability["samples"]))
    return Evaluation(
        figures={
            "samples": len(labels),
            "accuracy": round(accuracy(probabilities, labels), 3),
            "balanced_accuracy": round(float(np.nanmean(recall)), 3),
            "cross_entropy": round(cross_entropy(probabilities, labels), 5),
            "expected_calibration_error": round(100 * calibration_error, 3),
        },
        per_class=pd.DataFrame(
            {"class": classes, "samples": per_label, "recall": recall, "precision": precision}
        ),
        confusion=pd.DataFrame(counts, index=pd.Index(classes, name="label"), columns=list(classes)),
        reliability=reliability,
    )


def _reliability(probabilities: Tensor, labels: NDArray[np.int64]) -> pd.DataFrame:
    confidence, predicted = (values.numpy() for values in probabilities.max(dim=1))
    frame = pd.DataFrame({"confidence": confidence, "accuracy": predicted == labels})
    bins = pd.cut(frame["confidence"], np.linspace(0, 1, _BINS + 1).tolist())
    table = frame.groupby(bins, observed=True).mean()
    table["samples"] = frame.groupby(bins, observed=True).size()
    return table.reset_index(drop=True)
