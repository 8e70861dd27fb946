"""The results that a finished run writes: its decision, corrected labels, tables, pictures and summary."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from emlc.config import Settings
from emlc.config.methods import method_class
from emlc.data import Split
from emlc.labels.estimate import estimate_label_tables, load_estimate, weight_table
from emlc.labels.files import write_blocks
from emlc.labels.noise import noise_table
from emlc.labels.table import label_schema
from emlc.runs import plots
from emlc.runs.checkpoint import BEFORE, Progress
from emlc.runs.directory import environment
from emlc.runs.fit import chosen_epoch
from emlc.runs.metrics import has_noisy_test
from emlc.runs.run import Run
from emlc.runtime.distributed import Ranks
from emlc.runtime.files import write_csv, write_json

_KEPT = ["given_label", "corrected_label", "retain_weight", "true_label"]
"""Columns of the label table that pictures and the summary are made of."""


def write_decision(run: Run, split: Split, ranks: Ranks) -> Run:
    """Calibrate the decision, write it, and return the run with it; every process calls this.

    Every process computes the decision itself; none reads the file that the first one writes.
    """
    decision = run.decide(split, ranks)
    if ranks.is_first:
        decision.save(run.folder / "decision.json")
    return replace(run, known_decision=decision)


def write_results(run: Run, split: Split, progress: Progress, ranks: Ranks) -> pd.DataFrame | None:
    """Write the labels, the tables and the pictures; every process calls this.

    Returns:
        In the first process the main columns of the label table, if the method has one.
    """
    labels = None if run.teacher is None else _write_labels(run, split, ranks)
    if not ranks.is_first:
        return None
    if run.teacher is None:
        labels = _write_estimate(run, split)
    steps = _step_table(progress)
    write_csv(run.folder / "steps.csv", steps, index=True)
    if run.transition is not None:
        write_csv(run.folder / "noise.csv", noise_table(run.transition, split.noisy))
    if labels is not None:
        objective = method_class(run.settings.method).meta_objective(run.settings)
        plots.save_run_plots(run.folder, pd.DataFrame(progress.history), steps, labels, objective)
    return labels


def write_summary(
    run: Run, split: Split, progress: Progress, labels: pd.DataFrame | None, ranks: Ranks
) -> None:
    """Write the summary, the last file of a run: with it the run is finished, and needs one checkpoint."""
    (run.folder / BEFORE).unlink(missing_ok=True)
    write_json(run.folder / "summary.json", summarize(run.settings, split, progress, labels, ranks))


def _step_table(progress: Progress) -> pd.DataFrame:
    """Build the table of losses, one row per teacher step.

    A loss that was not computed in the warm-up has values in the last rows only.
    """
    total = progress.steps
    columns = {k: pd.Series(v, range(total - len(v) + 1, total + 1)) for k, v in progress.losses.items()}
    return pd.DataFrame(columns, index=pd.RangeIndex(1, total + 1, name="step"))


def _write_estimate(run: Run, split: Split) -> pd.DataFrame | None:
    """Write the labels or the weights of a method without a teacher; return its main columns, if any."""
    estimate = load_estimate(run.folder / run.which)
    if estimate.soft_labels is not None:
        schema = label_schema(
            split.classes,
            true_labels=split.noisy.true_labels is not None,
            retain_weights=estimate.weights is not None,
        )
        tables = estimate_label_tables(estimate, split.noisy, run.student)
        tables = write_blocks(run.folder / "labels.csv", tables, schema)
        return pd.concat((table.filter(_KEPT) for table in tables), ignore_index=True)
    if estimate.weights is None:
        return None
    weights = weight_table(estimate.weights, split.noisy)
    write_csv(run.folder / "weights.csv", weights)
    return weights.rename(columns={"weight": "retain_weight"}).filter(_KEPT)


def _write_labels(run: Run, split: Split, ranks: Ranks) -> pd.DataFrame:
    """Write the teacher's corrected labels; return its main columns."""
    tables: Iterator[pd.DataFrame] = (table for _, table, _ in run.iter_label_tables(split.noisy, ranks))
    if ranks.is_first:
        schema = label_schema(split.classes, true_labels=split.noisy.true_labels is not None)
        tables = write_blocks(run.folder / "labels.csv", tables, schema)
    return pd.concat((table.filter(_KEPT) for table in tables), ignore_index=True)


def summarize(
    settings: Settings, split: Split, progress: Progress, labels: pd.DataFrame | None, ranks: Ranks
) -> dict[str, Any]:
    """Summarise a run; accuracies are in per cent, or None where the data to measure them is missing."""
    history = progress.history
    chosen, last = history[chosen_epoch(history) - 1], history[-1]

    def figure(row: dict[str, float], name: str) -> float | None:
        return round(row[name], 3) if name in row else None

    made = environment(settings, ranks, "emlc", "torch", "torchvision", "numpy")
    return {
        "method": settings.method,
        "test_accuracy": figure(chosen, "test_accuracy"),
        "last_test_accuracy": figure(last, "test_accuracy"),
        "noisy_test_labels": None if split.test is None else has_noisy_test(settings, split),
        "trusted_accuracy": figure(chosen, "trusted_accuracy"),
        "validation_accuracy": figure(chosen, "validation_accuracy"),
        "teacher_test_accuracy": figure(chosen, "teacher_test_accuracy"),
        "label_recovery": figure(chosen, "label_recovery"),
        "wrong_label_recovery": figure(chosen, "wrong_label_recovery"),
        "corrected_label_accuracy": _share_right(labels),
        "last_label_recovery": figure(last, "label_recovery"),
        "last_wrong_label_recovery": figure(last, "wrong_label_recovery"),
        "noise_rate_nominal": split.noise_rate_nominal,
        "noise_rate_actual": split.noise_rate_actual,
        "chosen_epoch": int(chosen["epoch"]),
        "epochs": int(last["epoch"]),
        "noisy_samples": len(split.noisy),
        "trusted_samples": len(split.trusted),
        "test_samples": 0 if split.test is None else len(split.test),
        "seconds": last["seconds"],
        **made,
        "threads": progress.threads,
    }


def _share_right(labels: pd.DataFrame | None) -> float | None:
    """Return how many of the corrected labels whose true label is known are right, in per cent."""
    if labels is None or not {"corrected_label", "true_label"} <= {*labels.columns}:
        return None
    known = labels[labels["true_label"].notna()]
    right = known["corrected_label"] == known["true_label"]
    return round(100 * float(right.mean()), 3) if len(known) else None
