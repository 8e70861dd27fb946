"""Label tables written as they are computed: a million rows take no more memory than a block of them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emlc.runtime.files import atomic_write

ENDINGS = (".csv", ".parquet")


def label_paths(path: Path) -> tuple[Path, Path]:
    """The CSV and the parquet file of a table, from the name of either, or a name without an ending."""
    stem = path.name.removesuffix(path.suffix) if path.suffix.lower() in ENDINGS else path.name
    csv, parquet = (path.with_name(f"{stem}{ending}") for ending in ENDINGS)
    return csv, parquet


def write_blocks(path: Path, blocks: Iterable[pd.DataFrame], schema: pa.Schema) -> Iterator[pd.DataFrame]:
    """Pass the blocks of a table on, and write them to the CSV and the parquet file of this name.

    The files appear, both, when the last block has been taken; otherwise neither does.

    Args:
        path: See :func:`label_paths`.
        blocks: Tables with the columns of ``schema``.
        schema: Of the parquet file.
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
                block.to_csv(csv, index=False, header=number == 0, lineterminator="\n")
                parquet.write_table(pa.Table.from_pandas(block, schema, preserve_index=False))
                yield block
