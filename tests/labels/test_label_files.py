"""Label tables in files: whole or not at all, and the same however they are cut."""

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emlc.labels.files import label_paths, write_blocks

SCHEMA = pa.schema([("id", pa.string()), ("label_quality", pa.float64()), ("true_label", pa.string())])
TABLE = pd.DataFrame(
    {
        "id": ["007", "a,b", 'say "hi"', "line\nbreak", "é"],
        "label_quality": [0.25, 1e-20, 1.0, 0.1 + 0.2, 0.5],
        "true_label": [None, None, "NA", "dog", ""],
    }
)


def cut(*places):
    edges = [0, *places, len(TABLE)]
    return (TABLE[start:stop] for start, stop in pairwise(edges))


def drain(path, blocks):
    return [len(block) for block in write_blocks(path, blocks, SCHEMA)]


@pytest.mark.parametrize("places", [(), (1,), (2, 4)])
def test_the_files_are_the_table_however_it_is_cut(tmp_path, places):
    assert sum(drain(tmp_path / "labels.csv", cut(*places))) == 5
    text = (tmp_path / "labels.csv").read_bytes()
    assert text == TABLE.to_csv(index=False, lineterminator="\n").encode()
    table = pq.read_table(tmp_path / "labels.parquet")
    assert table.schema.equals(SCHEMA)
    pd.testing.assert_frame_equal(table.to_pandas(), TABLE, check_dtype=False)
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_left_of_a_table_that_breaks_off(tmp_path):
    def breaking():
        yield TABLE[:2]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        drain(tmp_path / "labels.csv", breaking())
    assert list(tmp_path.iterdir()) == []


def test_an_old_table_stays_where_the_reader_stops_early(tmp_path):
    drain(tmp_path / "labels.csv", cut())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    table = write_blocks(tmp_path / "labels.csv", cut(1, 2, 3), SCHEMA)
    next(table)
    table.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("given", "stem"), [("x.csv", "x"), ("x.parquet", "x"), ("x", "x"), ("v1.2", "v1.2"), ("x.CSV", "x")]
)
def test_both_names_from_either(given, stem):
    assert label_paths(Path("runs") / given) == (Path(f"runs/{stem}.csv"), Path(f"runs/{stem}.parquet"))
