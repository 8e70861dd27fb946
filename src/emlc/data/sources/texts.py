"""Use the texts of a table as inputs: each is embedded when its row is read."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from emlc.config import DataSettings
from emlc.data.embeddings.cache import embedding_place
from emlc.data.embeddings.text_models import find_model, model_identity
from emlc.data.embeddings.texts import embed
from emlc.data.sources.source import Schema
from emlc.errors import InputError


class TextInputs:
    """The texts of a table, which are embedded when their rows are read.

    Args:
        where: The table, for messages.
        column: Name of the column.
        texts: (n,) values of the column.
        settings: Settings with the ``embedding_cache``, and what :func:`embedding_place` takes from them.
    """

    def __init__(self, where: str, column: str, texts: pa.Array, settings: DataSettings) -> None:
        self._where, self._column, self._texts = where, column, texts
        self._cache = settings.embedding_cache
        self._device, self._waits = embedding_place(settings)

    def take(self, rows: NDArray[np.int64]) -> pa.Array:
        """Return the texts of rows (m,)."""
        return self._texts.take(pa.array(rows))

    def __call__(self, rows: NDArray[np.int64], schema: Schema) -> torch.Tensor:
        """Return the embeddings (m, d), float32, of rows (m,).

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
                f"text_model: the files of {schema.text_model} have changed since the run began; the run "
                "needs the embeddings that it learned from"
            )
        return embed(
            texts,
            model=schema.text_model,
            cache=self._cache,
            device=self._device,
            where=self._where,
            waits=self._waits,
        )
