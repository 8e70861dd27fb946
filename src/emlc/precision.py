"""Keeping what needs it out of bfloat16."""

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """Values in float32 at least: probabilities, losses and statistics lose too much in half of it."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
