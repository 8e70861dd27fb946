"""Weights to start from in place of random ones: all of a backbone is filled, or it is an error.

The names in a file need not be those of our module. A file is understood if its names are ours, or
those of the network within (torchvision's, SupContrast's, or its children by number), behind any
prefix such as ``backbone.`` or ``model.encoder.module.``: the reading under which most names fit is
taken.
"""

import re
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import ResNet, get_model, get_model_weights, list_models

from emlc.backbones import Standardize
from emlc.errors import InputError
from emlc.presets import preset_names

_LISTED = 5
"""How many names a message lists before it says how many more there are."""


@dataclass(frozen=True)
class _Source:
    """Tensors to start from.

    Attributes:
        where: Where they are from, for messages.
        tensors: Under the names they have there.
        about: What more is known about them, for messages.
        standardization: Mean and standard deviation that go with them, under our names.
    """

    where: str
    tensors: dict[str, Tensor]
    about: str = ""
    standardization: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Reading:
    """How the names of a file are read.

    Attributes:
        prefix: What all names of the network begin with.
        names: Name without prefix -> name in our backbone's state dict, of all that may be there.
        is_ours: Whether they are the names of the backbone itself, not of the network within.
    """

    prefix: str
    names: dict[str, str]
    is_ours: bool

    @property
    def required(self) -> list[str]:
        """The names without which a network is not filled; counts of batches are not used."""
        return [self.prefix + name for name in self.names if not name.endswith("num_batches_tracked")]

    def found(self, source: _Source) -> dict[str, str]:
        """Our name -> name in the file, of all that is there."""
        return {
            ours: self.prefix + name
            for name, ours in self.names.items()
            if self.prefix + name in source.tensors
        }


def load_initial_weights(backbone: nn.Module, init: str, name: str, role: str | None = None) -> str:
    """Fill every parameter and buffer of a backbone, in place.

    A foreign file need have neither standardisation, in whose place that of the data stays, nor counts
    of batches. What it has beside the backbone, such as a projection head, is ignored and told.

    Args:
        backbone: From :func:`emlc.backbones.build_backbone`.
        init: none | imagenet: torchvision's default weights, through torch.hub's cache, with the mean
            and standard deviation they were trained with | a .safetensors file, or any other written
            by ``torch.save``, which is read without running code in it.
        name: The backbone's name, as in the settings.
        role: What the line to tell begins with; by default the name.

    Returns:
        A line to tell the user: where the weights are from, how many, what was ignored.

    Raises:
        InputError: the weights are not there, cannot be read, or do not fill the backbone; lists what
            is missing, of another shape, or unexpected within the network.
    """
    if init == "none":
        return f"{role or name}: random initial weights"
    source = _imagenet(name) if init == "imagenet" else _read(Path(init))
    reading = _recognize(source, backbone, name)
    found = reading.found(source)
    used = set(found.values())
    rest = [key for key in source.tensors if key not in used]
    ignored = [key for key in rest if _is_beside(key, backbone, reading)]
    faults = {
        "missing": [key for key in reading.required if key not in source.tensors],
        "of another shape": _misshapen(source, backbone, found),
        "unexpected": [key for key in rest if key not in ignored],
    }
    if any(faults.values()):
        raise InputError(_misfit(faults, source, backbone, name, stem=found.get("1.conv1.weight")))
    filled = {ours: source.tensors[key] for ours, key in found.items()}
    backbone.load_state_dict(backbone.state_dict() | filled | source.standardization)
    told = f"{role or name}: {len(found)} tensors from {source.where}"
    return told + (f"; ignored: {_shortened(_modules(ignored, reading.prefix))}" if ignored else "")


def check_initial_weights(init: str | None) -> None:
    """Find out early, before data are read, whether the file that ``init`` names is there.

    Raises:
        InputError: there is no such file; says how to make it, where that is known.
    """
    if init in (None, "none", "imagenet"):
        return
    path = Path(init)
    if path.is_dir():
        raise InputError(f"init: {path} is a directory: name a file in it")
    if not path.is_file():
        preset = path.parent.name
        how = f": `emlc pretrain --preset {preset}` makes it" if preset in preset_names("pretrain") else ""
        raise InputError(f"init: expected none, imagenet or a file, and there is no file {path}{how}")


# --- where they come from ----------------------------------------------------------------------


def _imagenet(name: str) -> _Source:
    if name not in list_models(module=torchvision.models):
        raise InputError(f"init: imagenet has weights for the networks of torchvision, not for {name}")
    weights = get_model_weights(name).DEFAULT
    try:
        # Read first as plain tensors: a file in the cache must not run code.
        weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        with torch.random.fork_rng(devices=[]):
            # By torchvision itself, which knows the names that older files have.
            tensors = get_model(name, weights=weights).state_dict()
    except Exception as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
        raise InputError(
            f"init: cannot get torchvision's weights of {name}: {_first_line(error)}. "
            f"Without a network, fetch {weights.url} elsewhere and put it at {cache}"
        ) from error
    # These two were trained on inputs standardised with half, into which their code turns ImageNet's.
    takes_half = name in ("googlenet", "inception_v3")
    standardization = {
        f"0.{key}": torch.tensor([0.5] * 3 if takes_half else getattr(weights.transforms(), key))
        for key in ("mean", "std")
    }
    height, width = weights.meta["min_size"]
    return _Source(
        f"torchvision's {weights}",
        tensors,
        f"for images of at least {height} x {width} pixels",
        {key: values.view(1, 3, 1, 1) for key, values in standardization.items()},
    )


def _read(path: Path) -> _Source:
    check_initial_weights(str(path))
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                about = ", ".join(f"{key} {value}" for key, value in sorted((file.metadata() or {}).items()))
            return _Source(str(path), load_file(path), about)
        # SupContrast keeps its options beside the weights.
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"init: {path}: cannot be read as plain tensors: {_first_line(error)}") from error
    return _Source(str(path), dict(_flattened(content)))


def _flattened(content: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested mappings, under names joined by dots."""
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flattened(value, f"{prefix}{key}.")


# --- whose names they have ---------------------------------------------------------------------


def _network(backbone: nn.Module) -> nn.Module | None:
    """The one network behind standardisation: torchvision's or the user's."""
    children = list(backbone.children())
    is_one = len(children) == 2 and isinstance(children[0], Standardize)
    return children[1] if is_one else None


def _namings(backbone: nn.Module) -> list[dict[str, str]]:
    """Ways to name the backbone's tensors, each as name -> our name; the first is ours."""
    ours = {key: key for key in backbone.state_dict()}
    network = _network(backbone)
    if network is None:
        return [ours]
    inner = {key: f"1.{key}" for key in network.state_dict()}
    numbers = {child: str(i) for i, (child, _) in enumerate(network.named_children())}
    return [
        ours,
        inner,
        # SupContrast's
        {key.replace(".downsample.", ".shortcut."): target for key, target in inner.items()},
        # lightly's: nn.Sequential(*network.children())
        {re.sub(r"^[^.]+", lambda m: numbers.get(m[0], m[0]), key): t for key, t in inner.items()},
    ]


def _recognize(source: _Source, backbone: nn.Module, name: str) -> _Reading:
    """The reading under which most of the file's names are the backbone's."""
    namings = _namings(backbone)
    fits = Counter(
        (i, key.removesuffix(tail))
        for key in source.tensors
        for tail in _tails(key)
        for i, naming in enumerate(namings)
        if tail in naming
    )
    if not fits:
        found = _shortened(list(source.tensors)) or "no tensors"
        raise InputError(f"init: {source.where} has nothing of {name}; it has {found}")
    most = max(fits.values())
    best = [_Reading(prefix, namings[i], i == 0) for (i, prefix), count in fits.items() if count == most]
    best.sort(key=lambda reading: (len(reading.prefix), namings.index(reading.names)))
    full = sorted({r.prefix for r in best if all(key in source.tensors for key in r.required)})
    if len(full) > 1:
        raise InputError(
            f"init: {source.where} holds more than one {name}, under {' and '.join(full)}: "
            "save the one that is wanted in a file of its own"
        )
    return best[0]


def _tails(key: str) -> Iterator[str]:
    """a.b.c, b.c, c."""
    yield key
    while "." in key:
        key = key.partition(".")[2]
        yield key


def _is_beside(key: str, backbone: nn.Module, reading: _Reading) -> bool:
    """Whether a tensor that fills nothing belongs to a head, or to something else beside the network.

    One within a part that the network has, such as a further layer of a stage, does not: the file is
    then another network's.
    """
    network = _network(backbone)
    if not key.startswith(reading.prefix):
        return True
    if reading.is_ours or network is None:
        return False
    first, *inner = key.removeprefix(reading.prefix).split(".")
    children = list(dict(network.named_children()))
    if first.isdecimal() and first not in children:
        if int(first) >= len(children):
            return False
        first = children[int(first)]
    if first not in children:
        return True
    # Where the network's own head was there is nothing now.
    modules = dict(network.named_modules())
    paths = [".".join([first, *inner[:i]]) for i in range(len(inner))]
    return any(isinstance(modules.get(path), nn.Identity) for path in paths)


# --- what to say -------------------------------------------------------------------------------


def _misshapen(source: _Source, backbone: nn.Module, found: dict[str, str]) -> list[str]:
    state = backbone.state_dict()
    pairs = [(key, tuple(source.tensors[key].shape), tuple(state[ours].shape)) for ours, key in found.items()]
    return [f"{key} {there} instead of {here}" for key, there, here in pairs if there != here]


def _misfit(
    faults: dict[str, list[str]], source: _Source, backbone: nn.Module, name: str, stem: str | None
) -> str:
    about = f" ({source.about})" if source.about else ""
    lines = [f"init: {source.where}{about} does not fit {name}:"]
    lines += [f"  - {kind}: {_shortened(names)}" for kind, names in faults.items() if names]
    stem_differs = any(fault.startswith(f"{stem} ") for fault in faults["of another shape"])
    if isinstance(_network(backbone), ResNet) and stem_differs:
        lines.append("the first convolution differs with the setting stem: 3 x 3 if cifar, 7 x 7 if imagenet")
    return "\n".join(lines)


def _modules(keys: list[str], prefix: str) -> list[str]:
    """The modules that tensors belong to: within the prefix in full, else down to where they leave it."""
    names = []
    for key in keys:
        if key.startswith(prefix):
            names.append(key.rpartition(".")[0] or key)
            continue
        parts, steps = key.split("."), prefix.split(".")
        shared = next(i for i, (part, step) in enumerate(zip(parts, steps, strict=False)) if part != step)
        names.append(".".join(parts[: shared + 1]))
    return list(dict.fromkeys(names))


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
