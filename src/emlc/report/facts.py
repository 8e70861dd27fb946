"""The data of a report, collected from the run directory, the run's samples and its networks."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emlc.config import Settings, facts_of, paths_of
from emlc.data import Split
from emlc.data.classes import UNKNOWN, shorten
from emlc.data.noise import observed_transition
from emlc.errors import InputError
from emlc.labels.advice import Advice, advice_on
from emlc.labels.comparison import Comparison
from emlc.labels.decision import Decision
from emlc.report.gallery import Gallery, choose, make_gallery
from emlc.report.issues import LabelFacts, label_facts
from emlc.report.projection import project, projected
from emlc.runs.beside import load_comparison
from emlc.runs.evaluation import Evaluation, evaluate_probabilities
from emlc.runs.fit import chosen_epoch
from emlc.runs.metrics import has_noisy_test
from emlc.runs.run import Run
from emlc.runtime.files import read_json

_ROLES = ("noisy", "trusted", "validation", "test")

_TABLE_COLUMNS = (
    *("id", "given_label", "corrected_label", "corrected_probability"),
    *("predicted_label", "label_quality", "is_label_issue"),
)
"""Columns of every label table; that of a method without a teacher may have no retain weight."""

_NUMBERS = ("corrected_probability", "retain_weight", "label_quality")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The data of a report. A part that is not available is None; ``missing`` says why.

    Attributes:
        run: The run.
        weights: chosen | last: the epoch whose weights are reported on.
        identity: Hash that identifies the run; the browser stores review decisions under it.
        counts: Number of samples by role (noisy, trusted, validation, test), for the roles that exist.
        summary: Contents of ``summary.json``; empty for an interrupted run.
        metrics: ``metrics.csv``: one row per epoch.
        steps: ``steps.csv``: one row per teacher step.
        evaluated: Role of the samples that ``evaluation`` was measured on.
        evaluation: Evaluation of the student on the test set, or else the validation or the trusted set.
        labels: Summary of the label table.
        true_noise: (C, C) P(given label | true class) among the noisy samples with a known true label, rows:
            true class; NaN in rows of absent classes; None if no true label is known.
        decision: The threshold below which a label counts as an issue, with its calibration; None for runs
            that did not record it.
        points: The map: one row per point, with columns x, y and those of the label table, or without one
            id and given_label.
        gallery: Samples to review.
        missing: Part of the report (data, labels, map, gallery) -> why it is missing.
        comparison: The run beside simple rivals, by which it was judged when it was trained.
        noisy_test: Whether the labels of the test set are as noisy as the others.
    """

    run: Run
    weights: str
    identity: str
    counts: dict[str, int]
    summary: dict[str, Any]
    metrics: pd.DataFrame | None
    steps: pd.DataFrame | None
    evaluated: str = ""
    evaluation: Evaluation | None = None
    labels: LabelFacts | None = None
    true_noise: NDArray[np.float64] | None = None
    decision: Decision | None = None
    points: pd.DataFrame | None = None
    gallery: Gallery | None = None
    missing: dict[str, str] = field(default_factory=dict)
    comparison: Comparison | None = None
    noisy_test: bool = False

    @property
    def advice(self) -> list[Advice]:
        """What speaks against the result of the run, the gravest first."""
        return [] if self.comparison is None else advice_on(self.comparison)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.run.schema.classes

    @property
    def chosen_and_last(self) -> tuple[dict[str, float], dict[str, float]] | None:
        """Metrics of the chosen and of the last epoch; None if no epoch was chosen."""
        if self.metrics is None or self.metrics.empty or "choice_accuracy" not in self.metrics:
            return None
        rows = self.metrics.to_dict("records")
        history = [{str(k): v for k, v in row.items() if pd.notna(v)} for row in rows]
        try:
            chosen = chosen_epoch(history)
        except KeyError as error:
            raise InputError(f"{self.run.folder / 'metrics.csv'}: an epoch has no {error}") from error
        return (history[chosen - 1], history[-1]) if chosen > 0 else None


def collect(
    run: Run,
    *,
    weights: str = "chosen",
    samples: int = 500,
    map_samples: int = 2000,
    show_progress: Callable[[str], None] = lambda message: None,
) -> Facts:
    """Collect the data of a report; most of the time goes into inference on all samples.

    Args:
        run: The run, loaded with ``weights``.
        weights: chosen | last: the epoch whose weights are reported on.
        samples: Number of samples in the gallery; 0 for no gallery.
        map_samples: Number of samples on the map; 0 for no map.
        show_progress: Called with a message before each part of the work.

    Raises:
        InputError: A file of the run cannot be read, or ``labels.csv`` is no label table of this run.
    """
    folder, missing = run.folder, dict[str, str]()
    show_progress("reading the run's data")
    split = _split(run, missing)
    known: dict[str, Any] = {}
    if split is not None:
        show_progress("measuring the student")
        known |= _evaluation(run, split)
    show_progress("correcting the labels")
    if split is not None and run.teacher is not None:
        run = run.with_decision(split)
    table = _label_table(run, split, missing)
    if table is not None:
        known["labels"] = label_facts(table, run.schema.classes)
        known["decision"] = _decision(run, split)
        if "retain_weight" not in table:
            missing["gallery"] = f"It shows retain weights, and the method {run.settings.method} has none."
        elif samples > 0:
            show_progress("choosing samples to review")
            known["gallery"] = _gallery(run, split, table, samples)
        else:
            missing["gallery"] = "It was left out on request."
    known["true_noise"] = _true_noise(split, known.get("labels"))
    if split is not None and map_samples > 0:
        show_progress("drawing the map of the samples (t-SNE)")
        known["points"] = _points(run, split, table, map_samples)
    if known.get("points") is None:
        missing.setdefault("map", missing.get("data") or "It was left out.")
    summary = _summary(folder / "summary.json")
    noisy_test = summary.get("noisy_test_labels") if split is None else has_noisy_test(run.settings, split)
    return Facts(
        run=run,
        weights=weights,
        identity=identity_of(run),
        counts=_counts(folder),
        summary=summary,
        metrics=_history(folder / "metrics.csv", ("epoch", "seconds")),
        steps=_history(folder / "steps.csv", ("step",)),
        missing=missing,
        comparison=load_comparison(folder),
        noisy_test=bool(noisy_test),
        **known,
    )


def _split(run: Run, missing: dict[str, str]) -> Split | None:
    try:
        return run.split()
    except InputError as error:
        missing["data"] = f"The run's samples cannot be read again: {_without_folders(str(error), run)}"
        return None


def _without_folders(text: str, run: Run) -> str:
    """Remove the folders of the run's files from a message: reports are shared with others."""
    paths = [Path(path).expanduser() for path in paths_of(run.settings).values()]
    folders = {str(path.parent) for path in [*paths, run.folder]} - {"/", "."}
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def _evaluation(run: Run, split: Split) -> dict[str, Any]:
    role = next(role for role in ("test", "validation", "trusted") if getattr(split, role) is not None)
    samples = getattr(split, role)
    probabilities = run.predict_proba(samples.inputs)
    return {
        "evaluated": role,
        "evaluation": evaluate_probabilities(probabilities, samples.given, run.schema.classes),
    }


def _label_table(run: Run, split: Split | None, missing: dict[str, str]) -> pd.DataFrame | None:
    """Return the label table of the noisy samples: computed with these weights, or else read from the run."""
    if run.teacher is not None and split is not None:
        return run.correct_labels(split.noisy)
    reason = "The samples cannot be read again"
    if run.teacher is None:
        reason = f"The method {run.settings.method} has no teacher"
    path = run.folder / "labels.csv"
    if not path.is_file():
        advice = "; emlc train --method emlc has a teacher" if run.teacher is None else ""
        missing["labels"] = f"{reason}, and the run has no labels.csv{advice}."
        return None
    if run.which == "last":
        missing["labels"] = f"{reason}, and labels.csv is of the chosen weights, not of the last."
        return None
    table = _stored_table(path, run)
    if split is not None and not np.array_equal(table["id"].to_numpy(), split.noisy.ids):
        raise InputError(f"{path}: expected one row for each noisy sample of the run, in their order")
    return table


def _stored_table(path: Path, run: Run) -> pd.DataFrame:
    required = _TABLE_COLUMNS if run.teacher is None else (*_TABLE_COLUMNS, "retain_weight")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if absent := [name for name in required if name not in table]:
        raise InputError(f"{path}: expected a label table, but it has no column {', '.join(absent)}")
    numbers = [name for name in _NUMBERS if name in table]
    try:
        for name in numbers:
            table[name] = table[name].astype(np.float64)
    except ValueError as error:
        raise InputError(f"{path}: {name}: {error}") from error
    _check_classes(table, run.schema.classes, path)
    table["is_label_issue"] = table["corrected_label"] != table["given_label"]
    return table


def _check_classes(table: pd.DataFrame, classes: tuple[str, ...], path: Path) -> None:
    optional = {"true_label"} & set(table)
    for name in ("given_label", "corrected_label", "predicted_label", *optional):
        allowed = {*classes, ""} if name in optional else {*classes}
        if (unknown := ~table[name].isin(allowed)).any():
            row = int(unknown.argmax())
            raise InputError(
                f"{path}: row {row}, column {name!r}: {table[name].iloc[row]!r} is none of the run's classes "
                f"{shorten(classes)}"
            )


def _true_noise(split: Split | None, labels: LabelFacts | None) -> NDArray[np.float64] | None:
    if labels is not None:
        return None if labels.truth is None else labels.truth.transition
    noisy = None if split is None else split.noisy
    if noisy is None or noisy.true_labels is None or (noisy.true_labels == UNKNOWN).all():
        return None
    return observed_transition(noisy.given, noisy.true_labels, len(noisy.classes))


def _gallery(run: Run, split: Split | None, table: pd.DataFrame, size: int) -> Gallery:
    choice, schema = choose(table, size), run.schema
    rows = choice.rows
    if split is None:
        return make_gallery(table.iloc[rows], choice, schema.classes).with_rest(table, rows)
    samples = split.noisy.take(rows)
    gallery_table = table.iloc[rows]
    if run.teacher is not None:
        gallery_table = run.correct_labels(samples, all_probabilities=True)
    gallery = make_gallery(gallery_table, choice, schema.classes, samples, schema.feature_columns)
    return gallery.with_rest(table, rows)


def _decision(run: Run, split: Split | None) -> Decision | None:
    """Return the decision that the label table was made with, if it is known."""
    path = run.folder / "decision.json"
    if split is not None and run.teacher is not None:
        return run.decision
    return Decision.load(path) if path.is_file() else None


def _points(run: Run, split: Split, table: pd.DataFrame | None, size: int) -> pd.DataFrame | None:
    backbone = run.student.get_submodule("backbone")
    projection = project(backbone, split.noisy, size, run.settings.seed)
    if projection is None:
        return None
    if table is None:
        noisy = split.noisy
        given = np.array(noisy.classes, dtype=object)[noisy.given]
        table = pd.DataFrame({"id": noisy.ids, "given_label": given})
    return projected(projection, table)


def _counts(folder: Path) -> dict[str, int]:
    roles = _csv(folder / "split.csv", usecols=["role"])
    if roles is None:
        return {}
    counts = roles["role"].value_counts()
    return {role: int(counts[role]) for role in _ROLES if role in counts}


def identity_of(run: Run) -> str:
    """Hash a run's settings and split; the same run has the same text on every machine.

    Settings that may change when a run is resumed do not count, nor do paths.
    """
    facts = facts_of(Settings)
    lasting = {
        name: value
        for name, value in run.settings.as_dict().items()
        if not (facts[name].free_on_resume or facts[name].is_path(value))
    }
    digest = blake2b(json.dumps(lasting, sort_keys=True).encode(), digest_size=12)
    split = run.folder / "split.csv"
    digest.update(split.read_bytes() if split.is_file() else b"")
    return digest.hexdigest()


def _summary(path: Path) -> dict[str, Any]:
    summary = _json(path)
    rates = [summary.get(f"noise_rate_{name}") for name in ("nominal", "actual")]
    if not all(rate is None or isinstance(rate, int | float) for rate in rates):
        raise InputError(f"{path}: noise_rate: expected numbers, found {rates}")
    if not isinstance(versions := summary.get("versions", {}), dict):
        raise InputError(f"{path}: versions: expected an object, found {versions!r:.100}")
    return summary


def _history(path: Path, required: Sequence[str]) -> pd.DataFrame | None:
    """Read a table of numbers, of which those in the required columns, first the row's, must be there."""
    table = _csv(path)
    if table is None or table.empty:
        return table
    if missing := [name for name in required if name not in table]:
        raise InputError(f"{path}: no column {missing[0]!r}; found {shorten([*map(str, table.columns)])}")
    for name, column in table.items():
        numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
        wrong = (numbers.isna() & (column.notna() | (name in required))) | np.isinf(numbers)
        if name == required[0] == "epoch":
            wrong |= numbers != np.arange(1, len(table) + 1)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            found = f"{column.iloc[row]!r:.100}"
            raise InputError(
                f"{path}: row {row}, column {name!r}: expected a number, in order, found {found}"
            )
    return table


def _csv(path: Path, **options: Any) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        table: pd.DataFrame = pd.read_csv(path, **options)
        return table
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
