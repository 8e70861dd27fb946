"""The paper's teacher: a gate decides how far to keep the given label (Sec. 3.6 and Fig. 3)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from emlc.runtime.precision import full_precision


class Correction(NamedTuple):
    """What the teacher says of a batch of labelled samples.

    Attributes:
        soft_labels: (n, C) float, ``q_alpha(y | x, y~)``; rows sum to 1.
        prediction: (n, C) float, ``y^``: the teacher's own class probabilities, given ``x`` alone.
        retain_weight: (n,) float in (0, 1), ``w``: how far the given label is kept.
    """

    soft_labels: Tensor
    prediction: Tensor
    retain_weight: Tensor


class Teacher(nn.Module):
    """``q(x, y~) = w onehot(y~) + (1 - w) y^(x)``, with a retain weight ``w(x, y~)`` from a gate.

    The backbone gives a representation ``h``, from which a linear classifier predicts ``y^``. The
    gate is an MLP with one hidden layer on ``[h, z]``, where ``z`` embeds the given label. The
    teacher shares no weights with the student.

    Args:
        backbone: Feature extractor, ``(n, ...) -> (n, feature_dim)``.
        feature_dim: Width of the representation.
        num_classes: C.
        label_embedding_dim: Width of the label embedding (not in the paper; 128 in its authors' code).
        gate_hidden_dim: Hidden units of the gate (Table 5: 128).
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_dim: int,
        num_classes: int,
        *,
        label_embedding_dim: int = 128,
        gate_hidden_dim: int = 128,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = backbone
        self.classifier = nn.Linear(feature_dim, num_classes)
        self.label_embedding = nn.Embedding(num_classes, label_embedding_dim)
        self.gate = nn.Sequential(
            nn.Linear(feature_dim + label_embedding_dim, gate_hidden_dim),
            nn.ReLU(),
            nn.Linear(gate_hidden_dim, 1),
        )

    def retain_logit(self, h: Tensor, labels: Tensor) -> Tensor:
        """Logit (n,) of the retain weight, from representations (n, feature_dim) and labels (n,) int64."""
        z = self.label_embedding(labels)
        return full_precision(self.gate(torch.cat([h, z], dim=1)).squeeze(1))

    def forward(self, inputs: Tensor, labels: Tensor) -> Correction:
        """Correct the given labels (n,) int64 of a batch of inputs (n, ...)."""
        return self.correct(self.backbone(inputs), labels)

    def correct(self, h: Tensor, labels: Tensor) -> Correction:
        """Correct given labels (n,) int64, from representations (n, feature_dim)."""
        y_hat = full_precision(self.classifier(h)).softmax(dim=1)
        w = self.retain_logit(h, labels).sigmoid()
        q = w[:, None] * one_hot(labels, self.num_classes) + (1 - w)[:, None] * y_hat
        return Correction(q, y_hat, w)
