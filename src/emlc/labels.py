"""The label table: every sample with its given label, the corrected one, and the evidence.

Column names are cleanlab's where it has them.
"""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from emlc.data import Samples
from emlc.data.classes import UNKNOWN
from emlc.teacher import Correction


def label_table(samples: Samples, correction: Correction, student_probabilities: Tensor) -> pd.DataFrame:
    """One row a sample, in the order of ``samples``.

    Columns:
        id: of the sample.
        given_label: as given, by class name.
        corrected_label: the most probable class of the teacher's soft label q(y | x, given label).
        corrected_probability: its probability under q, in [0, 1].
        retain_weight: w in (0, 1), how far the teacher keeps the given label (paper, Appendix D).
        predicted_label: the student's most probable class.
        label_quality: probability of the given label under q, in [0, 1]; low is bad.
        is_label_issue: whether the corrected label is another one than the given.
        true_label: only where the truth is known.

    Args:
        samples: n labelled samples.
        correction: The teacher's, of the same samples.
        student_probabilities: (n, C) the student's, of the same samples.
    """
    assert samples.labels is not None
    names = pd.Index(samples.classes)
    given = torch.from_numpy(samples.labels)
    probability, corrected = correction.soft_labels.max(dim=1)
    table = pd.DataFrame(
        {
            "id": samples.ids,
            "given_label": names[samples.labels],
            "corrected_label": names[corrected.numpy()],
            "corrected_probability": probability.numpy(),
            "retain_weight": correction.retain_weight.numpy(),
            "predicted_label": names[student_probabilities.argmax(dim=1).numpy()],
            "label_quality": correction.soft_labels.gather(1, given[:, None]).squeeze(1).numpy(),
            "is_label_issue": (corrected != given).numpy(),
        }
    )
    if samples.true_labels is not None:
        known = samples.true_labels != UNKNOWN
        table["true_label"] = names[samples.true_labels].where(known)
    return table


def prediction_table(
    ids: NDArray[np.object_],
    classes: tuple[str, ...],
    probabilities: Tensor,
    *,
    all_probabilities: bool = False,
) -> pd.DataFrame:
    """id, predicted_label and predicted_probability of n samples, from probabilities (n, C).

    With ``all_probabilities`` also a column ``probability_CLASS`` a class.
    """
    probability, predicted = probabilities.max(dim=1)
    table = pd.DataFrame(
        {
            "id": ids,
            "predicted_label": pd.Index(classes)[predicted.numpy()],
            "predicted_probability": probability.numpy(),
        }
    )
    if all_probabilities:
        names = [f"probability_{name}" for name in classes]
        table = table.join(pd.DataFrame(probabilities.numpy(), columns=names))
    return table
