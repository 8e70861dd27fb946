"""The authors' step, written from their paper and from what docs/method.md says of their code on CIFAR."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from emlc.data.loaders import Batch
from emlc.meta.jvp import record_step
from emlc.meta.metagradient import InnerSGD, meta_gradient, soft_cross_entropy, trusted_gradient
from emlc.methods.base import Losses
from emlc.networks.gate_teacher import Correction, Teacher
from emlc.timing.plain import PlainEMLC

AUTHORS_PRESET = "cifar10-authors-head"
"""Their settings: no label is corrupted, so that cross-entropy and meta loss alone train the teacher."""


class AuthorsEMLC(PlainEMLC):
    """EMLC as its authors compute it: Algorithm 2 with torch's own forward-mode AD.

    The teacher sees the trusted samples in one forward pass with the noisy ones, those of the last of k
    steps. Each Jacobian is taken at the weights of its own step (Eq. 11); that their code pairs it with
    another's soft labels does not change the cost.
    """

    name: ClassVar[str] = "emlc-authors"

    def plain_step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        records, soft_labels, losses = [], list[Tensor](), []
        for batch in noisy:
            correction, logits = self._teach(batch, trusted if batch is noisy[-1] else None)
            record, log_probs = record_step(self.student, batch.inputs)
            loss = soft_cross_entropy(log_probs, correction.soft_labels.detach())
            self.descend(loss, self.student_sgd)
            records.append(record)
            soft_labels.append(correction.soft_labels)
            losses.append(loss.detach())
        trusted_loss, g_w = trusted_gradient(self.student, trusted.inputs, trusted.labels)
        coefficients, _ = meta_gradient(records, g_w, InnerSGD.of(self.student_sgd), engine="forward")
        meta = torch.stack([(c * q).sum() for c, q in zip(coefficients, soft_labels, strict=True)]).sum()
        teacher_ce = cross_entropy(logits, trusted.labels)
        self.descend(self.meta_weight(len(noisy)) * meta + teacher_ce, self.teacher_sgd)
        return {
            "student_loss": torch.stack(losses).mean(),
            "teacher_ce": teacher_ce.detach(),
            "meta_objective": trusted_loss,
        }

    def _teach(self, noisy: Batch, trusted: Batch | None) -> tuple[Correction, Tensor]:
        """Return the correction of a noisy batch, and the logits (m, C) of trusted samples, if any."""
        assert isinstance(self.teacher, Teacher)
        n = len(noisy.labels)
        inputs = noisy.inputs if trusted is None else torch.cat([noisy.inputs, trusted.inputs])
        h = self.teacher.backbone(inputs)
        return self.teacher.correct(h[:n], noisy.labels), self.teacher.classifier(h[n:])
