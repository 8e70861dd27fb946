"""Look embeddings up, and make those that are missing, block by block: what texts and images share."""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emlc.data.embeddings.cache import Block, EmbeddingCache

_log = logging.getLogger(__name__)

_TOLD = 10_000  # embeddings from one line that says how many there are to the next, where no bar shows it

MakeBlocks = Callable[[NDArray[np.int64]], Iterator[Block]]
"""A function that embeds what is at some positions (m,), block by block; it may leave some out."""


def look_up(
    keys: Sequence[bytes], cache: EmbeddingCache, make: MakeBlocks
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the embeddings of n keys: from the cache, else made, and written there block by block.

    Equal keys are embedded once. Of several processes one embeds, and the others read what it has written.

    Returns:
        The embeddings (n, d), and a mask (n,) of those that there are; d is 0 if there are none.

    Raises:
        InputError: If the cache cannot be used.
    """
    distinct = pa.array(keys, pa.binary()).dictionary_encode()
    codes = distinct.indices.to_numpy()
    first = np.empty(len(distinct.dictionary), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(keys))[::-1]
    vectors: NDArray[np.float32] = np.empty((len(first), 0), dtype=np.float32)
    there = np.zeros(len(first), dtype=np.bool_)
    for positions, block in _blocks(distinct.dictionary.to_pylist(), first, cache, make):
        if vectors.shape[1] == 0:
            vectors = np.empty((len(first), block.shape[1]), dtype=np.float32)
        vectors[positions] = block
        there[positions] = True
    return (vectors, there) if len(first) == len(keys) else (vectors[codes], there[codes])


def _blocks(
    keys: list[bytes], first: NDArray[np.int64], cache: EmbeddingCache, make: MakeBlocks
) -> Iterator[Block]:
    """Yield the embedding of every distinct key, in blocks: first those in the cache, then new ones."""
    missing = np.ones(len(keys), dtype=np.bool_)
    for positions, vectors in cache.read(keys):
        missing[positions] = False
        yield positions, vectors
    if not missing.any():
        return
    with cache.lock():
        rows = np.flatnonzero(missing)
        for positions, vectors in cache.read([keys[k] for k in rows]):  # another process may have made them
            missing[rows[positions]] = False
            yield rows[positions], vectors
        yield from _new_blocks(keys, first, np.flatnonzero(missing), cache, make)


def _new_blocks(
    keys: list[bytes],
    first: NDArray[np.int64],
    rows: NDArray[np.int64],
    cache: EmbeddingCache,
    make: MakeBlocks,
) -> Iterator[Block]:
    if len(rows) == 0:
        return
    row_of = dict(zip(first[rows].tolist(), rows.tolist(), strict=True))
    with _bar() as bar:
        task, done = bar.add_task("embedding", total=len(rows)), 0
        for positions, vectors in make(first[rows]):
            block = np.array([row_of[k] for k in positions.tolist()], dtype=np.int64)
            cache.write([keys[k] for k in block], vectors)
            bar.update(task, advance=len(block))
            done += len(block)
            if not bar.console.is_terminal and done % _TOLD < len(block) and done < len(rows):
                _log.info(f"embedded {done:,} of {len(rows):,}")
            yield block, vectors


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
