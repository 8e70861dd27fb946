"""Which columns are learned from, which are left out, and what is told of them."""

import numpy as np
import pyarrow as pa
import pytest

from emlc.data.columns.fit import MOST_COLUMNS, MOST_LEVELS, fit_columns
from emlc.data.columns.telling import describe_columns
from emlc.errors import InputError

N = 200


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([7] * N, "constant"),
        (["a"] * N, "constant"),
        ([None] * N, "empty"),
        (["?", ""] * (N // 2), "empty"),
        (list(range(1, N + 1)), "row numbers"),
        ([f"id-{k}" for k in range(N)], "200 different values"),
        ([f"note {k} of many words" for k in range(N)], "texts; --text_column learns from them"),
        (
            [f"{k}.5" if k % 5 else f"<{k}" for k in range(N)],
            "200 different values, numbers but for '<0', '<5', '<10' and 37 more",
        ),
        ([b"x"] * N, "values of type binary"),
        ([[1.0] * (1 + k % 2) for k in range(N)], "lists of differing lengths"),
        ([{"a": 1}] * N, "values of type struct<a: int64>"),
        (["cat", "dog"] * (N // 2), "class names"),
    ],
)
def test_what_cannot_be_learned_from_is_left_out_and_told(logged, values, reason):
    table = pa.table({"x": values, "good": np.arange(N) % 7})
    (column,) = fit_columns(table, "data.csv", classes=["cat", "cow", "dog"])
    assert column.name == "good"
    assert f"data.csv: not used as features: x ({reason}" in logged.text


def test_a_named_column_is_kept_or_refused_with_the_reason():
    table = pa.table({"constant": [7] * N, "row": range(N), "class": ["cat", "dog"] * (N // 2)})
    columns = fit_columns(table, "data.csv", named=True, classes=["cat", "dog"])
    assert [column.name for column in columns] == ["constant", "row", "class"]
    with pytest.raises(InputError, match=r"'key' \(--feature_columns\) cannot be learned from: 200 diff"):
        fit_columns(pa.table({"key": [f"id-{k}" for k in range(N)]}), "data.csv", named=True)


def test_columns_of_yes_and_no_are_features_though_the_classes_are_yes_and_no():
    table = pa.table({"x": ["yes", "no"] * (N // 2), "y": ["no", "yes"] * (N // 2)})
    assert len(fit_columns(table, "data.csv", classes=["no", "yes"])) == 2


def test_only_the_most_frequent_categories_have_features_of_their_own():
    values = [f"c{k}" for k in range(100) for _ in range(100 - k)]
    (column,) = fit_columns(pa.table({"x": values}), "data.csv")
    assert set(column.levels) == {f"c{k}" for k in range(MOST_LEVELS)}
    assert set(column.others) == {f"c{k}" for k in range(MOST_LEVELS, 100)}


def test_one_line_says_what_was_done_with_every_column():
    table = pa.table(
        {
            "a": np.exp(np.linspace(0, 8, N)),
            "b": [None, *range(0, 2 * N - 2, 2)],
            "c": ["x", "y"] * (N // 2),
            "d": ["31.12.2020", "01.02.2021"] * (N // 2),
            "e": [[1.0, 2]] * N,
        }
    )
    assert describe_columns(fit_columns(table, "data.csv")) == (
        "numbers a (skewed: also transformed), b (1 missing); categories c (2); "
        "times d (as %d.%m.%Y); vectors e (2)"
    )


def test_columns_that_are_the_features_of_a_network_are_not_transformed():
    skewed = np.exp(np.random.default_rng(0).normal(0, 2, (N, MOST_COLUMNS + 1)))
    columns = fit_columns(pa.table({str(k): x for k, x in enumerate(skewed.T)}), "data.csv")
    assert {column.power for column in columns} == {None}
