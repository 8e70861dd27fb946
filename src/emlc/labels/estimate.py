"""Label and weight tables of a method without a teacher, from its estimate of its own noisy samples."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from torch import Tensor, nn

from emlc.data import Samples
from emlc.errors import InputError
from emlc.labels.table import blocks, table_of_soft_labels, true_label_names
from emlc.methods.base import NoisyEstimate
from emlc.networks.inference import predict_proba
from emlc.runtime.tensors import load_tensors


def load_estimate(folder: Path) -> NoisyEstimate:
    """Read the estimate that ``fit`` wrote to ``folder``; it is empty if the method has none.

    Raises:
        InputError: the file is damaged, or of another kind.
    """
    path = folder / "samples.safetensors"
    try:
        return NoisyEstimate(**load_tensors(path)) if path.exists() else NoisyEstimate()
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the estimate of this run's samples: {error}") from error


def estimate_label_tables(
    estimate: NoisyEstimate, samples: Samples, student: nn.Module
) -> Iterator[pd.DataFrame]:
    """Yield the label table of the noisy samples, block by block.

    Its columns are those of :func:`emlc.labels.table.label_table`. A label is an issue where it is not the
    most probable class of the soft label. ``retain_weight`` is the estimate's weight, if it has any.
    """
    assert estimate.soft_labels is not None
    start = 0
    for block in blocks(samples):
        rows = slice(start, start + len(block))
        weights = None if estimate.weights is None else estimate.weights[rows]
        soft_labels = estimate.soft_labels[rows].numpy()
        student_probabilities = predict_proba(student, block.inputs)
        corrected = soft_labels.argmax(axis=1)
        yield table_of_soft_labels(block, soft_labels, corrected, student_probabilities, weights)
        start += len(block)


def weight_table(weights: Tensor, samples: Samples) -> pd.DataFrame:
    """Build the weight table, one row per noisy sample.

    Its columns are id, given_label, weight in [0, 1], and true_label where it is known.
    """
    table = pd.DataFrame(
        {
            "id": samples.ids,
            "given_label": pd.Index(samples.classes)[samples.given],
            "weight": weights.numpy().astype(np.float32),
        }
    )
    truth = true_label_names(samples)
    return table if truth is None else table.assign(true_label=truth)
