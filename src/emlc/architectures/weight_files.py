"""Read weights from files and from torchvision, as plain tensors under the names they have there."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from emlc.architectures.zoo import build_network, default_weights, network_names
from emlc.config.presets import preset_names
from emlc.errors import InputError

_DEEPEST = 50
"""Number of levels to which mappings of tensors may be nested."""


@dataclass(frozen=True)
class Source:
    """Weights of a network, and where they come from.

    Attributes:
        where: File, or torchvision's name of the weights, for messages.
        tensors: The weights, by their names in the file.
        about: What else is known about them, for messages.
        standardization: Mean and standard deviation of the inputs they were trained on, by our names.
    """

    where: str
    tensors: dict[str, Tensor]
    about: str = ""
    standardization: dict[str, Tensor] = field(default_factory=dict)


def check_initial_weights(init: str | None) -> None:
    """Check early, before data are read, that the file which the setting ``init`` names exists.

    Raises:
        InputError: there is no such file; says which command writes it, if it is that of a preset.
    """
    if init is None or init in ("none", "imagenet"):
        return
    path = Path(init).expanduser()
    if path.is_dir():
        raise InputError(f"init: {path} is a directory: name a file in it")
    if not path.is_file():
        preset = path.parent.name
        how = f": `emlc pretrain --preset {preset}` makes it" if preset in preset_names("pretrain") else ""
        raise InputError(f"init: expected none, imagenet or a file, but there is no file {path}{how}")


def imagenet_weights(name: str, setting: str = "init") -> Source:
    """Get torchvision's default weights of a network, by torchvision's names, through torch.hub's cache.

    Errors name ``setting``, which asked for them.

    Raises:
        InputError: torchvision has no such network, or its weights cannot be downloaded; says where to put
            the file.
    """
    if name not in network_names():
        raise InputError(f"{setting}: imagenet has weights for the networks of torchvision, not for {name}")
    weights = default_weights(name)
    try:
        # Read as plain tensors first: a file in the cache must not run code.
        weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        with torch.random.fork_rng(devices=[]):
            # Load by torchvision itself, which knows the names in older files.
            tensors = build_network(name, weights=weights).state_dict()
    except Exception as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
        raise InputError(
            f"{setting}: cannot get torchvision's weights of {name}: {_first_line(error)}. "
            f"Without a network, fetch {weights.url} elsewhere and put it at {cache}"
        ) from error
    # These two were trained on inputs standardised by 0.5 and 0.5, to which their code converts ImageNet's.
    takes_half = name in ("googlenet", "inception_v3")
    standardization = {
        f"0.{key}": torch.tensor([0.5] * 3 if takes_half else getattr(weights.transforms(), key))
        for key in ("mean", "std")
    }
    height, width = weights.meta["min_size"]
    return Source(
        f"torchvision's {weights}",
        tensors,
        f"for images of at least {height} x {width} pixels",
        {key: values.view(1, 3, 1, 1) for key, values in standardization.items()},
    )


def read_weights(init: str) -> Source:
    """Read all tensors of a file, .safetensors or written by ``torch.save``, without running code in it.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    check_initial_weights(init)
    path = Path(init).expanduser()
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                about = ", ".join(f"{key} {value}" for key, value in sorted((file.metadata() or {}).items()))
            return Source(str(path), load_file(path), about)
        # SupContrast saves its options, an argparse.Namespace, beside the weights.
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return Source(str(path), dict(_flattened(content)))
    except Exception as error:
        raise InputError(f"init: {path}: cannot be read as plain tensors: {_first_line(error)}") from error


def _flattened(content: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested mappings, with their keys joined by dots."""
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), _plain(content, prefix.removesuffix("."))
    elif prefix.count(".") > _DEEPEST:
        raise InputError(f"{prefix:.50}...: nested more than {_DEEPEST} levels deep, or in circles")
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flattened(value, f"{prefix}{key}.")


def _plain(tensor: Tensor, name: str) -> Tensor:
    """Return a tensor if its values can be copied as they are."""
    is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not is_dense or tensor.is_complex():
        kind = f"{tensor.layout} {tensor.dtype} on {tensor.device.type}"
        raise InputError(f"{name}: expected a dense tensor of real numbers, found {kind}")
    return tensor


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
