"""Trained networks put to use on whole sets, batch by batch, in evaluation mode."""

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emlc.data.images.stored import Inputs
from emlc.data.loaders import read_ahead
from emlc.networks.teacher import Correction
from emlc.runtime.distributed import Ranks

_BATCH = 1024
_WORKERS = os.cpu_count() or 1


class Predictions(NamedTuple):
    """What student and teacher say of n labelled samples, on the CPU.

    Attributes:
        student: (n, C) the student's class probabilities.
        teacher: (n, C) the teacher's own, given the sample alone.
        retain_weight: (n,) in (0, 1): how far the teacher keeps the given label.
    """

    student: Tensor
    teacher: Tensor
    retain_weight: Tensor

    def prediction(self) -> NDArray[np.float64]:
        """(n, C) the mean of both predictions."""
        return (self.student.double() + self.teacher.double()).numpy() / 2


def predict_proba(network: nn.Module, inputs: Inputs, ranks: Ranks | None = None) -> Tensor:
    """Class probabilities (n, C), float32 on the CPU, in evaluation mode.

    With ``ranks`` each of them takes its share, and all get the whole; all have to call it.
    """
    return in_batches(lambda x: (network(x).float().softmax(dim=1),), [network], inputs, ranks=ranks)[0]


def represent(backbone: nn.Module, inputs: Inputs, ranks: Ranks | None = None) -> Tensor:
    """Features (n, d) that a backbone gives, float32 on the CPU, in evaluation mode; see above."""
    return in_batches(lambda x: (backbone(x),), [backbone], inputs, ranks=ranks)[0]


def correct(
    teacher: nn.Module, inputs: Inputs, labels: NDArray[np.int64], ranks: Ranks | None = None
) -> Correction:
    """The teacher's corrections of a whole labelled set, on the CPU, in evaluation mode; see above."""
    return Correction(*in_batches(teacher, [teacher], inputs, torch.from_numpy(labels), ranks=ranks))


def predict_both(
    student: nn.Module,
    teacher: nn.Module,
    inputs: Inputs,
    labels: NDArray[np.int64],
    ranks: Ranks | None = None,
) -> Predictions:
    """Both networks' predictions for a labelled set, whose inputs are read once; see above."""

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        correction = teacher(x, y)
        return student(x).float().softmax(dim=1), correction.prediction, correction.retain_weight

    return Predictions(*in_batches(both, [student, teacher], inputs, torch.from_numpy(labels), ranks=ranks))


@torch.no_grad()
def in_batches(
    function: Callable[..., tuple[Tensor, ...]],
    networks: Sequence[nn.Module],
    inputs: Inputs,
    *others: Tensor,
    ranks: Ranks | None = None,
) -> list[Tensor]:
    """What a function of networks gives for a whole set, float32 on the CPU, in evaluation mode; see above.

    Args:
        function: Of a batch of inputs, and of the others, on the networks' device; gives tensors (n, ...).
        networks: Those that it calls.
        inputs: (n, ...).
        others: (n, ...) tensors on the CPU, such as labels.
        ranks: The processes that share the work, if several do.
    """
    if ranks is not None and len(inputs) < ranks.size:
        ranks = None  # too few to share: everybody computes them
    device = _device(networks[0])
    were_training = [network.training for network in networks]
    for network in networks:
        network.eval()
    rows = torch.arange(len(inputs))[slice(None) if ranks is None else ranks.shard(len(inputs))]
    batches = rows.split(_BATCH)
    outputs = []
    with nullcontext() if ranks is None else ranks.autocast():
        for batch, x in zip(batches, read_ahead(inputs, batches, _WORKERS), strict=True):
            y = function(x.to(device), *(other[batch].to(device) for other in others))
            outputs.append([part.float().cpu() for part in y])
    for network, was_training in zip(networks, were_training, strict=True):
        network.train(was_training)
    parts = [torch.cat(part) for part in zip(*outputs, strict=True)]
    return parts if ranks is None else [ranks.gather(part, len(inputs)) for part in parts]


def _device(network: nn.Module) -> torch.device:
    """Where a network is; that of a linear one is a backbone without parameters."""
    tensors = chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
