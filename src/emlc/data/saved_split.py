"""The split that a run saved, beside the data as they are now."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.classes import shorten
from emlc.data.sources.read import is_image_folder
from emlc.data.split import Split, other_sources
from emlc.errors import InputError


def check_split(split: Split, path: Path) -> None:
    """Check that a split is the one that was saved in a run directory.

    Raises:
        InputError: If the file cannot be read, or differs; names the first row (from 0) that does.
    """
    saved = _read_table(path)
    table = split.table()
    if list(saved.columns) != list(table.columns):
        raise InputError(
            f"{path}: expected the columns {shorten([*table.columns])}, found {shorten([*saved.columns])}"
        )
    common = min(len(saved), len(table))
    differs = _differing_rows(saved[:common], table[:common])
    if not differs.any() and len(saved) == len(table):
        return
    row = int(np.argmax(differs)) if differs.any() else common
    was, now = (", ".join(t.iloc[row]) if row < len(t) else "nothing" for t in (saved, table))
    raise InputError(
        f"{path}: the data, settings or seed have changed since this run began: "
        f"row {row} was ({was}), now ({now}){_missing_ids(saved, table)}"
    )


def check_files(path: Path, settings: DataSettings) -> None:
    """Check that the image files of a split that was saved are still in the folders of their classes.

    Images that a table names are checked where the table is opened.

    Raises:
        InputError: If files are missing; names the first three.
    """
    saved = _read_table(path)
    if settings.data is None or not {"id", "role"} <= set(saved.columns):
        return
    others = {str(role): source for role, source in other_sources(settings.data, settings).items()}
    for role in dict.fromkeys(saved["role"]):
        held_out = role == "validation" and role not in others
        of_role = "trusted" if held_out else role
        folder, prefix = (others[of_role], f"{of_role}/") if of_role in others else (settings.data, "")
        if not is_image_folder(folder):
            continue
        names = [name.removeprefix(prefix) for name in saved["id"][saved["role"] == role]]
        if gone := [name for name in names if not os.path.exists(os.path.join(folder, name))]:
            raise InputError(
                f"{folder}: {len(gone):,} of {len(names):,} {role} images that the run began with are missing"
                f": {shorten(gone, 3)}; put them back, or train anew"
            )


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _missing_ids(saved: pd.DataFrame, table: pd.DataFrame) -> str:
    if not {"id"} <= set(saved.columns) & set(table.columns):
        return ""
    gone = saved["id"][~saved["id"].isin(table["id"])].tolist()
    return f"; {len(gone):,} samples are missing, with the ids {shorten(gone, 3)}" if gone else ""


def _differing_rows(saved: pd.DataFrame, table: pd.DataFrame) -> NDArray[np.bool_]:
    differs = np.zeros(len(table), dtype=np.bool_)
    for column in table.columns:  # one by one: a table of a million rows as one array takes a gigabyte
        was, now = (frame[column].to_numpy(dtype=np.object_) for frame in (saved, table))
        changed = was != now
        if column == "input_digest":
            # With another memory budget than before there may be pixels instead of paths, or the reverse.
            changed &= _is_path(was) == _is_path(now)
        differs |= changed
    return differs


def _is_path(digests: NDArray[np.object_]) -> NDArray[np.bool_]:
    return np.array([digest.startswith("path:") for digest in digests], dtype=np.bool_)
