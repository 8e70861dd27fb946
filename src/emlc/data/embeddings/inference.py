"""Run a network for images fast: by ONNX Runtime on a CPU, by torch on a GPU."""

import logging
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_log = logging.getLogger(__name__)

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A function of images (n, 3, p, p) that returns embeddings (n, d)."""

_LEAST = 1000
"""Number of images from which on an export to ONNX, which takes seconds, is worth it."""

_BATCH = 32
_GPU_BATCH = 256
_TOLERANCE = 1e-3
"""Largest difference between ONNX Runtime's embeddings and torch's, as a share of the largest number."""


def runner(network: nn.Module, pixels: int, device: torch.device, images: int) -> Run:
    """Prepare a network, images (n, 3, p, p) in [0, 1] to embeddings (n, d), for a number of images.

    On a CPU, ONNX Runtime is used if it is installed and gives torch's embeddings; it is some three times as
    fast.
    """
    if device.type == "cpu" and images >= _LEAST and not _missing():
        run = _exported(network, pixels)
        if run is not None:
            return run
    on_device = network.to(device)

    def in_torch(block: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = torch.from_numpy(block).split(_GPU_BATCH if device.type == "cuda" else _BATCH)
        return np.concatenate([_forward(on_device, part.to(device)) for part in parts])

    return in_torch


def _missing() -> list[str]:
    return [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]


@torch.inference_mode()
def _forward(network: nn.Module, images: Tensor) -> NDArray[np.float32]:
    embeddings: Tensor = network(images.float() / 255)
    return embeddings.float().cpu().numpy()


@lru_cache(maxsize=1)
def _exported(network: nn.Module, pixels: int) -> Run | None:
    """Return the network in ONNX Runtime, or None if it cannot be exported, or gives other embeddings."""
    network = network.cpu()
    try:
        session = _session(network, pixels)
    except Exception as error:  # the exporter may raise anything for a network that it does not know
        _log.debug(f"torch embeds the images, since the network cannot be exported to ONNX: {error}")
        return None
    name = session.get_inputs()[0].name

    def in_onnx(block: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = np.split(block, range(_BATCH, len(block), _BATCH))
        return np.concatenate([session.run(None, {name: part / np.float32(255)})[0] for part in parts])

    example = (np.arange(2 * 3 * pixels**2) ** 2 % 251).astype(np.uint8).reshape(2, 3, pixels, pixels)
    expected = _forward(network, torch.from_numpy(example))
    if np.abs(in_onnx(example) - expected).max() > _TOLERANCE * np.abs(expected).max():
        _log.debug("torch embeds the images, since ONNX Runtime gives other embeddings")
        return None
    return in_onnx


def _session(network: nn.Module, pixels: int) -> Any:
    import onnxruntime

    program = torch.onnx.export(
        network,
        (torch.zeros(_BATCH, 3, pixels, pixels),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
