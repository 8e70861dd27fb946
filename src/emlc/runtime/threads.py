"""How many threads torch computes with on the CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LARGEST_INPUT = 4096  # numbers per sample
_LARGEST_NETWORKS = 2_000_000  # parameters


@contextmanager
def threads_for(numbers_per_sample: int, parameters: int) -> Iterator[None]:
    """Compute with one thread while networks are trained that are too small for more.

    Threads wait for each other by spinning, several times in a step. Where a step takes milliseconds they
    gain next to nothing, and beside another busy process one step can take a second. ``OMP_NUM_THREADS``, if
    set, wins.

    Args:
        numbers_per_sample: Size of one input.
        parameters: Parameters of all networks that are trained.
    """
    is_small = numbers_per_sample <= _LARGEST_INPUT and parameters <= _LARGEST_NETWORKS
    if not is_small or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
