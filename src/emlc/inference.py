"""Trained networks put to use on whole sets, batch by batch, in evaluation mode."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emlc.teacher import Correction

_BATCH = 1024


@torch.no_grad()
def predict_proba(network: nn.Module, inputs: Tensor) -> Tensor:
    """Class probabilities (n, C), float32 on the CPU, in evaluation mode."""
    return _in_batches(lambda x: (network(x).softmax(dim=1),), network, inputs)[0]


@torch.no_grad()
def correct(teacher: nn.Module, inputs: Tensor, labels: NDArray[np.int64]) -> Correction:
    """The teacher's corrections of a whole labelled set, on the CPU, in evaluation mode."""
    return Correction(*_in_batches(teacher, teacher, inputs, torch.from_numpy(labels)))


@torch.no_grad()
def _in_batches(
    function: Callable[..., tuple[Tensor, ...]], network: nn.Module, *tensors: Tensor
) -> list[Tensor]:
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    batches = zip(*(t.split(_BATCH) for t in tensors), strict=True)
    outputs = [[o.cpu() for o in function(*(t.to(device) for t in batch))] for batch in batches]
    network.train(was_training)
    return [torch.cat(parts) for parts in zip(*outputs, strict=True)]
