"""Labels and weights that a method without a teacher holds of its own noisy samples."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.torch import load_file
from torch import Tensor, nn

from emlc.data import Samples
from emlc.data.classes import UNKNOWN
from emlc.labels.table import blocks
from emlc.methods import NoisyEstimate
from emlc.networks.inference import predict_proba


def load_estimate(folder: Path) -> NoisyEstimate:
    """What ``fit`` left beside the networks' weights in ``folder``; nothing of most methods."""
    path = folder / "samples.safetensors"
    return NoisyEstimate(**load_file(path)) if path.exists() else NoisyEstimate()


def estimate_label_tables(
    estimate: NoisyEstimate, samples: Samples, student: nn.Module
) -> Iterator[pd.DataFrame]:
    """The label table of the noisy samples, block by block.

    Its columns are those of :func:`emlc.labels.table.label_table`. A label is an issue where it is not the
    most probable class of the soft label; ``retain_weight`` is the weight, of methods that have one.
    """
    assert estimate.soft_labels is not None
    start = 0
    for block in blocks(samples):
        rows = slice(start, start + len(block))
        weights = None if estimate.weights is None else estimate.weights[rows]
        probabilities = predict_proba(student, block.inputs)
        yield _label_table(block, estimate.soft_labels[rows], weights, probabilities)
        start += len(block)


def _label_table(samples: Samples, soft: Tensor, weights: Tensor | None, student: Tensor) -> pd.DataFrame:
    names, rows, given = pd.Index(samples.classes), np.arange(len(samples)), samples.given
    soft_labels = soft.numpy()
    corrected = soft_labels.argmax(axis=1)
    table = {
        "id": samples.ids,
        "given_label": names[given],
        "corrected_label": names[corrected],
        "corrected_probability": soft_labels[rows, corrected].astype(np.float32),
        "retain_weight": None if weights is None else weights.numpy().astype(np.float32),
        "predicted_label": names[student.argmax(dim=1).numpy()],
        "label_quality": soft_labels[rows, given].astype(np.float64),
        "is_label_issue": corrected != given,
        "true_label": _true_labels(samples),
    }
    return pd.DataFrame({name: column for name, column in table.items() if column is not None})


def weight_table(weights: Tensor, samples: Samples) -> pd.DataFrame:
    """One row a noisy sample: id, given_label, weight in [0, 1], and true_label where it is known."""
    table = pd.DataFrame(
        {
            "id": samples.ids,
            "given_label": pd.Index(samples.classes)[samples.given],
            "weight": weights.numpy().astype(np.float32),
        }
    )
    truth = _true_labels(samples)
    return table if truth is None else table.assign(true_label=truth)


def _true_labels(samples: Samples) -> "pd.Index[str] | None":
    if samples.true_labels is None:
        return None
    return pd.Index(samples.classes)[samples.true_labels].where(samples.true_labels != UNKNOWN)
