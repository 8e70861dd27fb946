"""Artificial corruption of trusted labels, from which the gate learns (paper, Sec. 3.6)."""

from typing import Literal

import torch
from torch import Tensor

from emlc.runtime.keyed import uniforms

Corruption = Literal["random", "adversarial"]


def corrupt_half(
    labels: Tensor,
    logits: Tensor,
    kind: Corruption,
    key: tuple[int, ...],
    *,
    step: Tensor | int = 0,
    total: int | None = None,
    share: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Replace the labels of a random half of a trusted batch.

    Args:
        labels: (m,) int64 trusted labels.
        logits: (m, C) the teacher's class scores.
        kind: ``random`` draws uniformly over all classes, so that a draw may hit the true one;
            ``adversarial`` takes the wrong class that the teacher finds most likely.
        key: Non-negative integers that fix the draws, together with the step.
        step: Number of the step, 0-d int64 on the labels' device.
        total: Samples in the joint batch, of which these m are the ``share``.
        share: The slice of the joint batch that these samples are; by default all of it.

    Returns:
        The labels (m,) int64, and (m,) float targets for the retain weight: 1 where the label is
        right, 0 where it is wrong.
    """
    total, num_classes = total or len(labels), logits.shape[1]
    draws = uniforms(key, torch.arange(total, device=labels.device) + step * 2**32, 2)
    chosen = torch.zeros(total, dtype=torch.bool, device=labels.device)
    chosen.index_fill_(0, draws[:, 0].argsort()[: total // 2], True)
    if kind == "random":
        wrong = (draws[share, 1] * num_classes).long()
    else:
        true_class = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], True)
        wrong = logits.detach().masked_fill(true_class, -torch.inf).argmax(dim=1)
    corrupted = torch.where(chosen[share], wrong, labels)
    return corrupted, (corrupted == labels).to(logits.dtype)
