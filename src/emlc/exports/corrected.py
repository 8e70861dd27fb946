"""What the exports of labels share: a run's samples together with their label table."""

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa

from emlc.data import Samples
from emlc.data.writing.write import with_distinct_ids
from emlc.runs.run import Run


@dataclass(frozen=True)
class Corrected:
    """A run's noisy samples with their corrected labels, and its trusted ones.

    Attributes:
        run: The run.
        noisy: The n noisy samples.
        trusted: The m trusted samples; no id occurs twice among the n + m.
        labels: Label table of the noisy samples; see :func:`emlc.labels.table.label_table`.
    """

    run: Run
    noisy: Samples
    trusted: Samples
    labels: pd.DataFrame

    @classmethod
    def of(cls, run: Run) -> "Corrected":
        """Read the samples, and correct the labels.

        Raises:
            InputError: If the run cannot correct labels, or its data are gone or have changed.
        """
        run.require_teacher()
        split = run.split()
        run = run.with_decision(split)
        noisy, trusted = with_distinct_ids({"data": [split.noisy, split.trusted]})["data"]
        return cls(run, noisy, trusted, run.correct_labels(noisy))

    @cached_property
    def trusted_labels(self) -> list[str]:
        """Labels of the trusted samples, (m,) class names."""
        return [self.trusted.classes[k] for k in self.trusted.given]

    def column(self, name: str) -> pa.Array:
        """Return a column of the label table for all n + m samples: null for the trusted ones."""
        values = pa.Array.from_pandas(self.labels[name])
        return pa.concat_arrays([values, pa.nulls(len(self.trusted), values.type)])

    @property
    def are_images(self) -> bool:
        """Whether the samples are images."""
        return self.noisy.pictures is not None


def relative_files(samples: Samples, folder: Path) -> list[str]:
    """Return the paths of n image files relative to a folder; absolute ones are useless elsewhere."""
    assert samples.files is not None
    resolved = lru_cache(maxsize=None)(os.path.realpath)  # a system call for each part of a path
    paths = (os.path.split(file) for file in samples.files.to_pylist())
    return [os.path.relpath(os.path.join(resolved(parent), name), resolved(folder)) for parent, name in paths]
