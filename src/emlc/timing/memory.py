"""Memory that a training step takes."""

import os
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from emlc.methods.base import Method


def peak_of_cpu(function: Callable[[], object]) -> int:
    """Measure the peak memory of CPU tensors during a call, in bytes above what was allocated before.

    The call must not free memory that it did not allocate: that would lower the count.
    """
    # Without this, kineto complains on standard error on every machine without a GPU driver.
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


def state_bytes(method: Method) -> int:
    """Return the bytes of a method's networks and of its optimisers' states, without gradients."""
    networks = [t for network in method.networks().values() for t in network.state_dict().values()]
    states = [
        value
        for optimizer in method.optimizers().values()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    return sum(t.nbytes for t in (*networks, *states))
