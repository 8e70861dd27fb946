"""Embed texts with a sentence-transformer, each distinct text once."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from emlc.config import BUNDLED_TEXT_MODEL
from emlc.data.embeddings.blocks import look_up
from emlc.data.embeddings.cache import Block, EmbeddingCache, content_key
from emlc.data.embeddings.text_models import find_model, load_model, model_identity
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
    waits: bool = True,
) -> torch.Tensor:
    """Embed texts.

    Args:
        texts: (n,) strings.
        model: minilm, a folder, or a name on the Hugging Face hub, as the setting ``text_model``.
        cache: Folder in which embeddings are kept and looked up; None: they are not kept.
        device: auto | cpu | cuda | cuda:N.
        where: Name of the texts, for messages.
        waits: Whether one of several processes embeds, and the others wait for what it writes to the cache.

    Returns:
        (n, d) float32; equal texts have equal embeddings, bit for bit.

    Raises:
        InputError: If the model is not available, or the cache cannot be used.
    """
    values: list[str] = texts.to_pylist() if isinstance(texts, pa.Array) else list(texts)
    if not values:
        return torch.zeros(0, 0)
    folder = find_model(model)
    kept = None if cache is None else Path(cache).expanduser()
    store = EmbeddingCache(kept, model_identity(folder), waits=waits)

    def make(rows: NDArray[np.int64]) -> Iterator[Block]:
        return _encoded(values, rows, folder, device, where)

    vectors, _ = look_up([content_key(text.encode()) for text in values], store, make)
    return torch.from_numpy(vectors)


def _encoded(
    texts: list[str], rows: NDArray[np.int64], folder: Path, device: str, where: str
) -> Iterator[Block]:
    """Yield the embeddings of the texts at rows (m,), in blocks."""
    torch_device = pick_device(device)
    _log.info(f"{where}: embedding {len(rows):,} texts on {torch_device}")
    model = load_model(folder, str(torch_device))
    # Long texts first: texts of equal length need no padding, and a lack of memory is noticed at once.
    order = rows[np.argsort([-len(texts[k]) for k in rows], kind="stable")]
    for start in range(0, len(order), _BLOCK):
        positions = order[start : start + _BLOCK]
        block = [texts[k] for k in positions]
        vectors = model.encode(block, batch_size=_BATCH, show_progress_bar=False)
        yield positions, np.asarray(vectors, np.float32)
