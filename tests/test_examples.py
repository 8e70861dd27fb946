"""The examples run, and what they measure is what they say."""

import runpy
from functools import partial
from pathlib import Path

from emlc import EMLCClassifier

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_tabular():
    example = runpy.run_path(str(EXAMPLES / "tabular.py"))
    compare = example["compare"]
    quick = partial(EMLCClassifier, epochs=3, width=16, device="cpu")
    compare.__globals__["EMLCClassifier"] = quick
    accuracy, right = compare(0)
    assert len(accuracy) == 2 * len(example["BASELINES"]) + 3
    # Of 212 malignant and 357 benign ones 40 % and 20 % are wrong; those that are checked do not count.
    assert abs(right["as given"] - 72.5) < 5
    assert all(60 < value <= 100 for value in accuracy.values())
    assert compare(0) == (accuracy, right)
