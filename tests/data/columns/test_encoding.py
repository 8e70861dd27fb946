"""How columns become features, compared with scikit-learn's transformers."""

import json
from datetime import UTC, datetime, time
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, PowerTransformer

from emlc.data.columns.encoding import as_dict, encode, feature_names, from_dict, is_plain, yeo_johnson
from emlc.data.columns.fit import fit_columns
from emlc.data.columns.values import vectors
from emlc.errors import InputError

FREQUENT = 10  # of 1,000 rows
RNG = np.random.default_rng(0)


def encoded(values, again=None):
    """Features of one column named x, fitted to the first values and applied to the others, or the same."""
    columns = kept(fit_columns(pa.table({"x": values}), "t"))
    return encode(pa.table({"x": values if again is None else again}), columns, "t")[0].tolist()


def kept(columns):
    """The columns after a round trip through the JSON of a run."""
    return tuple(from_dict(json.loads(json.dumps(as_dict(column)))) for column in columns)


def people(n, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, n).astype(np.float64),
            "city": rng.choice(["Rome", "Bonn", "Oslo", "Lima"], n, p=[0.5, 0.3, 0.195, 0.005]),
            "is_new": rng.choice([True, False], n),
        }
    )
    frame.loc[rng.random(n) < 0.1, "age"] = np.nan
    frame.loc[rng.random(n) < 0.1, "city"] = None
    return frame


def test_features_are_those_of_scikit_learn():
    train, test = people(1000, 0), people(300, 1)
    test.loc[:9, "city"] = "Paris"
    columns = kept(fit_columns(pa.Table.from_pandas(train), "t"))
    features, remarks = encode(pa.Table.from_pandas(test), columns, "t")
    assert remarks == ["city: 10 of categories that training did not have (Paris)"]
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=FREQUENT, sparse_output=False)
    reference = ColumnTransformer(
        [
            ("numbers", SimpleImputer(strategy="median", add_indicator=True), ["age"]),
            ("categories", one_hot, ["city"]),
            ("booleans", "passthrough", ["is_new"]),
        ]
    ).fit(train)
    # scikit-learn counts None as a level, and puts the rare ones last
    np.testing.assert_allclose(
        features[:, [0, 1, 2, 3, 4, 6, 5, 7]], reference.transform(test).astype(np.float32)
    )
    assert feature_names(columns) == (
        *("age", "age is missing", "city = Bonn", "city = Oslo", "city = Rome"),
        *("city is another", "city is missing", "is_new"),
    )


@pytest.mark.parametrize("power", [-1.7, 0.0, 0.3, 1.0, 2.0, 3.1])
def test_the_transformation_is_that_of_yeo_and_johnson(power):
    x = RNG.normal(0, 20, 200)
    reference = PowerTransformer(standardize=False).fit(x[:, None])
    reference.lambdas_ = np.array([power])
    np.testing.assert_allclose(yeo_johnson(x, power), reference.transform(x[:, None])[:, 0], rtol=1e-9)
    assert yeo_johnson(np.array([-np.inf, np.inf]), power).tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_skewed_column_is_also_transformed_whatever_its_unit(unit):
    x = np.exp(RNG.normal(2, 1.5, 3000)) * unit
    raw, transformed = np.transpose(encoded(x))
    np.testing.assert_allclose(raw, x, rtol=1e-6)
    skewness = np.mean(((transformed - transformed.mean()) / transformed.std()) ** 3)
    assert abs(skewness) < 0.2
    assert (np.diff(transformed[np.argsort(x)]) >= 0).all()


def test_a_column_that_is_not_skewed_stays_as_it_is():
    x = RNG.normal(5, 2, 500)
    columns = fit_columns(pa.table({"x": x}), "t")
    assert is_plain(columns)
    assert encoded(x) == x.astype(np.float32)[:, None].tolist()


@pytest.mark.parametrize("per_second", [1, 1000, 10**9])
def test_integers_that_are_times_since_1970_keep_their_signal(per_second):
    seconds = RNG.integers(0, 3600, 400) + 1_700_000_000
    (feature,) = np.transpose(encoded(seconds * per_second))
    standardized = (seconds - seconds.mean()) / seconds.std()
    np.testing.assert_allclose(feature, standardized, atol=1e-3)


def test_decimals_are_numbers():
    values = pa.array([Decimal("1.25"), None, Decimal("-3.50"), Decimal("7.00")], pa.decimal128(10, 2))
    assert encoded(values) == [[1.25, 0], [1.25, 1], [-3.5, 0], [7, 0]]


def test_dates_and_times_are_days_and_the_time_of_day_an_angle():
    dates = pa.array([datetime(1970, 1, 3).date(), datetime(1970, 1, 2).date()])
    assert encoded(dates) == [[2], [1]]
    moments = [datetime(1970, 1, day, hour, tzinfo=UTC) for day, hour in ((2, 6), (5, 12))]
    np.testing.assert_allclose(
        encoded(pa.array(moments, pa.timestamp("s", "Europe/Rome"))), [[1.25, 1, 0], [4.5, 0, -1]], atol=1e-6
    )
    assert encoded(pa.array([time(6), time(12)])) == [[0.25], [0.5]]


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["1970-01-02", "1970-01-05", ""], [1, 4]),
        (["1970-01-02T12:00:00Z", "1970-01-03T00:00:00+00:00", "NA"], [1.5, 2]),
        (["02.01.1970", "31.01.1970", "?"], [1, 30]),
        (["01/02/1970", "01/31/1970", None], [1, 30]),
        (["02/01/1970 12:00", "31/01/1970 06:00", "-"], [1.5, 30.25]),
    ],
)
def test_texts_of_times_are_read_in_the_format_that_fits_all(texts, days):
    features = np.array(encoded(pa.array(texts * 5)))
    assert features[:2, 0].tolist() == days
    assert features[:3, -1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("words", [("yes", "no"), ("True", "False"), ("Y", "n"), ("t", "F")])
def test_truth_words_are_booleans(words):
    assert encoded([*words, words[0], "?"]) == [[1, 0], [0, 0], [1, 0], [1, 1]]  # the median is 1


def test_letters_of_which_one_could_mean_false_are_categories():
    assert encoded(["F"] * 99 + ["M"])[:1] == [[1, 0]]


def test_a_question_mark_among_numbers_is_a_missing_value():
    values = [str(k * k) for k in range(40)] + ["?", " ", "NA", None]
    features = np.array(encoded(values))
    assert features[:40, 0].tolist() == [k * k for k in range(40)]
    assert features[40:].tolist() == [[380.5, 1]] * 4


def test_other_words_among_numbers_are_told():
    values = [str(k % 7) for k in range(60)] + ["many"]
    columns = fit_columns(pa.table({"x": values}), "t")
    features, remarks = encode(pa.table({"x": values}), columns, "t")
    assert remarks == ["x: 1 taken for missing, as they are no number (many)"]
    assert features[-1].tolist() == [3, 1]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_list(pa.int16())]
)
def test_lists_are_one_block_of_features(kind):
    values = pa.array([[1, 2], [3, 6], None], kind)
    assert encoded(values) == [[1, 2, 0], [3, 6, 0], [2, 4, 1]]
    sliced = values.slice(1)
    assert encoded(values, sliced) == [[3, 6, 0], [2, 4, 1]]


@pytest.mark.parametrize("values", [[[], []], [[], None]])
def test_empty_lists_have_no_numbers(values):
    assert vectors(pa.array(values, pa.list_(pa.float32()))).shape == (2, 0)


def test_lists_of_another_length_are_named():
    with pytest.raises(InputError, match="column 'x': expected lists of 2 numbers, found lists of 3"):
        encoded(pa.array([[1, 2], [3, 4]]), pa.array([[1, 2, 3]]))


def test_missing_values_that_training_did_not_have_are_imputed_and_told():
    columns = fit_columns(pa.table({"x": [1.0, 2, 9], "y": ["a", "a", "b"]}), "t", named=True)
    table = pa.table({"x": [None, 4.0], "y": [None, "a"]})
    features, remarks = encode(table, columns, "t")
    assert features.tolist() == [[2, 0, 0], [4, 1, 0]]
    assert remarks == ["x: 1 missing, as none was in training", "y: 1 missing, as none was in training"]


def test_a_column_of_another_kind_is_named_with_its_row():
    message = r"t: row 60, column 'x': expected a number, .* found 'b', .* 70 of 130"
    with pytest.raises(InputError, match=message):
        encoded([1, 2, 4], ["1"] * 60 + ["b", "c"] * 35)
    with pytest.raises(InputError, match=r"and so in 70 of 1000 rows"):
        encoded([1, 2, 4, None], ["1"] * 40 + ["b", "c"] * 35 + [""] * 890)
    with pytest.raises(InputError, match=r"column 'x': expected a category, .* found values of type list"):
        encoded(["a", "a", "b", "b"], pa.array([[1]]))


def test_one_odd_row_and_a_short_last_part_are_imputed_and_told():
    columns = fit_columns(pa.table({"x": [1.0, 2, 4]}), "t", named=True)
    values = pa.table({"x": ["1"] * 200 + ["many", "few", "few"]})
    whole, told = encode(values, columns, "t")
    parts = [encode(values.slice(start, 100), columns, "t") for start in (0, 100, 200)]
    assert np.concatenate([features for features, _ in parts]).tolist() == whole.tolist()
    assert [remarks for _, remarks in parts] == [[], [], told]
    one, remarks = encode(values.slice(200, 1), columns, "t")
    assert one.tolist() == [[2]]
    assert remarks == ["x: 1 taken for missing, as they are no number (many)"]


def test_numbers_where_training_had_texts_are_categories_of_the_same_text():
    assert encoded(["1", "1", "A", "A", "B", "B"], [1, 2]) == [[1, 0, 0], [0, 0, 0]]


def test_stored_indices_are_read_as_what_they_stand_for():
    texts = pa.array(["b", "a", None, "b", "a"])
    assert encoded(texts.dictionary_encode()) == encoded(texts)
    numbers = pa.array([5, 7, 5])
    assert encoded(numbers.dictionary_encode()) == encoded(numbers)
