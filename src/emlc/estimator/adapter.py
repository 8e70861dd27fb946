"""The adapter from the estimator to a run: it makes the split, chooses settings and a device, and trains."""

import contextlib
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
from emlc.config.sizes import adds_warm_up, fitted
from emlc.data import Samples, Split, split_samples
from emlc.data.classes import shorten
from emlc.data.columns.encoding import Column, as_dict
from emlc.data.images.stored import Inputs, StoredImages
from emlc.data.samples import array_inputs, check_finite
from emlc.errors import InputError, SteepNetworkWarning
from emlc.runs.run import Run
from emlc.runs.train import train
from emlc.runtime.distributed import pick_device, under_torchrun

WARM_UP_EPOCHS = 5
"""Maximum number of warm-up epochs if ``warm_up_epochs`` is None."""

CPU_STEPS = 2000
"""Maximum number of steps on rows of numbers for which the CPU is preferred to a GPU, which starts slowly."""

_TRAINING = Lock()
"""Lock of a fit, since it seeds and restores torch's global generator, which all threads share."""


def samples_of(
    X: NDArray[Any] | Inputs, codes: NDArray[np.int64] | None, classes: Iterable[object]
) -> Samples:
    """Make samples of X, with row numbers as ids and the classes as text for class names.

    Args:
        X: (n, d) numbers, or n images.
        codes: (n,) indices into the classes, or None for samples without labels.
        classes: (C,) classes.

    Raises:
        InputError: X has the shape of neither features nor images, or values that float32 cannot hold.
    """
    inputs = X if isinstance(X, torch.Tensor | StoredImages) else array_inputs(X, "X")
    ids = np.array([str(row) for row in range(len(inputs))], dtype=np.object_)
    if isinstance(inputs, torch.Tensor):
        check_finite(inputs, ids, "X")
    return Samples(inputs=inputs, ids=ids, classes=tuple(map(str, classes)), labels=codes)


def trusted_mask(trusted: Any, n: int) -> NDArray[np.bool_]:
    """Convert a boolean mask (n,) or integer indices to a boolean mask (n,).

    Raises:
        InputError: ``trusted`` is neither, has a wrong length or an index out of range, or marks no sample.
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
            raise InputError(
                "trusted: found zeros and ones, one per sample; if this is a mask, make it boolean"
            )
        if len(values) and not 0 <= values.min() <= values.max() < n:
            raise InputError(
                f"trusted: expected indices from 0 to {n - 1}, found {values.min()} to {values.max()}"
            )
        mask[values.astype(np.int64)] = True
    else:
        raise InputError(f"trusted: expected a boolean mask or integer indices, found {values.dtype}")
    if not mask.any():
        raise InputError("trusted: marks no sample; give None if every label is trusted")
    return mask


def split_of(
    samples: Samples,
    mask: NDArray[np.bool_] | None,
    validation_fraction: float | None,
    seed: int,
    columns: Iterable[Column] = (),
) -> Split:
    """Split samples by role. Without a mask all samples are learned from, and choose the epoch too.

    Args:
        samples: All samples of the fit.
        mask: (n,) which of them are trusted.
        validation_fraction: Share of the trusted samples that is held out.
        seed: Seed of the split.
        columns: How the columns of a table became the samples' features.

    Raises:
        InputError: a class has no trusted sample, or too few to hold a fraction out.
    """
    settings = DataSettings(classes=list(samples.classes), validation_fraction=validation_fraction)
    encoding = tuple(map(as_dict, columns))
    if mask is not None:
        marked = replace(samples, trusted=mask)
        split = split_samples(marked, settings=settings, seed=seed, may_overlap=True)
        return replace(split, columns=encoding)
    split = split_samples(samples, samples, settings=settings, seed=seed, may_overlap=True)
    return replace(split, noisy=replace(split.trusted, true_labels=None), columns=encoding)


def settings_of(
    parameters: Mapping[str, Any], further: Mapping[str, Any] | None, split: Split, seed: int
) -> Settings:
    """Make the settings of a run from the estimator's parameters, further settings, and the size of the data.

    Raises:
        InputError: a further setting does not exist or is a parameter; or a value is out of range.
    """
    settings = fitted(unfitted(parameters, further, seed), len(split.noisy))
    if settings.warm_up_epochs is None and adds_warm_up(settings.method) and _can_warm_up(settings):
        settings = replace(settings, warm_up_epochs=min(WARM_UP_EPOCHS, settings.passes // 4))
    return replace(settings, device=_device(settings, split))


def unfitted(parameters: Mapping[str, Any], further: Mapping[str, Any] | None, seed: int) -> Settings:
    """Make the settings of a run whose data are not known yet; see :func:`settings_of`."""
    _check_further(further, parameters)
    values = {name: _plain(value) for name, value in {**parameters, **(further or {})}.items()}
    return Settings(**({"rivals": False} | values), seed=seed)


def _can_warm_up(s: Settings) -> bool:
    """Tell whether a warm-up helps: with the gate, from random weights, and networks of the same backbone."""
    if s.teacher != "gate":  # the noise-aware teacher learns the given labels itself
        return False
    return s.init == "none" and s.teacher_init is None and s.teacher_backbone in (None, s.backbone)


def _check_further(further: Mapping[str, Any] | None, parameters: Mapping[str, Any]) -> None:
    if not isinstance(further or {}, Mapping):
        raise InputError(f"settings: expected a dictionary or None, got {type(further).__name__}")
    parameter_of = {"seed": "random_state", "output": "output", "validation_fraction": "validation_fraction"}
    parameter_of |= {name: name for name in parameters}
    known = estimator_settings()
    for name in further or {}:
        if name in parameter_of:
            raise InputError(
                f"settings: {name} is set by the parameter {parameter_of[name]} of the estimator"
            )
        if name not in known:
            expected = shorten(sorted(known - {*parameter_of}))
            raise InputError(f"settings: {name!r} is no setting of the estimator; expected {expected}")


def _plain(value: Any) -> Any:
    """Convert numpy's numbers, which searches over parameters pass, to Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _device(settings: Settings, split: Split) -> str:
    if settings.device != "auto":
        return settings.device
    steps = settings.passes * len(split.noisy) / settings.batch
    return "cpu" if split.noisy.inputs.ndim == 2 and steps <= CPU_STEPS else "auto"


@contextlib.contextmanager
def trained(
    settings: Settings, split: Split, output: str | os.PathLike[str] | None, *, verbose: bool
) -> Iterator[Run]:
    """Train and yield a run in ``output``, or in a directory that is deleted after the block.

    Torch's global generators are restored.

    Raises:
        InputError: ``output`` holds a run already, or several processes train.
    """
    kept = None if output is None else Path(output).expanduser()
    if kept is not None and (kept / "settings.yaml").exists():
        raise InputError(
            f"output: {output} holds the run of an earlier fit; each fit needs an output of its own"
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
        # It needs no action, since another engine is used already; ``verbose`` shows it in the log.
        warnings.simplefilter("ignore", SteepNetworkWarning)
        folder = kept or Path(stack.enter_context(TemporaryDirectory(prefix="emlc-"))) / "run"
        yield train(replace(settings, output=str(folder)), split, lean=kept is None, console=console)
