"""A run that somebody else may have made: nothing is written where only they wanted it, nothing is huge."""

import logging
import os
import shlex
from collections.abc import Iterable
from dataclasses import replace
from math import isfinite, prod
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from emlc.architectures.layers import BUILT_IN
from emlc.config import AnySettings, Settings
from emlc.config.methods import method_class
from emlc.data import Schema
from emlc.data.sources.cifar import CIFAR, is_complete
from emlc.errors import InputError, raise_together
from emlc.methods.base import Method
from emlc.runtime.trust import USUAL, unknown_folders

_MOST_VALUES = 2**26
"""Number of values of the largest input, as of an image of 4,096 x 4,096 pixels."""

_FEW_VALUES = 2**24
"""Number of weights of a layer that is built without asking, as they take 64 MiB."""
_CNN_WEIGHTS = 72
"""Weights of the largest layer of the network cnn, over the square of its width: 4 x 2 x 3 x 3."""

_log = logging.getLogger(__name__)


def with_known_folders(settings: Settings, where: Path) -> Settings:
    """Return a run's settings with no folder to write to that was not named on this machine before.

    Without caches the data are decoded and embedded again; ``data_root`` stays where the data lie in it.
    """
    changes: dict[str, Any] = {}
    for name, folder in _written_to(settings, unknown_folders(settings)).items():
        changes[name] = USUAL[name] if name == "data_root" else None
        _log.info(
            f"{where}: {name}: {folder} was not used here before, and nothing is written to it; "
            f"{changes[name] or 'no folder'} is used instead, unless --trust_code is given"
        )
    return replace(settings, **changes)


def check_folders(settings: AnySettings, unknown: dict[str, str], where: str) -> None:
    """Raise an :class:`InputError` for folders to write to that a file names, and nobody has named here.

    Args:
        settings: The settings.
        unknown: Folders that come from the file and were not used here before, by the setting's name.
        where: The file, for messages.
    """
    raise_together(
        [
            f"{where}: {name}: files would be written to {folder}, which was not used here before; if that "
            f"is right, --{name} {shlex.quote(folder)} or --trust_code says so"
            for name, folder in _written_to(settings, unknown).items()
        ],
        "the settings",
    )


def _written_to(settings: AnySettings, folders: dict[str, str]) -> dict[str, str]:
    """Leave ``data_root`` out of folders unless something would be downloaded into it."""
    sources = {getattr(settings, name, None) for name in ("data", "trusted", "validation", "test")}
    complete = all(is_complete(source, settings) for source in sources if source in CIFAR)
    return {name: folder for name, folder in folders.items() if name != "data_root" or not complete}


def check_sizes(settings: Settings, schema: Schema, folder: Path, which: str) -> None:
    """Check that the networks are as large as their stored weights, before any memory is taken for them.

    Raises:
        InputError: a tensor would have another shape; or the inputs are larger than any.
    """
    shape, where = schema.input_shape, folder / "model.json"
    _check_schema(schema, where)
    if _has_code(settings):
        return
    method = _described(settings, shape, len(schema.classes))
    for name in {"student", "teacher", method.noise_model} & method.networks().keys():
        state = method.networks()[name].state_dict()
        path = folder / which / f"{name}.safetensors"
        stored = _stored_shapes(path)
        for key in sorted(state.keys() & stored.keys()):
            if tuple(state[key].shape) != stored[key]:
                raise InputError(
                    f"{path}: not the weights of this {name}: {key} has shape {stored[key]}; by model.json "
                    f"and settings.yaml expected {tuple(state[key].shape)}"
                )


def check_memory(settings: Settings, shape: tuple[int, ...], num_classes: int) -> None:
    """Raise an :class:`InputError` if a run to be trained has more weights than the machine has memory."""
    if not _has_code(settings):
        check_weights(_described(settings, shape, num_classes).networks().values())


def check_weights(networks: Iterable[nn.Module]) -> None:
    """Raise an :class:`InputError` if networks, on the device meta, would take more than there is."""
    size = sum(tensor.nbytes for network in networks for tensor in network.state_dict().values())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise InputError(
            f"width, backbone: the networks' weights take {size / 2**30:,.3g} GiB, more than the "
            f"{memory / 2**30:,.3g} GiB of this machine; choose smaller ones"
        )


def _has_code(settings: Settings) -> bool:
    """Return whether a network is the user's code, which need not run without memory."""
    return any(":" in (name or "") for name in (settings.backbone, settings.teacher_backbone))


def _described(settings: Settings, shape: tuple[int, ...], num_classes: int) -> Method:
    """Build the networks, of which only the shapes count, without memory unless they are surely small.

    Without memory, on the device meta, torch fills them by means of its compiler, which takes a second to
    import.
    """
    device = "cpu" if _is_small(settings, shape, num_classes) else "meta"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        method: Method = method_class(settings.method)(settings, torch.zeros(2, *shape), num_classes)
    return method


def _is_small(settings: Settings, shape: tuple[int, ...], num_classes: int) -> bool:
    """Return whether no layer of emlc's own backbones has more than :data:`_FEW_VALUES` weights."""
    names = {settings.backbone, settings.teacher_backbone or settings.backbone}
    hyper = [value for value in vars(settings.hyper_parameters).values() if isinstance(value, int)]
    widths = [settings.width or 256, settings.label_embedding_dim, settings.gate_hidden_dim, *hyper]
    width = max(5 * num_classes, *widths)
    return names <= {*BUILT_IN} and width * (prod(shape) + _CNN_WEIGHTS * width) <= _FEW_VALUES


def _check_schema(schema: Schema, where: Path) -> None:
    shape, columns = schema.input_shape, schema.encoding
    for part in (schema, *columns):
        for name, kind in get_type_hints(type(part)).items():
            if not _is(getattr(part, name), kind):
                raise InputError(f"{where}: {name}: expected {kind}, found {getattr(part, name)!r:.100}")
    if min(shape, default=0) < 1 or len(shape) not in (1, 3) or prod(shape) > _MOST_VALUES:
        raise InputError(
            f"{where}: input_shape: expected d, or channels, height and width, of at most {_MOST_VALUES:,} "
            f"values, found {shape!r:.100}"
        )
    if columns and tuple(column.name for column in columns) != schema.feature_columns:
        raise InputError(f"{where}: columns: expected those of feature_columns, in the same order")


def _is(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type; numbers have to be finite."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_is(value, each) for each in arguments)
    if origin is tuple:
        return type(value) is tuple and all(_is(each, arguments[0]) for each in value)
    if origin is ClassVar:
        return True
    if kind is float:
        return type(value) in (int, float) and isfinite(value)
    return type(value) is (origin or kind)


def _stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a file; none of one that cannot be read, which loading reports."""
    try:
        with safe_open(path, "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}
