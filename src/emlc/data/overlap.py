"""Find samples that two sets share, so that no sample is both learnt from and measured on."""

import hashlib
import sys
from typing import Literal

import numpy as np

from emlc.data.classes import shorten
from emlc.data.samples import Samples
from emlc.errors import InputError


def without_overlap(
    samples: Samples, others: Samples, role: str, other_role: str, overlap: Literal["error", "drop"]
) -> Samples:
    """``samples`` without those that are also among ``others``.

    A sample is shared if both sets have ids of their own and these agree, or if it is an image with
    the same pixels. Row numbers and relative paths that agree mean nothing. Equal features are
    worth a note only.

    Raises:
        InputError: With ``overlap="error"``, if any is shared; names the ids.
    """
    known = set(input_digests(others))
    same = np.array([digest in known for digest in input_digests(samples)], dtype=np.bool_)
    shared = np.zeros(len(samples), dtype=np.bool_)
    if samples.own_ids and others.own_ids:
        shared |= np.isin(samples.ids, others.ids)
    if samples.inputs.ndim == 4 or overlap == "drop":
        shared |= same
    if not shared.any():
        if same.any():  # equal rows of numbers may well be different samples: that is for the user to say
            print(
                f"note: {same.sum()} {role} samples have the same features as {other_role} samples; "
                "--overlap drop removes them",
                file=sys.stderr,
            )
        return samples
    if overlap == "drop":
        print(f"removed {shared.sum()} {role} samples that are also {other_role} samples", file=sys.stderr)
        return samples.take(~shared)
    raise InputError(
        f"{shared.sum()} samples are both {role} and {other_role}, by id or by identical pixels; {role} ids: "
        f"{shorten(samples.ids[shared].tolist(), 5)}; --overlap drop removes them from the {role} samples"
    )


def input_digests(samples: Samples) -> list[str]:
    """A 128-bit hash of each input, in hexadecimal."""
    return [
        hashlib.blake2b(values, digest_size=16).hexdigest() for values in samples.inputs.contiguous().numpy()
    ]
