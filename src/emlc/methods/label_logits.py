"""Learned label logits, one row per noisy sample: the base of PENCIL and MSLG."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from emlc.data import Split
from emlc.methods.base import Method, NoisyEstimate


class LabelLogits(Method):
    """A method that keeps the logits of a soft label for each of the n noisy samples.

    Attributes:
        label_logits: (n, C) float32; at first K onehot(y) with K the hyper-parameter ``initial_logit``.
    """

    hyper: Any

    def bind(self, split: Split) -> None:
        super().bind(split)
        labels = torch.from_numpy(split.noisy.given).to(self.ranks.device)
        self.label_logits = self.hyper.initial_logit * one_hot(labels, self.num_classes).float()

    def sample_state(self) -> dict[str, Tensor]:
        return {"label_logits": self.label_logits}

    def estimate(self) -> NoisyEstimate:
        return NoisyEstimate(soft_labels=self.label_logits.softmax(dim=1).cpu())
