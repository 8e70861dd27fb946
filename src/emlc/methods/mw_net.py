"""Meta-Weight-Net: a small net gives each noisy sample a weight that depends on its loss.

Jun Shu, Qi Xie, Lixuan Yi, Qian Zhao, Sanping Zhou, Zongben Xu and Deyu Meng, "Meta-Weight-Net: Learning an
Explicit Mapping For Sample Weighting", NeurIPS 2019. Algorithm 1, and the authors' code.

Departures: none in what is computed. The meta-gradient of Eq. 5 comes from Jacobian-vector products, and the
student's own step reuses the forward pass of the look-ahead step, which the published code runs again.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.methods.base import NoisyEstimate
from emlc.methods.one_step import OneStep, WeightNet


@dataclass(frozen=True, kw_only=True)
class MWNetHyper(Hyper):
    """Hyper-parameters of MW-Net.

    Attributes:
        hidden_dim: Hidden units of the net V.
        meta_learning_rate: Learning rate of V's Adam, unless teacher_learning_rate is given.
        meta_weight_decay: Weight decay of V.
    """

    hidden_dim: int = within(100, 1)
    meta_learning_rate: float = within(1e-3)
    meta_weight_decay: float = within(1e-4)


class MWNet(OneStep):
    """Steps of :class:`OneStep` on the weighted loss ``1/n sum_i V(l_i) l_i``, ``l_i = CE(p_w(x_i), y_i)``.

    No gradient flows through the input ``l_i`` of V. The loss in terms of targets has
    ``q_i = V(l_i) onehot(y_i)``.
    """

    name: ClassVar[str] = "mw-net"
    reference: ClassVar[str] = (
        "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting, Shu et al., NeurIPS 2019"
    )
    hyper_class: ClassVar[type[Hyper]] = MWNetHyper
    hyper: MWNetHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.meta_net = WeightNet(self.hyper.hidden_dim)

    def targets(self, batch: Batch, log_probs: Tensor) -> Tensor:
        losses = nll_loss(log_probs, batch.labels, reduction="none")
        weights: Tensor = self.meta_net(losses[:, None])
        return weights * one_hot(batch.labels, self.num_classes)

    def estimate(self) -> NoisyEstimate:
        return NoisyEstimate(weights=self.weights_of(self.meta_net))
