"""Texts as inputs: a sentence-transformer makes an embedding of each, once."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emlc.config import BUNDLED_TEXT_MODEL, DataSettings
from emlc.data.sources.source import Schema
from emlc.data.texts.cache import Block, EmbeddingCache
from emlc.data.texts.models import find_model, load_model, model_identity
from emlc.errors import InputError
from emlc.runtime.distributed import pick_device

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
    """Embeddings of texts.

    Args:
        texts: (n,) strings.
        model: As the setting ``text_model``.
        cache: Folder in which embeddings are kept, and found; None: nowhere.
        device: auto | cpu | cuda | cuda:N.
        where: Their name, for the progress bar.

    Returns:
        (n, d) float32; equal texts have equal embeddings, bit for bit.

    Raises:
        InputError: If the model cannot be had, or the cache cannot be used.
    """
    texts = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    distinct = texts.dictionary_encode()  # padded differently, a text would differ in its last bits
    values: list[str] = distinct.dictionary.to_pylist()
    if not values:
        return torch.zeros(0, 0)
    folder = find_model(model)
    kept = EmbeddingCache(None if cache is None else Path(cache).expanduser(), model_identity(folder))
    vectors: NDArray[np.float32] | None = None
    for positions, block in _blocks(values, folder, kept, device, where):
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
    """Every text's embedding, in blocks: those that are kept, then those that are made."""
    missing = np.ones(len(texts), dtype=np.bool_)
    for positions, vectors in cache.read(texts):
        missing[positions] = False
        yield positions, vectors
    if not missing.any():
        return
    with cache.lock():
        waited = np.flatnonzero(missing)
        for positions, vectors in cache.read([texts[k] for k in waited]):  # made by another meanwhile
            missing[waited[positions]] = False
            yield waited[positions], vectors
        yield from _made(texts, np.flatnonzero(missing), folder, cache, device, where)


def _made(
    texts: list[str], rows: NDArray[np.int64], folder: Path, cache: EmbeddingCache, device: str, where: str
) -> Iterator[Block]:
    if len(rows) == 0:
        return
    on = pick_device(device)
    print(f"{where}: embedding {len(rows):,} texts on {on}", file=sys.stderr)
    model = load_model(folder, str(on))
    # Long texts first: those of one length take no padding, and what is too large is noticed at once.
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


class TextInputs:
    """The texts of a table, which are embedded when rows of them are read.

    Args:
        where: The table, for messages.
        column: Its column.
        texts: (n,) all its values.
        settings: Says where embeddings are kept; and, of a run, on which device they are made.
    """

    def __init__(self, where: str, column: str, texts: pa.Array, settings: DataSettings) -> None:
        self._where, self._column, self._texts = where, column, texts
        self._cache = settings.embedding_cache
        self._device: str = getattr(settings, "device", "auto")

    def take(self, rows: NDArray[np.int64]) -> pa.Array:
        """The texts of rows (m,)."""
        return self._texts.take(pa.array(rows))

    def __call__(self, rows: NDArray[np.int64], schema: Schema) -> torch.Tensor:
        """The embeddings (m, d) of rows (m,).

        Raises:
            InputError: If a row has no text, or the model is not that of the schema.
        """
        texts = self.take(rows)
        blank = pc.equal(pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0), 0)
        if pc.any(blank).as_py():
            first = rows[int(np.argmax(blank.to_numpy(zero_copy_only=False)))]
            raise InputError(
                f"{self._where}: row {first}, column {self._column!r}: expected a text, found nothing "
                f"({pc.sum(blank).as_py()} rows have none)"
            )
        assert schema.text_model is not None
        if model_identity(find_model(schema.text_model)) != schema.text_model_digest:
            raise InputError(
                f"text_model: the files of {schema.text_model} have changed since the run began, which "
                "learned from its embeddings"
            )
        return embed(
            texts, model=schema.text_model, cache=self._cache, device=self._device, where=self._where
        )
