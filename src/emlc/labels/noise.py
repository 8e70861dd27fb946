"""The noise that a method has learned, beside that of the labels where the truth is known."""

import numpy as np
import pandas as pd

from emlc.data import Samples
from emlc.data.noise import actual_rate, observed_transition

_DIGITS = 6


def noise_table(transition: pd.DataFrame, samples: Samples) -> pd.DataFrame:
    """Put a learned transition matrix in a table, one row a pair of classes, by true class.

    Columns:
        true_class: by name.
        given_label: by name.
        probability: P(given label | true class) as learned, in [0, 1].
        actual_share: share of the samples of this true class that carry this label, in [0, 1]; NaN of
            classes without samples. Only where true labels are known.

    Args:
        transition: (C, C), as of ``Run.transition``.
        samples: Those that it was learned from.
    """
    C = len(samples.classes)
    table = pd.DataFrame(
        {
            "true_class": np.repeat(samples.classes, C),
            "given_label": np.tile(samples.classes, C),
            "probability": transition.to_numpy().ravel().round(_DIGITS),
        }
    )
    if samples.true_labels is None or actual_rate(samples.given, samples.true_labels) is None:
        return table
    actual = observed_transition(samples.given, samples.true_labels, C)
    return table.assign(actual_share=actual.ravel().round(_DIGITS))
