"""SimCLR: features that are similar for two views of an image and dissimilar for different images.

Chen et al.: A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020. Loss, head
and LARS are those of lightly. It is imported on first use, as that takes seconds.
"""

import math

import torch
from torch import Tensor, nn

from emlc.config import PretrainSettings
from emlc.data.images.stored import Inputs
from emlc.errors import InputError
from emlc.networks.backbones import build_backbone
from emlc.networks.batch_norm import joint_sum, use_joint_batch
from emlc.runtime.distributed import Ranks

_RATES = {"sgd": 0.12, "lars": 0.3}
"""Default learning rate per optimiser, for batches of 256."""

_WEIGHT_DECAYS = {"sgd": 5e-4, "lars": 1e-6}
"""Default weight decay per optimiser."""


class SimCLR:
    """A backbone with a projection head, and their optimiser.

    Args:
        settings: Settings of the networks and the optimiser.
        inputs: The images, for their shape and standardisation.
        ranks: The processes that train together.

    Raises:
        InputError: lightly is not installed; the backbone does not take inputs like these, or has no
            weights.
    """

    def __init__(self, settings: PretrainSettings, inputs: Inputs, ranks: Ranks) -> None:
        check_lightly()
        from lightly.models.modules import SimCLRProjectionHead

        self._settings = settings
        self._ranks = ranks
        self.decisions: dict[str, str] = {}
        self.backbone, dim = build_backbone(settings.backbone, inputs, settings.width, stem=settings.stem)
        if not any(True for _ in self.backbone.parameters()):
            raise InputError(f"backbone: {settings.backbone} has no weights to pretrain")
        self.head: nn.Module = SimCLRProjectionHead(dim, dim, settings.projection_dim)

    def setup(self) -> None:
        """Move the networks to the device and create the optimiser. Called once, before any step."""
        for network in self.networks().values():
            network.to(self._ranks.device).to(memory_format=torch.channels_last)
            if self._ranks.size > 1:
                use_joint_batch(network)
            self._ranks.broadcast(list(network.state_dict().values()))
        self.optimizer = self._make_optimizer()
        self.peak_rate: float = self.optimizer.param_groups[0]["lr"]

    def networks(self) -> dict[str, nn.Module]:
        """Return both networks by name; checkpoints hold them."""
        return {"backbone": self.backbone, "head": self.head}

    def sample_state(self) -> dict[str, Tensor]:
        """Return no tensors: nothing is stored per image."""
        return {}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return the optimiser of both networks; checkpoints hold it."""
        return {"both": self.optimizer}

    def step(self, views: Tensor, learning_rate: float) -> Tensor:
        """Learn from this rank's views (2n, ...), first then second views; return the joint batch's loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with self._ranks.autocast():
            projections = self.head(self.backbone(views))
        loss = contrastive_loss(projections, self._settings.temperature, self._ranks)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._ranks.average([p.grad for p in weights if p.grad is not None])
        self.optimizer.step()
        return loss.detach()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        s = self._settings
        rate = _RATES[s.optimizer] * s.batch / 256 if s.learning_rate is None else s.learning_rate
        decay = _WEIGHT_DECAYS[s.optimizer] if s.weight_decay is None else s.weight_decay
        trained = [p for network in self.networks().values() for p in network.parameters() if p.requires_grad]
        # No weight decay for biases and norms, as in the paper; LARS then also updates them as SGD does.
        parts = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if s.optimizer == "sgd":
            on_gpu = self._ranks.device.type == "cuda"
            return torch.optim.SGD(parts, rate, momentum=s.momentum, fused=on_gpu)
        from lightly.utils.lars import LARS

        lars: torch.optim.Optimizer = LARS(parts, rate, momentum=s.momentum)
        return lars


def contrastive_loss(projections: Tensor, temperature: float, ranks: Ranks) -> Tensor:
    """Compute NT-Xent (Eq. 1 of the paper) over the views of all ranks, 0-d, equal on all ranks.

    Every rank computes the loss of the joint batch. A rank's gradients are then those of the sum of these
    equal losses, and their mean over the ranks is the gradient of one of them.

    Args:
        projections: (2n, d), this rank's first views, then its second views.
        temperature: Divisor of the similarities.
        ranks: The processes, each with n images.
    """
    from lightly.loss import NTXentLoss

    # In float32 at least: bfloat16 is too coarse for exp(similarity / temperature).
    projections = projections.to(torch.promote_types(projections.dtype, torch.float32))
    # Not with lightly's own gathering, which creates a mask on the CPU instead of the GPU.
    first, second = (_gathered(part, ranks) for part in projections.chunk(2))
    loss: Tensor = NTXentLoss(temperature)(first, second)
    return loss


def _gathered(rows: Tensor, ranks: Ranks) -> Tensor:
    """Gather the rows of all ranks, differentiably."""
    if ranks.size == 1:
        return rows
    parts = [rows if rank == ranks.rank else torch.zeros_like(rows) for rank in range(ranks.size)]
    return joint_sum(torch.cat(parts))


def learning_rate(step: int, steps: int, warm_up: int, peak: float) -> float:
    """Return the learning rate of a step: linear to the peak in the warm-up, then along a cosine to zero."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2


def check_lightly() -> None:
    """Raise an :class:`InputError` unless lightly is installed."""
    try:
        import lightly  # noqa: F401
    except ImportError as error:
        raise InputError("pretraining needs lightly: pip install 'emlc[pretrain]'") from error
