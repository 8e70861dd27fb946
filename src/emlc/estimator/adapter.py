"""Between the estimator and a run: which samples are trusted, settings that suit them, a device."""

import contextlib
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from emlc.config import DataSettings, Settings, estimator_settings
from emlc.config.methods import method_class
from emlc.data import Samples, Split, split_samples
from emlc.data.classes import shorten
from emlc.data.samples import array_inputs, check_finite
from emlc.errors import InputError, SteepNetworkWarning
from emlc.runs.run import Run
from emlc.runs.train import train
from emlc.runtime.distributed import pick_device, under_torchrun

MIN_STEPS = 300
"""Steps that a fit takes at least, where the number of epochs is left open."""

MIN_EPOCHS, MAX_EPOCHS = 15, 100
"""Between which the number of epochs then is."""

WARM_UP_EPOCHS = 5
"""Most epochs of warming up, where their number is left open."""

CPU_STEPS = 2000
"""On rows of numbers, that many steps are over on a CPU before a GPU has warmed up."""

_TRAINING = Lock()
"""Held by a fit: torch's generator, which it seeds and restores, is shared by all threads."""


def samples_of(X: NDArray[Any], codes: NDArray[np.int64] | None, classes: Iterable[object]) -> Samples:
    """Samples whose ids are the row numbers, and whose class names are the classes as text.

    Raises:
        InputError: X has another shape than features or images have, or values beyond float32.
    """
    inputs = array_inputs(X, "X")
    ids = np.array([str(row) for row in range(len(inputs))], dtype=np.object_)
    check_finite(inputs, ids, "X")
    return Samples(inputs=inputs, ids=ids, classes=tuple(map(str, classes)), labels=codes)


def trusted_mask(trusted: Any, n: int) -> NDArray[np.bool_]:
    """A boolean mask (n,) from such a mask, or from integer indices.

    Raises:
        InputError: it is neither, or of another length, or out of range; or marks nothing.
    """
    values = np.asarray(trusted)
    if values.ndim != 1:
        raise InputError(f"trusted: expected a mask or indices, found an array of shape {values.shape}")
    mask = np.zeros(n, dtype=np.bool_)
    if values.dtype == np.bool_:
        if len(values) != n:
            raise InputError(f"trusted: expected a mask of {n} samples, found one of {len(values)}")
        mask |= values
    elif values.dtype.kind in "iu" or len(values) == 0:
        if len(values) == n > 2 and set(values.tolist()) <= {0, 1}:
            raise InputError("trusted: zeros and ones, as many as samples: is it a mask? Make it boolean")
        if len(values) and not 0 <= values.min() <= values.max() < n:
            raise InputError(
                f"trusted: expected indices from 0 to {n - 1}, found {values.min()} to {values.max()}"
            )
        mask[values.astype(np.int64)] = True
    else:
        raise InputError(f"trusted: expected a boolean mask or integer indices, found {values.dtype}")
    if not mask.any():
        raise InputError("trusted: marks no sample; None means that every label is trusted")
    return mask


def split_of(
    samples: Samples, mask: NDArray[np.bool_] | None, validation_fraction: float | None, seed: int
) -> Split:
    """Samples by role. Without a mask all are learned from as they are labelled, and choose the epoch.

    Raises:
        InputError: a class has no trusted sample, or too few to hold some out.
    """
    settings = DataSettings(classes=list(samples.classes), validation_fraction=validation_fraction)
    if mask is not None:
        marked = replace(samples, trusted=mask)
        return split_samples(marked, settings=settings, seed=seed, may_overlap=True)
    split = split_samples(samples, samples, settings=settings, seed=seed, may_overlap=True)
    return replace(split, noisy=replace(split.trusted, true_labels=None))


def settings_of(
    parameters: Mapping[str, Any], further: Mapping[str, Any] | None, split: Split, seed: int
) -> Settings:
    """Settings of a run: the estimator's parameters, further settings, and defaults that suit the data.

    Raises:
        InputError: a further setting is none, or has a parameter of its own; a value is out of range.
    """
    _check_further(further, parameters)
    values = {name: _plain(value) for name, value in {**parameters, **(further or {})}.items()}
    left_open = {name for name in ("noisy_batch", "epochs", "warm_up_epochs") if values[name] is None}
    # What is left open depends on the rest: that is checked first, by itself.
    given = {name: value for name, value in values.items() if name not in left_open}
    settings = Settings(**({"epochs": 2**31} | given), seed=seed)

    n, method = len(split.noisy), method_class(settings.method)
    # A method that can warm up, but was not published to, does so beside the epochs that it needs.
    extra_warm_up = method.warms_up and not method.warm_up_share
    if "noisy_batch" in left_open:
        settings = replace(settings, noisy_batch=min(128, max(16, n // 10)))
    if "epochs" in left_open:
        a_step = settings.noisy_batch * (settings.look_ahead if method.looks_ahead else 1)
        epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(MIN_STEPS * a_step / n)))
        settings = replace(settings, epochs=epochs + (settings.warm_up if extra_warm_up else 0))
    if "warm_up_epochs" in left_open and extra_warm_up and _start_anew(settings):
        settings = replace(settings, warm_up_epochs=min(WARM_UP_EPOCHS, settings.epochs // 4))
    return replace(settings, device=_device(settings, split))


def _start_anew(s: Settings) -> bool:
    """Whether both networks start from random weights, and alike."""
    return s.init == "none" and s.teacher_init is None and s.teacher_backbone in (None, s.backbone)


def _check_further(further: Mapping[str, Any] | None, parameters: Mapping[str, Any]) -> None:
    if not isinstance(further or {}, Mapping):
        raise InputError(f"settings: expected a dictionary or None, got {type(further).__name__}")
    elsewhere = {"seed": "random_state", "output": "output", "validation_fraction": "validation_fraction"}
    elsewhere |= {name: name for name in parameters}
    known = estimator_settings()
    for name in further or {}:
        if name in elsewhere:
            raise InputError(f"settings: {name} is the parameter {elsewhere[name]}: set it there")
        if name not in known:
            raise InputError(f"settings: {name!r} is none; expected {shorten(sorted(known - {*elsewhere}))}")


def _plain(value: Any) -> Any:
    """Searches over parameters hand numpy's numbers in."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _device(settings: Settings, split: Split) -> str:
    if settings.device != "auto":
        return settings.device
    steps = settings.epochs * len(split.noisy) / settings.noisy_batch
    return "cpu" if split.noisy.inputs.ndim == 2 and steps <= CPU_STEPS else "auto"


@contextlib.contextmanager
def trained(
    settings: Settings, split: Split, output: str | os.PathLike[str] | None, *, verbose: bool
) -> Iterator[Run]:
    """A run in ``output``, or in a directory that is gone after the block; global seeds stay as they are."""
    if output is not None and (Path(output) / "settings.yaml").exists():
        raise InputError(
            f"output: {output} holds the run of an earlier fit; output is for one fit, give the next another"
        )
    if under_torchrun():
        raise InputError("EMLCClassifier trains in one process: under torchrun use emlc.train")
    console = Console(stderr=True) if verbose else Console(quiet=True)
    device = pick_device(settings.device)
    devices = [device.index or 0] if device.type == "cuda" else []
    with contextlib.ExitStack() as stack:
        stack.enter_context(_TRAINING)
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(warnings.catch_warnings())
        # What has been done about it already, and what ``verbose`` tells anyway.
        warnings.simplefilter("ignore", SteepNetworkWarning)
        if output is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="emlc-"))) / "run"
        else:
            folder = Path(output)
        yield train(replace(settings, output=str(folder)), split, lean=output is None, console=console)
