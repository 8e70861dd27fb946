"""Read a source of any kind."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from emlc.config import NAMED_SOURCES, DataSettings
from emlc.config.sources import SOURCE_KINDS, check_source
from emlc.data.classes import shorten
from emlc.data.embeddings.image_models import load_image_model
from emlc.data.samples import Samples
from emlc.data.sources.arrays import open_digits, open_npz
from emlc.data.sources.cifar import CIFAR, open_cifar
from emlc.data.sources.clothing1m import find_clothing1m, is_clothing1m, open_clothing1m
from emlc.data.sources.delimited import is_delimited
from emlc.data.sources.folders import open_folder
from emlc.data.sources.source import Role, Schema, Source
from emlc.data.sources.tables import open_table, parquet_files, split_files
from emlc.errors import InputError

_log = logging.getLogger(__name__)

_TO_PARQUET = "pandas.{}.to_parquet('data.parquet') makes a parquet file of it"
_SAVE_AS_CSV = "save the sheet as CSV UTF-8, or " + _TO_PARQUET.format("read_excel(FILE)")
_UNPACK = "unpack it first"
_CONVERSIONS = {
    **dict.fromkeys((".jsonl", ".ndjson"), _TO_PARQUET.format("read_json(FILE, lines=True)")),
    ".json": _TO_PARQUET.format("read_json(FILE)"),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), _TO_PARQUET.format("read_feather(FILE)")),
    ".orc": _TO_PARQUET.format("read_orc(FILE)"),
    ".dta": _TO_PARQUET.format("read_stata(FILE)"),
    ".sav": _TO_PARQUET.format("read_spss(FILE)"),
    **dict.fromkeys((".h5", ".hdf5"), _TO_PARQUET.format("read_hdf(FILE)")),
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), _SAVE_AS_CSV),
    **dict.fromkeys((".parq", ".pq"), "give it the ending .parquet"),
    ".npy": "numpy.savez('data.npz', X=features, y=labels) makes an .npz file",
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "a pickle could run any code; write .npz or .parquet"),
    ".txt": "if it is a table, give it the ending .csv or .tsv",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), _UNPACK),
}


def read(source: str, settings: DataSettings, *, role: Role, schema: Schema | None = None) -> Samples:
    """Read all samples of a source.

    Args:
        source: cifar10, cifar100 or clothing1m, which lie in ``data_root`` | digits | a .csv, .parquet or
            .npz file | a glob of parquet files | a folder of parquet files (if there are files of these
            names, train*.parquet are the data and test*.parquet the test set) | a folder with the lists
            of Clothing1M | a folder with one sub-folder of images per class.
        settings: Names of columns and classes, and how images are resized and stored.
        role: What the samples are for. It decides which column has the labels: for data the label column;
            for a trusted source the label column, else the true label column; for a validation or test
            source the true label column, else the label column; for prediction none.
        schema: How the training data were read, so that this source is read in the same way.

    Raises:
        InputError: If the source does not exist or its content is wrong.
    """
    opened = open_source(source, settings, role=role, schema=schema)
    opened = with_image_model(opened, settings.image_model)
    return opened.take(opened.rows_in_use, settings)


def open_source(source: str, settings: DataSettings, *, role: Role, schema: Schema | None = None) -> Source:
    """Read the ids and labels of a source, and leave its inputs for later; see :func:`read`.

    Whether images are embedded is left to the schema, and to :func:`with_image_model`.
    """
    schema = schema or new_schema(settings)
    id_prefix = "" if role in ("data", "predict") else f"{role}-"
    if source in NAMED_SOURCES and settings.text_column is not None:
        raise InputError(f"text_column: {source} is a set of images")
    if source == "digits":
        return open_digits(role, schema, id_prefix)
    if source in CIFAR:
        return open_cifar(source, settings, role, schema, id_prefix)
    path = find_clothing1m(settings) if source == "clothing1m" else Path(source)
    if is_clothing1m(path):
        return open_clothing1m(path, role, schema)
    files = parquet_files(source, role)
    if schema.text_column or settings.text_column:
        _check_table(path, files)
    if files:
        return open_table(files, source, settings, role, schema, id_prefix)
    check_source(source)
    if path.is_dir():
        return open_folder(path, settings, role, schema, id_prefix)
    if is_delimited(path):
        return open_table([path], source, settings, role, schema, id_prefix)
    if path.suffix.lower() == ".npz":
        return open_npz(path, settings, role, schema, id_prefix)
    raise InputError(f"{source}: {_advice(path)}; expected {SOURCE_KINDS}")


def _advice(path: Path) -> str:
    """Return what is wrong with a file of another kind, and how to convert it."""
    advice = _CONVERSIONS.get(path.suffix.lower())
    return "not a known kind of source" + (f": {advice}" if advice else "")


def new_schema(settings: DataSettings) -> Schema:
    """Return what the settings alone say of how the data are read."""
    low, high = settings.image_range or (None, None)
    return Schema(
        classes=tuple(settings.classes or ()),
        has_integers=bool(settings.classes),
        background=settings.background,
        image_range=None if low is None or high is None else (low, high),
    )


def with_image_model(source: Source, name: str) -> Source:
    """Return a source with embeddings of its images as inputs.

    Args:
        source: The training data, or a source that is read in the same way.
        name: The model, as the setting ``image_model`` names it. With auto or none, and for a source whose
            schema names a model already, the source stays as it is.

    Raises:
        InputError: If the model is not available, or the source has no images.
    """
    if name in ("auto", "none") or source.schema.image_model is not None:
        return source
    if not source.has_images:
        raise InputError(f"image_model: {source.name} has no images that {name} could embed")
    model = load_image_model(name)
    schema = replace(source.schema, image_model=model.name, image_model_digest=model.digest)
    return replace(source, schema=schema)


def _check_table(path: Path, files: Sequence[Path]) -> None:
    """Raise an :class:`InputError` for a source that is not a table, and so has no column of texts."""
    if not files and path.exists() and not is_delimited(path):
        raise InputError(f"{path}: texts are read from a column of a .csv file or of parquet files")


def is_image_folder(source: str) -> bool:
    """Return whether a source is a folder with one sub-folder of images per class, or an empty one."""
    path = Path(source)
    if source in NAMED_SOURCES or not path.is_dir() or is_clothing1m(path):
        return False
    return not any(path.glob("*.parquet"))


def bundled_roles(source: str) -> set[Role]:
    """Return the roles of the further sets that a source brings along under the same name.

    cifar10 and cifar100 bring their test set, as does a folder with train*.parquet and test*.parquet
    files; clothing1m brings a trusted, a validation and a test set.
    """
    if source in CIFAR:
        return {"test"}
    if source == "clothing1m" or is_clothing1m(Path(source)):
        return {"trusted", "validation", "test"}
    return {"test"} if all(split_files(Path(source), split) for split in ("train", "test")) else set()


def tell_unread(source: str, others: Mapping[Role, str]) -> None:
    """Log which parquet files of a folder of data belong to no set.

    Args:
        source: The data.
        others: The sources of the other sets, by role.
    """
    if source in NAMED_SOURCES or not (files := parquet_files(source, "data")) or not Path(source).is_dir():
        return
    used = {*files, *(file for role, other in others.items() for file in parquet_files(other, role))}
    if unread := [file.name for file in sorted(Path(source).glob("*.parquet")) if file not in used]:
        _log.info(f"{source}: files not read: {shorten(unread)}; --validation or --test can name them")
