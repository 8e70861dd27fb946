"""Embed texts with a sentence-transformer, each distinct text once."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emlc.config import BUNDLED_TEXT_MODEL
from emlc.data.texts.cache import Block, EmbeddingCache
from emlc.data.texts.models import find_model, load_model, model_identity
from emlc.runtime.distributed import pick_device

_log = logging.getLogger(__name__)

_BLOCK = 1024  # texts embedded, and written to the cache, at once
_BATCH = 64


def embed(
    texts: Sequence[str] | pa.Array,
    *,
    model: str = BUNDLED_TEXT_MODEL,
    cache: str | None = None,
    device: str = "auto",
    where: str = "texts",
) -> torch.Tensor:
    """Embed texts.

    Args:
        texts: (n,) strings.
        model: minilm, a folder, or a name on the Hugging Face hub, as the setting ``text_model``.
        cache: Folder in which embeddings are kept and looked up; None: they are not kept.
        device: auto | cpu | cuda | cuda:N.
        where: Name of the texts, for messages.

    Returns:
        (n, d) float32; equal texts have equal embeddings, bit for bit.

    Raises:
        InputError: If the model is not available, or the cache cannot be used.
    """
    texts = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    distinct = texts.dictionary_encode()  # equal texts, padded differently, would differ in their last bits
    values: list[str] = distinct.dictionary.to_pylist()
    if not values:
        return torch.zeros(0, 0)
    folder = find_model(model)
    store = EmbeddingCache(None if cache is None else Path(cache).expanduser(), model_identity(folder))
    vectors: NDArray[np.float32] | None = None
    for positions, block in _blocks(values, folder, store, device, where):
        if vectors is None:
            vectors = np.empty((len(values), block.shape[1]), dtype=np.float32)
        vectors[positions] = block
    assert vectors is not None
    if len(values) < len(texts):
        vectors = vectors[distinct.indices.to_numpy()]
    return torch.from_numpy(vectors)


def _blocks(
    texts: list[str], folder: Path, cache: EmbeddingCache, device: str, where: str
) -> Iterator[Block]:
    """Yield the embedding of every text, in blocks: first those in the cache, then new ones."""
    missing = np.ones(len(texts), dtype=np.bool_)
    for positions, vectors in cache.read(texts):
        missing[positions] = False
        yield positions, vectors
    if not missing.any():
        return
    with cache.lock():
        rows = np.flatnonzero(missing)
        for positions, vectors in cache.read([texts[k] for k in rows]):  # another process may have made them
            missing[rows[positions]] = False
            yield rows[positions], vectors
        yield from _new_blocks(texts, np.flatnonzero(missing), folder, cache, device, where)


def _new_blocks(
    texts: list[str], rows: NDArray[np.int64], folder: Path, cache: EmbeddingCache, device: str, where: str
) -> Iterator[Block]:
    if len(rows) == 0:
        return
    torch_device = pick_device(device)
    _log.info(f"{where}: embedding {len(rows):,} texts on {torch_device}")
    model = load_model(folder, str(torch_device))
    # Long texts first: texts of equal length need no padding, and a lack of memory is noticed at once.
    order = rows[np.argsort([-len(texts[k]) for k in rows], kind="stable")]
    with _bar() as bar:
        task = bar.add_task("embedding", total=len(rows))
        for start in range(0, len(order), _BLOCK):
            positions = order[start : start + _BLOCK]
            block = [texts[k] for k in positions]
            vectors = np.asarray(model.encode(block, batch_size=_BATCH, show_progress_bar=False), np.float32)
            cache.write(block, vectors)
            bar.update(task, advance=len(positions))
            yield positions, vectors


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
