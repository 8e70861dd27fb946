"""Files of tensors with a digest, by which damage is told from data."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from emlc.runtime.files import atomic_write, disk_errors

_DIGEST = "sha256"
"""Key of the digest in a file's metadata."""


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write contiguous tensors on the CPU as a safetensors file, atomically, with their digest."""
    with atomic_write(path) as temporary, disk_errors(path, SafetensorError):
        save_file(tensors, temporary, {_DIGEST: tensor_digest(tensors)})


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a safetensors file, and compare them with its digest, which older files lack.

    Raises:
        ValueError: they are not those that were written.
        SafetensorError: it is no such file.
        OSError: it cannot be read.
    """
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        digest = (file.metadata() or {}).get(_DIGEST)
    if digest not in (None, tensor_digest(tensors)):
        raise ValueError("damaged after it was written: its tensors do not have the digest that they had")
    return tensors


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and values, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
