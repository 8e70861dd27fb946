"""Enhanced Meta Label Correction: Algorithm 1 with the teacher and the losses of Sec. 3.6."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from emlc.backbones import build_backbone
from emlc.config import Settings
from emlc.corruption import corrupt_half
from emlc.data.loaders import Batch
from emlc.jvp import Engine, StudentStep, choose_engine, record_step
from emlc.metagradient import InnerSGD, meta_gradient, soft_cross_entropy, trusted_gradient
from emlc.methods.base import Losses, Method, descend
from emlc.teacher import Correction, Teacher


class EMLC(Method):
    """A teacher corrects the labels that the student learns from, and learns through its steps."""

    name: ClassVar[str] = "emlc"

    def __init__(self, settings: Settings, inputs: Tensor, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        self.look_ahead = settings.look_ahead
        backbone, dim = build_backbone(settings.teacher_backbone or settings.backbone, inputs, settings.width)
        self.teacher = Teacher(
            backbone,
            dim,
            num_classes,
            label_embedding_dim=settings.label_embedding_dim,
            gate_hidden_dim=settings.gate_hidden_dim,
        )
        self._engine: Engine | None = None

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}

    def prepare(self, device: torch.device) -> None:
        super().prepare(device)
        s = self.settings
        self.teacher_sgd = self.make_sgd(self.teacher, s.teacher_learning_rate or s.learning_rate)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "teacher": self.teacher_sgd}

    @property
    def warming_up(self) -> bool:
        return self.epoch < self.settings.warm_up_epochs

    def start_epoch(self) -> None:
        if self.epoch == self.settings.warm_up_epochs > 0:
            self.teacher.backbone.load_state_dict(self.student.backbone.state_dict())
            self.teacher.classifier.load_state_dict(self.student.classifier.state_dict())

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        if self.warming_up:
            return self._warm_up(noisy)
        # k student steps on soft labels q of a fixed teacher (Algorithm 1, line 7).
        steps: list[StudentStep] = []
        soft_labels: list[Tensor] = []
        for x, y, _ in noisy:
            q = self.teacher(x, y).soft_labels
            step, log_probs = record_step(self.student, x)
            student_loss = soft_cross_entropy(log_probs, q.detach())
            descend(student_loss, self.student_sgd)
            steps.append(step)
            soft_labels.append(q)

        # The student's loss on trusted data, and how it depends on the soft labels (Eq. 10, 11).
        trusted_loss, g_w = trusted_gradient(self.student, trusted.inputs, trusted.labels)
        coefficients = self._coefficients(steps, soft_labels, g_w)
        meta_loss = torch.stack([(c * q).sum() for c, q in zip(coefficients, soft_labels, strict=True)]).sum()

        # One teacher step on all its losses (Eq. 12).
        ce, bce = self._trusted_losses(trusted.inputs, trusted.labels)
        s = self.settings
        descend(s.ce_weight * ce + s.bce_weight * bce + self._meta_weight() * meta_loss, self.teacher_sgd)
        return {
            "student_loss": student_loss.detach(),
            "teacher_ce": ce.detach(),
            "teacher_bce": bce.detach(),
            "meta_objective": trusted_loss,
        }

    def _warm_up(self, noisy: Sequence[Batch]) -> Losses:
        for x, y, _ in noisy:
            student_loss = cross_entropy(self.student(x), y)
            descend(student_loss, self.student_sgd)
        return {"student_loss": student_loss.detach()}

    def _trusted_losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """CE of the teacher's own prediction, and BCE of the retain weight on corrupted labels."""
        h = self.teacher.backbone(x)
        logits = self.teacher.classifier(h)
        labels, is_right = corrupt_half(y, logits, self.settings.corruption)
        bce = binary_cross_entropy_with_logits(self.teacher.retain_logit(h, labels), is_right)
        return cross_entropy(logits, y), bce

    def _meta_weight(self) -> float:
        # The coefficients carry the factor eta: 1/eta takes it out again, at whatever eta is now.
        weight = self.settings.meta_weight
        return 1 / InnerSGD.of(self.student_sgd).lr if weight is None else weight

    def _coefficients(
        self, steps: Sequence[StudentStep], soft_labels: Sequence[Tensor], g_w: dict[str, Tensor]
    ) -> list[Tensor]:
        kind = self.settings.meta_gradient
        asked = self.settings.jvp
        if self._engine is None:
            why = choose_engine(steps[0], exact=kind == "exact")[1] if asked == "auto" else "as asked"
        coefficients, engine = meta_gradient(
            steps,
            g_w,
            InnerSGD.of(self.student_sgd),
            targets=[q.detach() for q in soft_labels],
            kind=kind,
            engine=self._engine or asked,
        )
        if self._engine is None:
            self.notes.append(f"Jacobian-vector products by {engine}: {why}")
        self._engine = engine
        return coefficients

    def correct(self, inputs: Tensor, labels: Tensor) -> Correction:
        correction: Correction = self.teacher(inputs, labels)
        return correction
