"""Embeddings are looked up, and made where they are missing."""

import numpy as np

from emlc.data.embeddings.blocks import look_up
from emlc.data.embeddings.cache import EmbeddingCache


def test_without_a_terminal_a_line_tells_how_far_it_is(logged):
    def make(positions):
        for start in range(0, len(positions), 256):
            block = positions[start : start + 256]
            yield block, np.repeat(block[:, None], 2, axis=1).astype(np.float32)

    keys = [k.to_bytes(4, "big") for k in range(25_000)]
    vectors, there = look_up(keys, EmbeddingCache(None, "0"), make)
    assert there.all()
    assert np.array_equal(vectors[:, 0], np.arange(25_000))
    assert logged.messages == ["embedded 10,240 of 25,000", "embedded 20,224 of 25,000"]
