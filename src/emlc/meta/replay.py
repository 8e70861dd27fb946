"""A forward pass that can be run again, at other weights: same batch, mode, dropout masks and precision."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from emlc.runtime.cuda_graph import is_capturing


class Replay:
    """What a forward pass of a network needs beside its weights.

    Make it before the pass that is to be run again.

    Args:
        network: In the mode that it runs in.
        inputs: What it is called with; held by reference.

    Attributes:
        network: As above.
        inputs: As above.
        buffers: Detached copies of the buffers, such as running statistics.
        autocast: Whether autocast is on, and its dtype.
    """

    def __init__(self, network: nn.Module, *inputs: Tensor) -> None:
        device = inputs[0].device
        self.network = network
        self.inputs = inputs
        self.buffers = copies(dict(network.named_buffers()))
        self.autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
        self._modes = _modes(network)
        self._versions = [x._version for x in inputs]
        self._rng_state = _RngState.capture(device)

    def __call__(self, weights: Mapping[str, Tensor]) -> Any:
        """What the network gives at these weights, or at its own where there are none.

        Its parameters and running statistics are not touched.

        Raises:
            ValueError: the batch or the modes of the network have changed since.
        """
        if [x._version for x in self.inputs] != self._versions:
            raise ValueError("the batch differs from the step's: its tensor was modified in place since")
        if _modes(self.network) != self._modes:
            raise ValueError("the student's train/eval modes differ from those of the step")
        enabled, dtype = self.autocast
        # The cast cache would hand out the casts of other weights.
        autocast = torch.autocast(self.inputs[0].device.type, dtype, enabled, cache_enabled=False)
        # Fresh copies of the buffers: batch norm writes its running statistics into them.
        state = {**weights, **copies(self.buffers)}
        with self._rng_state.replayed(), autocast:
            return functional_call(self.network, state, self.inputs)


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detached copies of the same layout, all of one dtype by one kernel where there is such a kernel."""
    new = {name: torch.empty_like(t.detach()) for name, t in tensors.items()}
    for dtype in {t.dtype for t in tensors.values()}:
        names = [name for name, t in tensors.items() if t.dtype == dtype]
        torch._foreach_copy_([new[name] for name in names], [tensors[name].detach() for name in names])
    return new


@dataclass(frozen=True)
class _RngState:
    """State of the generators that dropout draws from.

    While a CUDA graph is captured that of the device cannot be had: networks that draw are not captured.
    """

    cpu: Tensor
    device: torch.device
    on_device: Tensor | None

    @classmethod
    def capture(cls, device: torch.device) -> "_RngState":
        readable = device.type == "cuda" and not is_capturing(device)
        on_device = torch.cuda.get_rng_state(device) if readable else None
        return cls(torch.get_rng_state(), device, on_device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        devices = [self.device] if self.on_device is not None else []
        with torch.random.fork_rng(devices):
            torch.set_rng_state(self.cpu)
            if self.on_device is not None:
                torch.cuda.set_rng_state(self.on_device, self.device)
            yield


def _modes(network: nn.Module) -> tuple[bool, ...]:
    return tuple(module.training for module in network.modules())
