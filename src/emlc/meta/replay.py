"""A forward pass that can be run again, at other weights: same batch, mode, dropout masks and precision."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from emlc.runtime.cuda_graph import is_capturing


class Replay:
    """A forward pass of a network that can be run again at other weights.

    Create it before the pass that is to be run again.

    Args:
        network: The network, in the mode of the pass.
        inputs: Its inputs, kept by reference.

    Attributes:
        network: The network.
        inputs: Its inputs.
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
        """Return the network's output at these weights; parameters that are not among them keep their values.

        The network's own parameters and running statistics are not changed.

        Raises:
            ValueError: the batch or the modes of the network have changed since the pass.
        """
        # Fresh copies of the buffers: batch norm writes its running statistics into them.
        state = {**weights, **copies(self.buffers)}
        with self.context(), self._rng_state.replayed():
            return functional_call(self.network, state, self.inputs)

    def context(self) -> AbstractContextManager[None]:
        """Return the context of the pass's precision.

        Raises:
            ValueError: as above.
        """
        if [x._version for x in self.inputs] != self._versions:
            raise ValueError("the batch differs from the step's: its tensor was modified in place since")
        if _modes(self.network) != self._modes:
            raise ValueError("the student's train/eval modes differ from those of the step")
        enabled, dtype = self.autocast
        # Autocast's cache could hold casts of other weights.
        return torch.autocast(self.inputs[0].device.type, dtype, enabled, cache_enabled=False)


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return detached copies with the same memory layout; one kernel copies all tensors of a dtype."""
    new = {name: torch.empty_like(t.detach()) for name, t in tensors.items()}
    for dtype in {t.dtype for t in tensors.values()}:
        names = [name for name, t in tensors.items() if t.dtype == dtype]
        torch._foreach_copy_([new[name] for name in names], [tensors[name].detach() for name in names])
    return new


@dataclass(frozen=True)
class _RngState:
    """State of the generators that dropout draws from.

    While a CUDA graph is captured, the state of the device's generator cannot be read. Networks that draw
    random numbers are not captured.
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
