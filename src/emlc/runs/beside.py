"""The comparison of a run with its simple rivals: which samples, which features, which predictions.

A run is compared on its test set if that has right labels, or else on its validation set: the student that
the run has kept, beside rivals that learn from its noisy and trusted samples. Without either the trusted
samples are all there is, and the student has learned from them through the teacher. So emlc is trained again,
in short, once for each of three parts of the trusted samples without that part, on the samples that the
rivals get: what is compared is the method at the size of a few thousand samples, not the student of the run.

The features are the inputs where these are rows of numbers, and otherwise what the trained student makes of
them. The latter have been shaped by the labels that emlc corrected, for all alike.
"""

import time
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from torch import nn

from emlc.config import NoiseSettings, Settings, names_of
from emlc.config.methods import method_class
from emlc.config.sizes import epochs_of
from emlc.data import Samples, Split
from emlc.data.classes import class_codes
from emlc.data.images.stored import Inputs
from emlc.errors import InputError
from emlc.labels.advice import advice_on
from emlc.labels.comparison import Comparison, compare, moved_classes
from emlc.labels.decision import Floats, Labels
from emlc.labels.rivals import RivalData, folds, rival_predictions
from emlc.methods.base import Method
from emlc.networks.inference import predict_proba, represent
from emlc.runs.checkpoint import load_networks
from emlc.runs.fit import fit
from emlc.runs.metrics import has_noisy_test
from emlc.runs.reporters import QuietReporter
from emlc.runs.run import Run
from emlc.runtime.distributed import start_ranks
from emlc.runtime.messages import show_messages
from emlc.runtime.streams import RandomStream, generator, seed_torch

FILE = "rivals.json"
"""Name of the comparison's file in the run directory."""

_FOLDS = 3
_MOST_CELLS = 5_000_000
"""Maximum number of features, over all noisy samples, that rivals learn from."""
_MOST_NOISY = {True: 20_000, False: 5_000}
"""Maximum number of noisy samples, with held-out samples and without; of more, so many are drawn."""
_STEPS = 600
"""Maximum number of steps when emlc is trained again."""
_ON_FEATURES: dict[str, Any] = {
    "backbone": "auto",
    "teacher_backbone": None,
    "width": None,
    "init": "none",
    "teacher_init": None,
    "noisy_augmentation": None,
    "trusted_augmentation": None,
    "precision": "float32",
}
"""Settings of networks that learn from the features of another network, in place of images."""
_FEWEST_TRUSTED = 2
"""Number of trusted samples that every class needs for cross-fitting."""


def has_comparison(run: Run) -> bool:
    """Return whether a run is compared: emlc is, unless ``rivals`` is off."""
    return run.settings.rivals and run.settings.method == "emlc"


def compare_run(run: Run, split: Split, *, alone: bool = True) -> Comparison:
    """Compare a run with its rivals.

    Args:
        run: A finished run of emlc.
        split: Its samples.
        alone: Whether this process is the only one of the run: only then can emlc be trained again.
    """
    start = time.perf_counter()
    figures = _figures(run, split, alone=alone)
    corrected = _corrected(run, split)
    return Comparison(
        **figures,
        moved=moved_classes(split.noisy.given, corrected, split.trusted.given, split.classes),
        seconds=round(time.perf_counter() - start, 2),
    )


def load_comparison(folder: Path) -> Comparison | None:
    """Read the comparison of a run; None if it has none.

    Raises:
        InputError: the file is damaged: nothing can be said of its figures.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    comparison = Comparison.load(path)
    try:
        _ = [f"{value:.1f}" for value in comparison.accuracy.values()], [*map(str, advice_on(comparison))]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the comparison of a run with its rivals: {error!r}") from error
    return comparison


def _corrected(run: Run, split: Split) -> Labels:
    """Return the corrected label (n,) of every noisy sample, from the run's file if it has one."""
    file = run.folder / "labels.parquet"
    column = "corrected_label"
    is_written = file.is_file()
    table = pd.read_parquet(file, columns=[column]) if is_written else run.correct_labels(split.noisy)
    return class_codes(table[column], split.classes)


def _figures(run: Run, split: Split, *, alone: bool) -> dict[str, Any]:
    role = _held_out_role(run.settings, split)
    samples = split.trusted if role is None else getattr(split, role)
    X_trusted = comparable_features(run, split.trusted.inputs)
    most = max(1_000, _MOST_CELLS // X_trusted.shape[1])
    noisy = _drawn(split.noisy, min(most, _MOST_NOISY[role is not None]), run.settings.seed)
    X = comparable_features(run, noisy.inputs)
    data = RivalData(X, noisy.given, X_trusted, split.trusted.given, len(split.classes))
    if role is not None:
        predicted = run.predict_proba(samples.inputs).argmax(dim=1).numpy()
        rivals = rival_predictions(data, comparable_features(run, samples.inputs))
        return {"measured_on": role, **compare(predicted, rivals, samples.given)}
    counts = np.bincount(data.trusted_labels, minlength=data.num_classes)
    if counts.min() < _FEWEST_TRUSTED:
        return {"reason": "class", "single": split.classes[counts.argmin()]}
    if not alone:
        return {"reason": "processes"}
    parts = folds(data.trusted_labels, _FOLDS, run.settings.seed)
    rivals = rival_predictions(data, parts=parts)
    predicted = _retrained(run, split.classes, data, parts)
    return {"measured_on": "trusted", **compare(predicted, rivals, samples.given)}


def _held_out_role(settings: Settings, split: Split) -> str | None:
    """Return the role of samples with right labels that nothing was learned from."""
    if split.test is not None and not has_noisy_test(settings, split):
        return "test"
    return "validation" if split.validation is not None else None


def _drawn(noisy: Samples, most: int, seed: int) -> Samples:
    rows = generator(seed, RandomStream.RIVAL_SAMPLES).permutation(len(noisy))
    return noisy.take(rows[:most])


def comparable_features(run: Run, inputs: Inputs) -> Floats:
    """Return the features (n, d) that simple classifiers learn from: see the module."""
    if inputs.ndim == 2:
        return run.reduced(inputs)
    return represent(run.student.get_submodule("backbone"), inputs).flatten(1).double().numpy()


def _retrained(run: Run, classes: tuple[str, ...], data: RivalData, parts: list[Labels]) -> Labels:
    """Predict each part of the trusted samples (m,) by emlc trained without that part."""
    is_features = len(run.schema.input_shape) == 1
    settings = _short(run.settings, len(data.given), is_features=is_features)
    predicted = np.zeros(len(data.trusted), dtype=np.int64)
    noisy = _samples(data.noisy, data.given, classes)
    for part in parts:
        rest = np.setdiff1d(np.arange(len(data.trusted)), part)
        trusted = _samples(data.trusted[rest], data.trusted_labels[rest], classes)
        student = _fit(settings, Split(noisy=noisy, trusted=trusted))
        inputs = torch.from_numpy(data.trusted[part].astype(np.float32))
        predicted[part] = predict_proba(student, inputs).argmax(dim=1).numpy()
    return predicted


def _fit(settings: Settings, split: Split) -> nn.Module:
    """Train, and return the student of the chosen epoch; nothing else is computed or kept."""
    ranks = start_ranks(settings.device)
    seed_torch(settings.seed, RandomStream.INITIAL_WEIGHTS)
    method: Method = method_class(settings.method)(settings, split.noisy.inputs, len(split.classes))
    with TemporaryDirectory(prefix="emlc-") as folder, show_messages(Console(quiet=True)):
        fit(method, split, settings, QuietReporter(), Path(folder), ranks, resumable=False)
        load_networks(Path(folder) / "chosen", {"student": method.student})
    return method.student


def _samples(X: Floats, labels: Labels, classes: tuple[str, ...]) -> Samples:
    ids = np.array([str(row) for row in range(len(X))], dtype=np.object_)
    inputs = torch.from_numpy(X.astype(np.float32))
    return Samples(inputs=inputs, ids=ids, classes=classes, labels=labels)


def _short(settings: Settings, n: int, *, is_features: bool) -> Settings:
    """Return the settings of a short training on features of n noisy samples."""
    epochs = min(settings.passes, epochs_of(_STEPS, n, settings))
    steps = {"schedule": "cosine", "schedule_epochs": None} if settings.schedule == "step" else {}
    warm_up = None if settings.warm_up_epochs is None else min(settings.warm_up_epochs, epochs - 1)
    own: dict[str, Any] = {"epochs": epochs, "warm_up_epochs": warm_up, "rivals": False, **steps}
    own |= dict.fromkeys(names_of(Settings, lambda facts: facts.draws)) | asdict(NoiseSettings())
    return replace(settings, **own | ({} if is_features else _ON_FEATURES))
