"""Write embeddings for any tool: one parquet file with a list of numbers per sample."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from emlc.data.samples import Samples
from emlc.data.writing.columnar import annotation_columns
from emlc.errors import InputError
from emlc.runtime.files import atomic_write

EMBEDDINGS = "emlc: embeddings"
"""Metadata of the file, by which it is known to be of emlc."""

_ROWS = 65_536
"""Number of lists in an array, whose offsets have 32 bits."""


def write_embeddings(path: Path, samples: Samples) -> None:
    """Write id, label and true_label, as far as they are known, and embedding, a list of d float32.

    Raises:
        InputError: If the inputs are not embeddings of images or texts.
    """
    if not isinstance(samples.inputs, Tensor) or (samples.images is None and samples.texts is None):
        raise InputError("these samples have neither images nor, in a --text_column, texts to embed")
    labelled = samples.labels is not None
    columns = annotation_columns([samples]) if labelled else {"id": pa.array(samples.ids, pa.string())}
    embeddings = pa.chunked_array([_lists(block) for block in samples.inputs.split(_ROWS)])
    about = dict([EMBEDDINGS.split(": ")])
    with atomic_write(path) as temporary:
        pq.write_table(pa.table(columns | {"embedding": embeddings}, metadata=about), temporary)


def _lists(rows: Tensor) -> pa.Array:
    n, d = rows.shape
    offsets = pa.array(np.arange(n + 1) * d, pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(rows.reshape(-1).numpy()))
