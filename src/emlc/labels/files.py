"""Label tables are written block by block: a million rows take no more memory than one block."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emlc.runtime.files import atomic_write, to_csv

ENDINGS = (".csv", ".parquet")
"""Endings of the two files of a table."""


def label_paths(path: Path) -> tuple[Path, Path]:
    """Return the paths of a table's CSV and parquet file, from either path or the path without an ending."""
    stem = path.name.removesuffix(path.suffix) if path.suffix.lower() in ENDINGS else path.name
    csv, parquet = (path.with_name(f"{stem}{ending}") for ending in ENDINGS)
    return csv, parquet


def write_blocks(path: Path, blocks: Iterable[pd.DataFrame], schema: pa.Schema) -> Iterator[pd.DataFrame]:
    """Write the blocks of a table to its CSV and its parquet file, and yield each block.

    Both files appear when the last block has been consumed; if that does not happen neither does.

    Args:
        path: Path of the table: see :func:`label_paths`.
        blocks: Tables with the columns of ``schema``.
        schema: Schema of the parquet file.
    """
    csv_path, parquet_path = label_paths(path)
    with ExitStack() as stack:
        # In this order, so that both are complete before the first is renamed.
        csv_file = stack.enter_context(atomic_write(csv_path))
        parquet_file = stack.enter_context(atomic_write(parquet_path))
        with (
            csv_file.open("w", encoding="utf-8", newline="") as csv,
            pq.ParquetWriter(parquet_file, schema) as parquet,
        ):
            for number, block in enumerate(blocks):
                to_csv(block, csv, header=number == 0)
                parquet.write_table(pa.Table.from_pandas(block, schema, preserve_index=False))
                yield block
