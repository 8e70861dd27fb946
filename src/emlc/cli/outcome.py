"""The end of `emlc train`: what was found, how sure that is, and what to do next."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emlc.labels.comparison import Comparison
    from emlc.runs.run import Run


def outcome(run: "Run") -> Iterator[str]:
    """Yield the lines that `emlc train` ends with."""
    from emlc.labels.advice import advice_on
    from emlc.runs.beside import load_comparison

    summary, folder = run.summary, run.folder
    yield f"run: {folder}"
    yield f"  trained in {_seconds(summary['seconds'])}, {summary['epochs']} epochs, on {summary['device']}"
    yield from (f"  {line}" for line in _labels(run))
    yield from (f"  {line}" for line in _accuracy(summary))
    comparison = load_comparison(folder)
    if comparison is not None:
        yield from (f"  {line}" for line in _beside(comparison))
        yield from (f"{each}" for each in advice_on(comparison))
    yield from _next(run)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


_WEAKENED = 0.9
"""Power of the noise below which the given labels are said to count less."""


def _labels(run: "Run") -> Iterator[str]:
    if run.teacher is None:
        return
    import pandas as pd
    import pyarrow.parquet as pq

    file = run.folder / "labels.parquet"
    wanted = {"is_label_issue", "corrected_label", "true_label"}
    table = pd.read_parquet(file, columns=[name for name in pq.read_schema(file).names if name in wanted])
    issues, n, decision = int(table["is_label_issue"].sum()), len(table), run.decision
    if decision.threshold == 0:
        yield (
            f"no label is changed: the {decision.trusted_samples:,} {decision.calibrated_on} samples do not "
            f"show that changing any of the {n:,} labels would make them better"
        )
        return
    line = f"{issues:,} of {n:,} labels look wrong ({issues / n:.1%})"
    if decision.noise_rate is not None:
        line += f"; an estimated {decision.noise_rate:.1%} are wrong"
    yield line
    if decision.expected_f1 is not None:
        yield (
            f"how sure: the expected F1 score is {decision.expected_f1:.0%}, estimated from "
            f"{decision.trusted_samples:,} {decision.calibrated_on} samples (100%: all wrong labels are "
            "found, and only these)"
        )
    if (power := getattr(decision, "transition_power", 1.0)) < _WEAKENED:
        yield (
            "the checked samples show that labels are wrong where a sample looks like another class: given "
            f"labels count less (power {power:.2f} of the noise)"
        )
    known = table.dropna(subset=["true_label"]) if "true_label" in table else table[:0]
    if len(known):
        right = (known["corrected_label"] == known["true_label"]).mean()
        yield f"the true labels are known: {right:.1%} of the corrected labels are right"


def _accuracy(summary: dict[str, Any]) -> Iterator[str]:
    """Yield the accuracy on samples that were not learned from; that on trusted ones says too little."""
    for role in ("test", "validation"):
        share = summary[f"{role}_accuracy"]
        if share is None:
            continue
        if role == "test" and summary.get("noisy_test_labels"):
            noisy = "which are as noisy as the others"
            yield f"the classifier agrees with {share:.1f} % of the test labels, {noisy}"
        else:
            yield f"the classifier gets {share:.1f} % of the {role} samples right"


def _beside(comparison: "Comparison") -> Iterator[str]:
    from emlc.labels.advice import sample_words

    if comparison.accuracy:
        figures = ", ".join(f"{name} {value:.1f} %" for name, value in comparison.accuracy.items())
        how = (
            " (each predicted by a model that was trained without it)"
            if comparison.measured_on == "trusted"
            else ""
        )
        yield f"compared with simpler methods, on {sample_words(comparison)}{how}: {figures}"


def _next(run: "Run") -> Iterator[str]:
    folder = shlex.quote(str(run.folder))
    labels = Path(run.folder) / "labels.csv"
    yield f"next: emlc report {folder}     the result as a page, to look at and to review"
    if run.teacher is None and labels.exists():
        yield f"      {labels} has the corrected labels"
    elif labels.exists():
        yield f"      emlc correct {folder}    the corrected labels, {labels}, and how good they are"
    yield f"      emlc predict {folder} DATA"
