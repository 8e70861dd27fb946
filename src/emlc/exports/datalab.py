"""Export to Datalab, cleanlab's audit of a data set: a table with the given labels, and arrays beside it.

https://docs.cleanlab.ai/stable/cleanlab/datalab/datalab.html describes what ``Datalab(data, label_name)`` and
its ``find_issues(pred_probs=..., features=...)`` take.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emlc.data import Samples
from emlc.exports.corrected import Corrected, relative_files
from emlc.runs.beside import comparable_features
from emlc.runs.run import Run
from emlc.runtime.files import atomic_folder, check_free

_EVIDENCE = ("corrected_label", "predicted_label", "label_quality", "retain_weight", "is_label_issue")


def export_datalab(run: Run, output: Path) -> str:
    """Write ``data.parquet`` and ``arrays.npz`` into a folder: the n noisy samples, then the m trusted ones.

    The table has the given label of each sample in ``given_label``, and the columns of the label table, which
    are null for trusted samples. The arrays are ``pred_probs`` (n + m, C), the student's probabilities;
    ``features`` (n + m, d), from which simple classifiers would learn; and ``classes`` (C,), the names of the
    columns of ``pred_probs``. They are in the order of the names as texts, in which Datalab counts the
    classes that occur; all do, as every class has a trusted sample.
    """
    check_free(output)
    corrected = Corrected.of(run)
    parts = [corrected.noisy, corrected.trusted]
    classes, columns = np.unique(np.array(run.schema.classes), return_index=True)
    probabilities = np.concatenate([run.predict_proba(part.inputs).numpy() for part in parts])[:, columns]
    features = np.concatenate([comparable_features(run, part.inputs) for part in parts]).astype(np.float32)
    with atomic_folder(output) as temporary:
        pq.write_table(_table(corrected, output), temporary / "data.parquet")
        arrays: dict[str, Any] = {"pred_probs": probabilities, "features": features, "classes": classes}
        np.savez(temporary / "arrays.npz", **arrays)
    return f"{len(features):,} samples, {len(classes)} classes, {features.shape[1]:,} features"


def _table(corrected: Corrected, folder: Path) -> pa.Table:
    noisy, trusted, labels = corrected.noisy, corrected.trusted, corrected.labels
    n, m = len(noisy), len(trusted)
    columns: dict[str, Any] = {
        "id": pa.array([*noisy.ids, *trusted.ids], pa.string()),
        "given_label": pa.array([*labels["given_label"].tolist(), *corrected.trusted_labels], pa.string()),
        "trusted": pa.array([False] * n + [True] * m),
    }
    columns |= {name: corrected.column(name) for name in _EVIDENCE}
    return pa.table(columns | _shown([noisy, trusted], folder))


def _shown(parts: list[Samples], folder: Path) -> dict[str, pa.Array]:
    """Return the texts, or the paths of the image files relative to the folder; nothing for other samples."""
    if all(part.files is not None for part in parts):
        return {"image": pa.array([file for part in parts for file in relative_files(part, folder)])}
    if all(part.texts is not None for part in parts):
        return {"text": pa.concat_arrays([part.texts for part in parts])}
    return {}
