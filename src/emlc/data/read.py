"""Read a source of any kind."""

import glob
from pathlib import Path

import numpy as np

from emlc.config import DataSettings
from emlc.data.arrays import open_digits, open_npz
from emlc.data.folders import open_folder
from emlc.data.samples import Samples
from emlc.data.source import Role, Schema, Source
from emlc.data.tables import open_table
from emlc.errors import InputError

_KINDS = "digits | a .csv, .parquet or .npz file | a folder or glob of parquet files | a folder of images"


def read(source: str, settings: DataSettings, *, role: Role, schema: Schema | None = None) -> Samples:
    """Read all samples of a source.

    Args:
        source: digits | a .csv, .parquet or .npz file | a glob of parquet files | a folder of parquet
            files, of which the data are train-*.parquet and the test set is test-*.parquet, if they
            are so called | a folder with one sub-folder of images a class.
        settings: Names of columns, classes, image size.
        role: What the samples are for. It decides which column is the label: of data the label column;
            of a trusted source the label column, else the true label column; of a validation or test
            source the true label column, else the label column; none for prediction.
        schema: How the training data were read, so that this source is read alike.

    Raises:
        InputError: If the source does not exist or its content is wrong.
    """
    opened = open_source(source, settings, role=role, schema=schema)
    return opened.take(np.arange(len(opened)))


def open_source(source: str, settings: DataSettings, *, role: Role, schema: Schema | None = None) -> Source:
    """Read ids and labels of a source, and leave its inputs for later; arguments as for :func:`read`."""
    schema = schema or Schema(classes=tuple(settings.classes or ()))
    id_prefix = "" if role in ("data", "predict") else f"{role}-"
    if source == "digits":
        return open_digits(role, schema, id_prefix)
    path = Path(source)
    files = parquet_files(source, role)
    if files:
        return open_table(files, source, settings, role, schema, id_prefix)
    if not path.exists():
        raise InputError(f"{source}: no such file or folder; expected {_KINDS}")
    if path.is_dir():
        return open_folder(path, settings, role, schema, id_prefix)
    if path.suffix.lower() == ".csv":
        return open_table([path], source, settings, role, schema, id_prefix)
    if path.suffix.lower() == ".npz":
        return open_npz(path, settings, role, schema, id_prefix)
    raise InputError(f"{source}: not a known kind of source; expected {_KINDS}")


def parquet_files(source: str, role: Role) -> list[Path]:
    """The parquet files, sorted, that a file name, glob or folder stands for; none for other sources."""
    path = Path(source)
    if path.is_dir():
        split = role if role in ("validation", "test") else "train"
        others = {"train", "validation", "test"} - {split}
        return sorted(path.glob(f"{split}*.parquet")) or sorted(
            file for file in path.glob("*.parquet") if not file.name.startswith(tuple(others))
        )
    if path.suffix.lower() != ".parquet":
        return []
    return [path] if path.is_file() else sorted(Path(match) for match in glob.glob(source))
