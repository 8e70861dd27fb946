"""Blocks of parquet files, against what pyarrow reads of the whole files."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from emlc.data.sources.row_blocks import RowBlocks
from emlc.errors import InputError


def table(n, seed):
    rng = np.random.default_rng(seed)
    lists = [[float(x) for x in rng.normal(size=3)] if k % 7 else None for k in range(n)]
    words = pa.array([f"w{k % 5}" for k in range(n)]).dictionary_encode()
    return pa.table({"id": np.arange(n) + 1000 * seed, "vector": lists, "word": words})


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{k}.parquet" for k in range(4)]
    for path, n, group in zip(paths, (50, 1, 23, 40), (7, 1, 100, 40), strict=True):
        pq.write_table(table(n, n), path, row_group_size=group)
    pq.write_table(table(0, 0), tmp_path / "3b.parquet")
    return [*paths[:3], tmp_path / "3b.parquet", paths[3]]


def opened(files):
    whole = pads.dataset([str(file) for file in files])
    return RowBlocks(files, whole.schema.remove_metadata(), "data"), whole.to_table()


def test_blocks_in_any_order_are_the_rows_of_the_files(files):
    blocks, whole = opened(files)
    assert len(blocks) == len(whole) == 114
    rng = np.random.default_rng(0)
    ranges = [(0, 114), (0, 1), (113, 114), (50, 51), (49, 52), (60, 60)]
    ranges += [tuple(np.sort(rng.integers(0, 115, 2))) for _ in range(60)]
    ranges += [(k, min(k + 9, 114)) for k in range(0, 114, 9)]  # in order, as a rank reads its share
    for start, stop in ranges:
        assert blocks.read(int(start), int(stop)).to_pylist() == whole[int(start) : int(stop)].to_pylist()


def test_a_file_that_lacks_a_column_has_nulls_there(tmp_path):
    for name, frame in {
        "a": pd.DataFrame({"x": [1, 2], "y": [3.5, 4]}),
        "b": pd.DataFrame({"x": [5]}),
    }.items():
        frame.to_parquet(tmp_path / f"{name}.parquet")
    blocks, _ = opened([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert blocks.read(1, 3).to_pylist() == [{"x": 2, "y": 4.0}, {"x": 5, "y": None}]


def test_a_damaged_file_is_named(files):
    blocks, _ = opened(files)
    content = bytearray(files[0].read_bytes())
    content[4:300] = bytes(296)
    files[0].write_bytes(content)
    with pytest.raises(InputError, match="data: cannot be read"):
        blocks.read(0, 50)
