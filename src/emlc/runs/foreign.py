"""A run that somebody else may have made: nothing is written where only they wanted it, nothing is huge."""

import logging
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from emlc.config import Settings
from emlc.config.methods import method_class
from emlc.data import Schema
from emlc.data.sources.cifar import CIFAR, is_complete
from emlc.errors import InputError
from emlc.runtime.trust import FOLDERS, USUAL, is_known_folder

_MOST_VALUES = 2**26
"""Number of values of the largest input, as of an image of 4,096 x 4,096 pixels."""

_log = logging.getLogger(__name__)


def with_known_folders(settings: Settings, where: Path) -> Settings:
    """Return a run's settings with no folder to write to that was not named on this machine before.

    Without caches the data are decoded and embedded again; ``data_root`` stays where the data lie in it.
    """
    folders = {name: getattr(settings, name) for name in FOLDERS}
    unknown = [name for name, folder in folders.items() if folder and not is_known_folder(folder)]
    sources = {settings.data, settings.trusted, settings.validation, settings.test} & CIFAR.keys()
    if all(source and is_complete(source, settings) for source in sources):
        unknown = [name for name in unknown if name != "data_root"]
    changes: dict[str, Any] = {name: USUAL[name] if name == "data_root" else None for name in unknown}
    for name, value in changes.items():
        _log.info(
            f"{where}: {name}: {folders[name]} was not used here before, and nothing is written to it; "
            f"{value or 'no folder'} is used instead, unless --trust_code is given"
        )
    return replace(settings, **changes)


def check_sizes(settings: Settings, schema: Schema, folder: Path, which: str) -> None:
    """Check that the networks are as large as their stored weights, before any memory is taken for them.

    Raises:
        InputError: a tensor would have another shape; or the inputs are larger than any.
    """
    shape, where = schema.input_shape, folder / "model.json"
    texts = [*schema.classes, *schema.feature_columns]
    if not all(type(size) is int and size > 0 for size in shape) or len(shape) not in (1, 3):
        raise InputError(f"{where}: input_shape: expected d, or channels, height and width, found {shape}")
    if prod(shape) > _MOST_VALUES:
        raise InputError(f"{where}: input_shape: expected at most {_MOST_VALUES:,} values, found {shape}")
    _ = schema.encoding, schema.feature_names  # which raises an error for columns of no known kind
    if not all(isinstance(text, str) for text in texts) or len({*schema.classes}) < 2:
        raise InputError(f"{where}: classes and feature_columns: expected names, of at least 2 classes")
    if any(":" in (name or "") for name in (settings.backbone, settings.teacher_backbone)):
        return  # the user's code need not run without memory
    with torch.device("meta"):
        method = method_class(settings.method)(settings, torch.zeros(2, *shape), len(schema.classes))
    for name in {"student", "teacher", method.noise_model} & method.networks().keys():
        state = method.networks()[name].state_dict()
        stored = _stored_shapes(folder / which / f"{name}.safetensors")
        for key in sorted(state.keys() & stored.keys()):
            if tuple(state[key].shape) != stored[key]:
                raise InputError(
                    f"{where}, {folder / 'settings.yaml'}: describe another {name} than its weights: {key} "
                    f"has shape {stored[key]}, expected {tuple(state[key].shape)}"
                )


def _stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a file; none of one that cannot be read, which loading reports."""
    try:
        with safe_open(path, "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}
