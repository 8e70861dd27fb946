"""Random numbers that are a function of a key, an item and a draw, not of earlier draws.

A sample's augmentation must not depend on its batch, on the number of workers or ranks, or on where a run
was interrupted. A counter-based generator gives that without any state: splitmix64 (Steele, Lea and Flood:
Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), one stream per item, on whole tensors.
"""

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None))
"""Right shift and factor of each round of the mixing function; the last one has no factor."""


def uniforms(key: tuple[int, ...], items: Tensor, draws: int) -> Tensor:
    """Draw independent uniform numbers, the same on every device and for an item in any batch.

    Args:
        key: What the numbers are for, such as (seed, stream): integers from -2**63 to 2**63 - 1.
        items: (n,) int64 numbers that identify the samples.
        draws: Numbers per item. More draws leave the first ones as they are.

    Returns:
        (n, draws) float32 in [0, 1), multiples of 2**-24, on the device of ``items``.
    """
    state = 0
    for word in (len(key), *key):
        state = _mix_word((state ^ word) + _GAMMA)
    streams = _mix((items ^ _signed(state)) + _signed(_GAMMA))
    counter = torch.arange(1, draws + 1, device=items.device) * _signed(_GAMMA)
    bits = _shifted(_mix(streams[:, None] + counter), 40)
    return bits.to(torch.float32) * 2.0**-24


def _mix(z: Tensor) -> Tensor:
    """Apply the mixing function of splitmix64; int64 products wrap around as unsigned ones do."""
    for shift, factor in _MIX:
        z = z ^ _shifted(z, shift)
        if factor is not None:
            z = z * _signed(factor)
    return z


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix_word(z: int) -> int:
    """Apply :func:`_mix` to one unsigned number."""
    z %= 2**64
    for shift, factor in _MIX:
        z ^= z >> shift
        z = z * (factor or 1) % 2**64
    return z


def _signed(word: int) -> int:
    """Return the int64 that has the bits of a number modulo 2**64."""
    return (word + 2**63) % 2**64 - 2**63
