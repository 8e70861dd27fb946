"""Initial weights from files in place of random ones: they fill a whole backbone, or it is an error.

The names in a file need not be those of our module. They may be ours, or those of the network within it
(torchvision's, SupContrast's, or its children by number), after any prefix such as ``backbone.`` or
``model.encoder.module.``: the reading under which most names fit is used.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from emlc.architectures.weight_files import Source, imagenet_weights, read_weights
from emlc.architectures.zoo import is_resnet
from emlc.errors import InputError
from emlc.networks.standardize import Standardize

_LISTED = 5
"""Number of names that a message lists; it says how many more there are."""


@dataclass(frozen=True)
class _Reading:
    """A way to read the names in a file.

    Attributes:
        prefix: Prefix of all names of the network.
        names: Name without prefix -> name in our backbone's state dict, for all tensors of the backbone.
        is_ours: Whether the names are those of our backbone, not of the network within it.
    """

    prefix: str
    names: dict[str, str]
    is_ours: bool

    @property
    def required(self) -> list[str]:
        """Names that the file must have; batch norm's counts of batches are not used."""
        return [self.prefix + name for name in self.names if not name.endswith("num_batches_tracked")]

    def matches(self, source: Source) -> dict[str, str]:
        """Return our name -> name in the file, for the tensors that the file has."""
        return {
            ours: self.prefix + name
            for name, ours in self.names.items()
            if self.prefix + name in source.tensors
        }


def load_initial_weights(backbone: nn.Module, init: str, name: str, role: str | None = None) -> str:
    """Fill every parameter and buffer of a backbone, in place.

    A file of another project may lack the standardisation, which then stays that of the data, and batch
    norm's counts of batches. Tensors outside the backbone, such as a projection head, are ignored.

    Args:
        backbone: From :func:`emlc.networks.backbones.build_backbone`.
        init: none | imagenet: torchvision's default weights, through torch.hub's cache, with the mean
            and standard deviation they were trained with | a .safetensors file, or any other written
            by ``torch.save``, which is read without running code in it.
        name: The backbone's name, as in the settings.
        role: First word of the message; by default the name.

    Returns:
        A message for the user: where the weights are from, how many there are, what was ignored.

    Raises:
        InputError: the weights do not exist, cannot be read, or do not fill the backbone; lists what
            is missing, of another shape, or unexpected within the network.
    """
    if init == "none":
        return f"{role or name}: random initial weights"
    source = imagenet_weights(name) if init == "imagenet" else read_weights(init)
    reading = _recognize(source, backbone, name)
    matches = reading.matches(source)
    used = set(matches.values())
    rest = [key for key in source.tensors if key not in used]
    ignored = [key for key in rest if _is_outside(key, backbone, reading)]
    faults = {
        "missing": [key for key in reading.required if key not in source.tensors],
        "of another shape": _wrong_shapes(source, backbone, matches),
        "unexpected": [key for key in rest if key not in ignored],
    }
    if any(faults.values()):
        raise InputError(_misfit(faults, source, backbone, name, stem=matches.get("1.conv1.weight")))
    filled = {ours: source.tensors[key] for ours, key in matches.items()}
    backbone.load_state_dict(backbone.state_dict() | filled | source.standardization)
    message = f"{role or name}: {len(matches)} tensors from {source.where}"
    return message + (f"; ignored: {_shortened(_modules(ignored, reading.prefix))}" if ignored else "")


# --- reading the names -------------------------------------------------------------------------


def _network(backbone: nn.Module) -> nn.Module | None:
    """Return the single network after standardisation, torchvision's or the user's; None in built-in ones."""
    children = list(backbone.children())
    is_one = len(children) == 2 and isinstance(children[0], Standardize)
    return children[1] if is_one else None


def _namings(backbone: nn.Module) -> list[dict[str, str]]:
    """List the ways to name the backbone's tensors, each as name -> our name; the first is ours."""
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


def _recognize(source: Source, backbone: nn.Module, name: str) -> _Reading:
    """Find the reading under which most of the file's names are names of the backbone."""
    namings = _namings(backbone)
    fits = Counter(
        (i, key.removesuffix(tail))
        for key in source.tensors
        for tail in _tails(key)
        for i, naming in enumerate(namings)
        if tail in naming
    )
    if not fits:
        content = _shortened(list(source.tensors)) or "no tensors"
        raise InputError(f"init: {source.where} has no weights of {name}; it has {content}")
    most = max(fits.values())
    best = [_Reading(prefix, namings[i], i == 0) for (i, prefix), count in fits.items() if count == most]
    best.sort(key=lambda reading: (len(reading.prefix), namings.index(reading.names)))
    complete = sorted({r.prefix for r in best if all(key in source.tensors for key in r.required)})
    if len(complete) > 1:
        raise InputError(
            f"init: {source.where} holds more than one {name}, under {' and '.join(complete)}: "
            "save the one you want in a file of its own"
        )
    return best[0]


def _tails(key: str) -> Iterator[str]:
    """Yield the name and its parts after each dot: a.b.c, b.c, c."""
    yield key
    while "." in key:
        key = key.partition(".")[2]
        yield key


def _is_outside(key: str, backbone: nn.Module, reading: _Reading) -> bool:
    """Return whether a tensor without a match belongs to a head, or to another part outside the network.

    A tensor in a part that the network has, such as a further layer of a stage, does not: the file then
    holds another network.
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
    # build_backbone has put an Identity where the network's head was, in its last part.
    modules = dict(network.named_modules())
    paths = [".".join([first, *inner[:i]]) for i in range(len(inner))]
    return first == children[-1] and any(isinstance(modules.get(path), nn.Identity) for path in paths)


# --- messages ----------------------------------------------------------------------------------


def _wrong_shapes(source: Source, backbone: nn.Module, matches: dict[str, str]) -> list[str]:
    state = backbone.state_dict()
    shapes = [(key, source.tensors[key].shape, state[ours].shape) for ours, key in matches.items()]
    return [f"{key} {tuple(file)} instead of {tuple(ours)}" for key, file, ours in shapes if file != ours]


def _misfit(
    faults: dict[str, list[str]], source: Source, backbone: nn.Module, name: str, stem: str | None
) -> str:
    about = f" ({source.about})" if source.about else ""
    lines = [f"init: {source.where}{about} does not fit {name}:"]
    lines += [f"  - {kind}: {_shortened(names)}" for kind, names in faults.items() if names]
    stem_differs = any(fault.startswith(f"{stem} ") for fault in faults["of another shape"])
    if stem_differs and is_resnet(_network(backbone)):
        lines.append("the first convolution differs with the setting stem: 3 x 3 if cifar, 7 x 7 if imagenet")
    return "\n".join(lines)


def _modules(keys: list[str], prefix: str) -> list[str]:
    """Return the modules of tensors: in full where they have the prefix, else up to where they leave it."""
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
