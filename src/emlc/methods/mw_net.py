"""Meta-Weight-Net: a small net gives each noisy sample a weight, by its loss.

Jun Shu, Qi Xie, Lixuan Yi, Qian Zhao, Sanping Zhou, Zongben Xu and Deyu Meng, "Meta-Weight-Net: Learning an
Explicit Mapping For Sample Weighting", NeurIPS 2019. Algorithm 1, and the authors' code.

Departures: none in what is computed. The meta-gradient of Eq. 5 comes from Jacobian-vector products, and the
third step goes back through the first one's forward pass, which the published code runs again.
"""

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from emlc.config import Settings
from emlc.config.hyper import MWNetHyper
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.methods.base import NoisyEstimate
from emlc.methods.one_step import OneStep, WeightNet


class MWNet(OneStep):
    """A step of :class:`OneStep` on the weighted loss ``1/n sum_i V(l_i) l_i``, ``l_i = CE(p_w(x_i), y_i)``.

    V does not see where its input comes from: ``l_i`` is a number there. In targets the loss is
    ``q_i = V(l_i) onehot(y_i)``.
    """

    name: ClassVar[str] = "mw-net"
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
