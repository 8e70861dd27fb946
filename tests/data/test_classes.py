"""Class names as indices into the classes."""

import numpy as np
import pandas as pd
import pytest

from emlc.data.classes import UNKNOWN, class_codes

CLASSES = ("cat", "dog", "1")
NAMES = ["dog", None, "cow", "1", "cat", "dog", ""]
CODES = [1, UNKNOWN, UNKNOWN, 2, 0, 1, UNKNOWN]


def array(names):
    return np.array(names, dtype=object)


@pytest.mark.parametrize("kind", [list, pd.Series, pd.Categorical, array], ids=lambda kind: kind.__name__)
def test_names_are_found_wherever_they_come_from(kind):
    codes = class_codes(kind(NAMES), CLASSES)
    assert codes.dtype == np.int64
    assert codes.tolist() == CODES


@pytest.mark.parametrize(
    "names",
    [[], pd.Series([np.nan] * 2), pd.Series([None], dtype="str")],
    ids=["empty", "numbers", "texts"],
)
def test_columns_without_a_name_have_no_class(names):
    assert class_codes(names, CLASSES).tolist() == [UNKNOWN] * len(names)
