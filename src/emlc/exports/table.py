"""Export the corrected data set as one table: every sample with its inputs, its label, and the evidence."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from emlc.data.writing.columnar import (
    InputColumns,
    annotation_columns,
    fits_csv,
    free_names,
    has_lists,
    write_table,
)
from emlc.data.writing.write import write_with_images
from emlc.errors import InputError
from emlc.exports.corrected import Corrected, relative_files
from emlc.runs.run import Run
from emlc.runtime.files import atomic_write, check_file


def export_table(run: Run, output: Path) -> str | None:
    """Write the samples as a .csv or .parquet file.

    Noisy samples come first, with their corrected label and the columns of the label table, then trusted
    samples with their own label. Image files are named by their path relative to the table's folder; the
    pixels of images without files are written into .parquet only.

    Returns:
        A remark on images that a .csv file lacks, or on line breaks in it; None otherwise.

    Raises:
        InputError: If the file has another ending.
    """
    if output.suffix not in (".csv", ".parquet"):
        raise InputError(f"output: expected a .csv or a .parquet file, got {output}")
    check_file(output)
    corrected = Corrected.of(run)
    parts = [corrected.noisy, corrected.trusted]
    inputs = InputColumns.find(parts, run.settings, run.schema)
    if inputs is None and not corrected.are_images:
        width = parts[0].input_shape[0]
        inputs = InputColumns("inputs", tuple(f"feature_{k}" for k in range(width)))
    values = {} if inputs is None else inputs.values(parts)
    if inputs is not None and inputs.kind == "files":
        files = [file for part in parts for file in relative_files(part, output.parent)]
        values = {inputs.names[0]: pa.array(files, pa.large_string())}
    columns = _label_columns(corrected)
    image = run.schema.image_column or "image"
    names = free_names(list(columns), [*values, image])
    table = pa.table({names[name]: column for name, column in columns.items()} | values)
    if output.suffix == ".csv" and has_lists(table):
        raise InputError(f"output: {output} cannot hold columns of lists; name a .parquet file")
    embeds = inputs is None and output.suffix == ".parquet"
    with atomic_write(output) as temporary:
        if embeds:
            write_with_images(temporary, table, image, parts)
        else:
            write_table(temporary, table)
    if inputs is None and not embeds:
        return "the images are not files of their own, and a .csv file lacks them; a .parquet file holds them"
    if output.suffix == ".csv" and not fits_csv(table):
        return "texts have line breaks in them, which some readers of CSV do not accept; .parquet is safe"
    return None


def _label_columns(corrected: Corrected) -> dict[str, Any]:
    """Return id, label, trusted, and the label table's columns, which are null for trusted samples."""
    labels = corrected.labels
    evidence = [name for name in labels.columns if name not in ("id", "corrected_label")]
    ids = annotation_columns([corrected.noisy, corrected.trusted])["id"]
    n, m = len(corrected.noisy), len(corrected.trusted)
    columns: dict[str, Any] = {
        "id": ids,
        "label": pa.array([*labels["corrected_label"].tolist(), *corrected.trusted_labels], pa.string()),
        "trusted": pa.array([False] * n + [True] * m),
    }
    return columns | {name: corrected.column(name) for name in evidence}
