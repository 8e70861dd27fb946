"""How much memory a step takes."""

import os
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from emlc.methods.base import Method


def peak_of_cpu(function: Callable[[], object]) -> int:
    """Most bytes of tensors on the CPU that were alive at once of those that a call allocated.

    Memory that the call frees and did not allocate lowers the count: see to it that there is none.
    """
    # Else it complains on standard error of every machine without a GPU driver.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        function()
    results = record.profiler.kineto_results
    changes = [
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == "[memory]" and event.device_type() == torch.profiler.DeviceType.CPU
    ]
    alive = peak = 0
    for _, change in sorted(changes):
        alive += change
        peak = max(peak, alive)
    return peak


def held_bytes(method: Method) -> int:
    """Bytes of a method's networks and of its optimisers' states, without gradients."""
    networks = [t for network in method.networks().values() for t in network.state_dict().values()]
    states = [
        value
        for optimizer in method.optimizers().values()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    return sum(t.nbytes for t in (*networks, *states))
