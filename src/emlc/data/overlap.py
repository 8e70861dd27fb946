"""Find samples that two sets share, so that no sample is both learnt from and measured on."""

import logging
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from emlc.data.classes import shorten
from emlc.data.samples import Samples
from emlc.errors import InputError

_log = logging.getLogger(__name__)


def without_overlap(
    samples: Samples,
    others: Samples,
    role: str,
    other_role: str,
    overlap: Literal["error", "drop", "twins"],
    *,
    equal_rows: bool | None = None,
) -> Samples:
    """Return ``samples`` without those that are also among ``others``.

    Two samples are the same if their sources name the ids and these agree, if they are images with the
    same pixels, or if they are the same text. Images that stay on disk are compared by file, or by file
    and row. Row numbers and relative paths that agree mean nothing. Equal features mean the same sample if
    ``equal_rows`` says so, by default with ``overlap="drop"``, and otherwise only cause a warning. "twins" is
    for sets of one source, in which an image or a text occurs twice: they are removed like with "drop", but
    equal features stay.

    Raises:
        InputError: With ``overlap="error"``, if the sets share a sample; names the ids.
    """
    same = pc.is_in(samples.input_keys, others.input_keys).to_numpy(zero_copy_only=False)
    shared = np.zeros(len(samples), dtype=np.bool_)
    if samples.own_ids and others.own_ids:
        shared |= pd.Series(samples.ids, dtype=object).isin(others.ids).to_numpy()
    if equal_rows is None:
        equal_rows = overlap == "drop"
    if samples.pictures is not None or samples.texts is not None or equal_rows:
        shared |= same
    if not shared.any():
        if same.any():  # equal rows of numbers may well be different samples: that is for the user to say
            _log.warning(
                f"note: {same.sum()} {role} samples have the same features as {other_role} samples; "
                "--overlap drop removes them"
            )
        return samples
    if overlap == "drop":
        if (others_differ := shared & ~same).any():
            _log.warning(
                f"{others_differ.sum():,} {role} samples have the id of a {other_role} sample, but other "
                f"inputs, such as {shorten(samples.ids[others_differ].tolist(), 3)}; if these ids only "
                "number the rows, --id_column names another column"
            )
        _log.info(f"removed {shared.sum():,} {role} samples that are also {other_role} samples")
        return samples.take(~shared)
    if overlap == "twins":
        _log.warning(
            f"removed {shared.sum()} {role} samples with the same image or text as {other_role} samples of "
            f"the same source: {shorten(samples.ids[shared].tolist(), 5)}"
        )
        return samples.take(~shared)
    raise InputError(
        f"{shared.sum()} samples are both {role} and {other_role}, by id, by file, or by identical pixels or "
        f"texts; {role} ids: {shorten(samples.ids[shared].tolist(), 5)}; --overlap drop removes them from "
        f"the {role} samples"
    )
