"""Batch normalisation over the joint batch of several processes.

torch's own SyncBatchNorm runs on GPUs only and supports neither forward-mode AD nor double backward, which
the meta-gradient needs. This one is composed of operations that support both.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from emlc.runtime.distributed import lost_rank
from emlc.runtime.precision import full_precision


def use_joint_batch(network: nn.Module) -> nn.Module:
    """Replace every batch norm of a network by a joint one, in place; parameters, buffers and names stay."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, JointBatchNorm):
            setattr(network, name, JointBatchNorm(child))
        else:
            use_joint_batch(child)
    return network


class JointBatchNorm(_BatchNorm):
    """A batch norm whose mean and variance, while training, are those of the samples of all ranks.

    Args:
        like: The batch norm to replace, whose parameters and buffers it takes over.
    """

    def __init__(self, like: _BatchNorm) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self._parameters, self._buffers = like._parameters, like._buffers
        self.train(like.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # any: the batch norm that it replaces was built for these inputs

    def forward(self, input: Tensor) -> Tensor:
        """Normalise inputs (n, channels, ...) per channel."""
        if not self.training:
            return super().forward(input)
        x = full_precision(input)
        over = [0, *range(2, x.ndim)]
        shape = (1, -1, *(1,) * (x.ndim - 2))
        sums = joint_sum(torch.cat([x.sum(over), x.new_tensor([x.numel() / x.shape[1]])]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = x - mean.view(shape)
        variance = joint_sum(centred.square().sum(over)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance, momentum)


def joint_sum(values: Tensor) -> Tensor:
    """Sum values over all ranks, on every rank; differentiable in both modes, and twice."""
    return cast(Tensor, _JointSum.apply(values))


class _JointSum(torch.autograd.Function):
    # The sum is linear: it is its own tangent, and, as every rank has a loss of its own, its own cotangent.
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        with lost_rank():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return joint_sum(gradient.contiguous())

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return joint_sum(tangent.contiguous())
