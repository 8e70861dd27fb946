"""Tables of people: read, split, trained on, read again, and written, with columns of every kind."""

import json
from dataclasses import asdict, replace
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import nn

import tiny
from emlc import Run, train
from emlc.data import Schema, make_split, read
from emlc.data.sources.read import open_source
from emlc.data.writing.write import write_sets
from emlc.errors import InputError
from emlc.exports.table import export_table

CITIES = ("Bonn", "Oslo", "Rome")


def people(n=90, seed=0):
    """A table whose columns tell the label, with missing values in some."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    price = [Decimal(int(k)) / 100 for k in 100 * y + rng.integers(0, 99, n)]
    columns = {
        "id": [f"s{k}" for k in range(n)],
        "city": [CITIES[k] if rng.random() < 0.9 else None for k in y],
        "price": pa.array(price, pa.decimal128(8, 2)),
        "since": [date(2020, 1, 1) + timedelta(int(days)) for days in 50 * y + rng.integers(0, 40, n)],
        "embedding": pa.array(
            (np.eye(3)[y] + rng.normal(0, 0.3, (n, 3))).tolist(), pa.list_(pa.float32(), 3)
        ),
        "is_new": [bool(k == 1) for k in y],
        "label": [tiny.CLASSES[k] for k in y],
    }
    return pa.table(columns)


def settings_for(path, **changes):
    return tiny.settings(
        **({"data": str(path), "test_fraction": 0.2, "noise": "symmetric", "noise_rate": 0.3} | changes)
    )


@pytest.fixture
def people_file(tmp_path):
    pq.write_table(people(), tmp_path / "people.parquet")
    return tmp_path / "people.parquet"


def test_a_run_on_a_table_reads_it_again_and_other_tables_in_the_same_way(tmp_path, people_file, logged):
    settings = settings_for(people_file, output=str(tmp_path / "run"), epochs=30)
    run = train(settings)
    assert run.summary["test_accuracy"] > 90
    logged.clear()
    np.testing.assert_array_equal(run.split().noisy.inputs, make_split(settings, settings, 0)[0].noisy.inputs)
    other = people(30, seed=1).drop(["label"]).to_pandas()
    other.loc[0, "city"] = "Lima"
    other.loc[1, "price"] = None
    other.to_parquet(tmp_path / "other.parquet")
    logged.clear()
    samples = read(str(tmp_path / "other.parquet"), settings, role="predict", schema=run.schema)
    assert "city: 1 of categories that training did not have (Lima)" in logged.text
    assert "price: 1 missing, as none was in training" in logged.text
    predicted = run.predict_proba(samples.inputs).argmax(dim=1)
    assert (predicted[2:].numpy() == np.arange(2, 30) % 3).mean() > 0.9
    other.drop(columns="since").to_parquet(tmp_path / "short.parquet")
    with pytest.raises(InputError, match=r"short\.parquet: no column 'since'"):
        read(str(tmp_path / "short.parquet"), settings, role="predict", schema=run.schema)


def test_medians_and_categories_are_those_of_the_noisy_samples_alone(people_file):
    settings = settings_for(people_file)
    split, schema = make_split(settings, settings, 0)
    table = people().to_pandas().set_index("id").loc[split.noisy.ids]
    fills = {column.name: column.fill for column in schema.encoding if column.kind == "number"}
    assert fills["price"] == float(table["price"].astype(float).median())
    assert json.loads(json.dumps(asdict(schema)))["columns"][0]["levels"] == list(CITIES)
    assert Schema.from_dict(json.loads(json.dumps(asdict(schema)))).encoding == schema.encoding


def test_a_run_made_before_columns_had_kinds_reads_its_columns_as_numbers(tmp_path):
    frame = pd.DataFrame({"a": np.exp(np.arange(60) % 9), "note": "x", "label": list("uvw") * 20})
    frame.to_csv(tmp_path / "data.csv", index=False)
    settings = settings_for(tmp_path / "data.csv", output=str(tmp_path / "run"))
    before = Schema(classes=("u", "v", "w"), feature_columns=("a",), input_shape=(1,))
    split, schema = make_split(settings, settings, 0, before)
    assert schema == before
    split.save(tmp_path / "split.csv")
    run = Run(tmp_path, settings, before, nn.Linear(1, 3), None)
    assert run.split().noisy.inputs.shape[1:] == (1,)


def test_reviewed_tables_are_written_with_their_own_columns(tmp_path, people_file):
    settings = settings_for(people_file)
    split, schema = make_split(settings, settings, 0)
    (tmp_path / "out").mkdir()
    trusted = replace(split.trusted, true_labels=None)
    reading = write_sets({"data": [split.noisy, trusted]}, tmp_path / "out", settings, schema)
    written = pq.read_table(tmp_path / "out" / reading["data"])
    assert written.column_names[-5:] == ["city", "price", "since", "embedding", "is_new"]
    assert written["price"].type == pa.decimal128(8, 2)
    again = read(
        str(tmp_path / "out" / reading["data"]),
        replace(settings, **{k: v for k, v in reading.items() if k not in ("data", "trusted_column")}),
        role="data",
        schema=schema,
    )
    np.testing.assert_array_equal(again.inputs[: len(split.noisy)], split.noisy.inputs)


def test_a_csv_file_keeps_categories_that_look_like_numbers(tmp_path, settings):
    codes = ["01", "02", "A"] * 10
    pd.DataFrame({"code": codes, "label": range(30)}).to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "new.csv").write_text("code\n01\n02\n")
    data = open_source(str(tmp_path / "data.csv"), settings(), role="data").fitted(np.arange(30))
    new = read(str(tmp_path / "new.csv"), settings(), role="predict", schema=data.schema)
    assert new.inputs.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_a_question_mark_far_down_a_large_csv_file_is_a_missing_value(tmp_path, settings):
    values = np.arange(400_000) % 1000  # some 3 MB, several blocks of the parser
    frame = pd.DataFrame({"x": values.astype(str), "label": values % 2})
    frame.loc[390_000, "x"] = "?"
    frame.to_csv(tmp_path / "data.csv", index=False)
    samples = read(str(tmp_path / "data.csv"), settings(), role="data")
    assert samples.inputs[390_000].tolist() == [500, 1]
    assert samples.inputs[:, 1].sum() == 1


def test_missing_values_in_arrays_are_refused_with_the_way_out(tmp_path, settings):
    X = np.ones((4, 2))
    X[2, 1] = np.nan
    np.savez(tmp_path / "data.npz", X=X, y=[0, 1, 0, 1])
    with pytest.raises(InputError, match=r"row 2 .*column 1: .* found nan .* SimpleImputer"):
        read(str(tmp_path / "data.npz"), settings(), role="data")


def test_exports_have_the_original_columns_and_name_the_ending_that_holds_lists(tmp_path, people_file):
    run = train(settings_for(people_file, output=str(tmp_path / "run"), epochs=1))
    with pytest.raises(InputError, match=r"cannot hold columns of lists; name a \.parquet file"):
        export_table(run, tmp_path / "out.csv")
    export_table(run, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert set(table["city"].to_pylist()) == {*CITIES, None}
