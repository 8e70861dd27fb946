"""The corrected labels of a run in parts: see :mod:`emlc.runs.parts`."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emlc.data import Samples
from emlc.labels.files import label_paths
from emlc.labels.quality import QualityMeter
from emlc.labels.table import label_schema
from emlc.networks.inference import Predictions
from emlc.runs.joined import join_csv, join_parquet
from emlc.runs.parts import Parts
from emlc.runs.run import Run
from emlc.runtime.files import atomic_write, to_csv

_STUDENT = "the student's probabilities"
"""Column of a part, not of the joined table: by these probabilities cleanlab is compared."""


def write_label_part(
    run: Run, samples: Samples, path: Callable[[str], Path], *, all_probabilities: bool
) -> dict[str, Any]:
    """Correct the labels of a part, and write them.

    Args:
        run: The run, with its decision.
        samples: The samples of the part.
        path: A function from endings to paths.
        all_probabilities: Whether to add one column per class.

    Returns:
        Whether true labels are known.
    """
    known = samples.true_labels is not None
    schema = label_schema(samples.classes, true_labels=known, all_probabilities=all_probabilities)
    with ExitStack() as stack:
        csv_file, parquet_file = (stack.enter_context(atomic_write(path(e))) for e in (".csv", ".parquet"))
        in_part = schema.append(_student_field(samples)) if known else schema
        with (
            csv_file.open("w", encoding="utf-8", newline="") as csv,
            pq.ParquetWriter(parquet_file, in_part) as parquet,
        ):
            for _, table, predictions in run.iter_label_tables(samples, all_probabilities=all_probabilities):
                to_csv(table, csv, header=False)
                rows = pa.Table.from_pandas(table, schema, preserve_index=False)
                parquet.write_table(
                    rows.append_column(in_part.field(_STUDENT), _student(predictions)) if known else rows
                )
    return {"true_labels": known}


def join_label_parts(
    parts: Parts, output: Path, classes: tuple[str, ...], *, all_probabilities: bool
) -> QualityMeter:
    """Join the parts to the two files of a label table; return what measures the quality of its labels."""
    meter = QualityMeter()
    known = any(parts.facts(part).get("true_labels") for part in range(parts.count))
    schema = label_schema(classes, true_labels=known, all_probabilities=all_probabilities)
    with ExitStack() as stack:
        # Both are complete before the first is renamed.
        csv_file, parquet_file = (stack.enter_context(atomic_write(path)) for path in label_paths(output))
        join_csv(parts, csv_file, schema.names)
        for table in join_parquet(parts, parquet_file, schema):
            meter.add_table(_measured(table), classes, _probabilities(table, len(classes)))
    return meter


def _student_field(samples: Samples) -> pa.Field:
    return pa.field(_STUDENT, pa.list_(pa.float32(), len(samples.classes)))


def _student(predictions: Predictions) -> pa.Array:
    values = predictions.student.numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _measured(table: pa.Table) -> pd.DataFrame:
    names = ("given_label", "true_label", "corrected_label", "label_quality", "is_label_issue")
    frame: pd.DataFrame = table.select([name for name in names if name in table.column_names]).to_pandas()
    return frame


def _probabilities(table: pa.Table, classes: int) -> NDArray[Any]:
    if _STUDENT not in table.column_names:
        return np.empty((len(table), classes), dtype=np.float32)
    return np.asarray(table[_STUDENT].combine_chunks().flatten()).reshape(-1, classes)
