"""Artificial corruption of trusted labels: what the gate learns from (paper, Sec. 3.6)."""

from typing import Literal

import torch
from torch import Tensor

Corruption = Literal["random", "adversarial"]


def corrupt_half(
    labels: Tensor, logits: Tensor, kind: Corruption, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Give a random half of a trusted batch another label.

    Args:
        labels: (m,) int64 trusted labels.
        logits: (m, C) the teacher's class scores.
        kind: ``random`` draws uniformly over all classes, so that a draw may hit the true one;
            ``adversarial`` takes the wrong class that the teacher finds most likely.
        generator: Source of randomness; torch's default one without it.

    Returns:
        The labels (m,) int64, and (m,) float targets for the retain weight: 1 where the label is
        right, 0 where it is wrong.
    """
    m, num_classes = logits.shape
    if kind == "random":
        wrong = torch.randint(num_classes, (m,), generator=generator, device=labels.device)
    else:
        true_class = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], True)
        wrong = logits.detach().masked_fill(true_class, -torch.inf).argmax(dim=1)
    chosen = torch.zeros(m, dtype=torch.bool, device=labels.device)
    chosen[torch.randperm(m, generator=generator, device=labels.device)[: m // 2]] = True
    corrupted = torch.where(chosen, wrong, labels)
    return corrupted, (corrupted == labels).to(logits.dtype)
