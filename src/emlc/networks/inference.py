"""Predictions of trained networks for whole sets, batch by batch, in evaluation mode.

With ``ranks`` each process computes its share and all get the whole result; all processes have to call.
Results are float32 tensors on the CPU.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import log_softmax, nll_loss

from emlc.data import Samples
from emlc.data.images.stored import Inputs
from emlc.data.loaders import read_ahead
from emlc.networks.gate_teacher import Correction
from emlc.runtime.distributed import Ranks, cores_per_process

_BATCH = 1024


class Predictions(NamedTuple):
    """Predictions of student and teacher for n labelled samples, float32 on the CPU.

    Attributes:
        student: (n, C) class probabilities of the student.
        teacher: (n, C) class probabilities of the teacher, given the sample without its label.
        retain_weight: (n,) in (0, 1): how far the teacher keeps the given label.
    """

    student: Tensor
    teacher: Tensor
    retain_weight: Tensor

    def prediction(self) -> NDArray[np.float64]:
        """Return the mean of both networks' class probabilities, (n, C)."""
        return (self.student.double() + self.teacher.double()).numpy() / 2


def predict_proba(network: nn.Module, inputs: Inputs, ranks: Ranks | None = None) -> Tensor:
    """Compute class probabilities (n, C) of inputs (n, ...)."""
    return in_batches(lambda x: (network(x).float().softmax(dim=1),), [network], inputs, ranks=ranks)[0]


class JudgedLabels(NamedTuple):
    """What a classifier says of n samples and of their given labels, float32 on the CPU.

    Attributes:
        probabilities: (n, C).
        losses: (n,) cross-entropies of the given labels, in nats.
    """

    probabilities: Tensor
    losses: Tensor


def judge_given(network: nn.Module, samples: Samples) -> JudgedLabels:
    """Compute probabilities and the losses of the given labels.

    The losses are those of training: they stay exact where a probability is too small for float32.
    """

    def judge(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(x).float()
        return logits.softmax(dim=1), nll_loss(log_softmax(logits, dim=1), y, reduction="none")

    return JudgedLabels(*in_batches(judge, [network], samples.inputs, torch.from_numpy(samples.given)))


def represent(backbone: nn.Module, inputs: Inputs, ranks: Ranks | None = None) -> Tensor:
    """Compute a backbone's features (n, d) of inputs (n, ...)."""
    return in_batches(lambda x: (backbone(x),), [backbone], inputs, ranks=ranks)[0]


def correct(
    teacher: nn.Module, inputs: Inputs, labels: NDArray[np.int64], ranks: Ranks | None = None
) -> Correction:
    """Correct the labels (n,) of inputs (n, ...) by the teacher."""
    outputs = in_batches(teacher, [teacher], inputs, torch.from_numpy(labels), ranks=ranks)
    return Correction(*outputs[: len(Correction._fields)])


def predict_both(
    student: nn.Module,
    teacher: nn.Module,
    inputs: Inputs,
    labels: NDArray[np.int64],
    ranks: Ranks | None = None,
) -> Predictions:
    """Compute predictions of both networks for inputs (n, ...) with labels (n,); inputs are read once."""

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
    """Apply a function of networks to a whole set, batch by batch.

    Args:
        function: Maps a batch of inputs, and of the others, on the networks' device, to tensors (n, ...).
        networks: Networks that the function calls; they are in evaluation mode meanwhile.
        inputs: (n, ...) inputs.
        others: (n, ...) tensors on the CPU, such as labels.
        ranks: The processes that share the work, if several do.

    Returns:
        The function's results for the whole set, (n, ...) float32 on the CPU.
    """
    if ranks is not None and len(inputs) < ranks.size:
        ranks = None  # too few to share: every rank computes all of them
    device = _device(networks[0])
    were_training = [network.training for network in networks]
    for network in networks:
        network.eval()
    rows = torch.arange(len(inputs))[slice(None) if ranks is None else ranks.shard(len(inputs))]
    batches = rows.split(_BATCH)
    outputs = []
    with nullcontext() if ranks is None else ranks.autocast():
        for batch, x in zip(batches, read_ahead(inputs, batches, cores_per_process()), strict=True):
            y = function(x.to(device), *(other[batch].to(device) for other in others))
            outputs.append([part.float().cpu() for part in y])
    for network, was_training in zip(networks, were_training, strict=True):
        network.train(was_training)
    parts = [torch.cat(part) for part in zip(*outputs, strict=True)]
    return parts if ranks is None else [ranks.gather(part, len(inputs)) for part in parts]


def _device(network: nn.Module) -> torch.device:
    """Return the device of a network; a linear one's backbone has buffers only."""
    tensors = chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
