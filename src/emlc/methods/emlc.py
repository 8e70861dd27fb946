"""Enhanced Meta Label Correction: Algorithm 1 with the teacher and the losses of Sec. 3.6."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from emlc.backbones import build_backbone
from emlc.config import Settings
from emlc.corruption import corrupt_half
from emlc.data.loaders import Batch
from emlc.jvp import Engine, StudentStep, Weights, choose_engine, record_step
from emlc.metagradient import InnerSGD, meta_gradient, soft_cross_entropy, trusted_gradient
from emlc.methods.base import Losses, Method, descend
from emlc.teacher import Teacher


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
        self._engine: Engine | Literal["auto"] = settings.jvp
        self._noted: Engine | None = None

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
        student_losses: list[Tensor] = []
        for x, y, _ in noisy:
            q = self.teacher(x, y).soft_labels
            step, log_probs = record_step(self.student, x)
            student_loss = soft_cross_entropy(log_probs, q.detach())
            descend(student_loss, self.student_sgd)
            steps.append(step)
            soft_labels.append(q)
            student_losses.append(student_loss.detach())

        # The student's loss on trusted data, and how it depends on the soft labels (Eq. 10, 11).
        trusted_loss, g_w = trusted_gradient(self.student, trusted.inputs, trusted.labels)
        meta_loss = self._meta_loss(steps, soft_labels, g_w)

        # One teacher step on all its losses (Eq. 12).
        ce, bce = self._trusted_losses(trusted.inputs, trusted.labels)
        s = self.settings
        descend(s.ce_weight * ce + s.bce_weight * bce + self.meta_weight * meta_loss, self.teacher_sgd)
        return {
            "student_loss": torch.stack(student_losses).mean(),
            "teacher_ce": ce.detach(),
            "teacher_bce": bce.detach(),
            "meta_objective": trusted_loss,
        }

    def _warm_up(self, noisy: Sequence[Batch]) -> Losses:
        losses = []
        for x, y, _ in noisy:
            loss = cross_entropy(self.student(x), y)
            descend(loss, self.student_sgd)
            losses.append(loss.detach())
        return {"student_loss": torch.stack(losses).mean()}

    def _trusted_losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """CE of the teacher's own prediction, and BCE of the retain weight on corrupted labels."""
        h = self.teacher.backbone(x)
        logits = self.teacher.classifier(h)
        labels, is_right = corrupt_half(y, logits, self.settings.corruption)
        bce = binary_cross_entropy_with_logits(self.teacher.retain_logit(h, labels), is_right)
        return cross_entropy(logits, y), bce

    @property
    def meta_weight(self) -> float:
        """The setting, or 1/eta, which takes the factor eta of the moment out of the coefficients."""
        weight = self.settings.meta_weight
        return 1 / InnerSGD.of(self.student_sgd).lr if weight is None else weight

    def _meta_loss(self, steps: Sequence[StudentStep], soft_labels: Sequence[Tensor], g_w: Weights) -> Tensor:
        """A scalar whose gradient in the teacher's parameters is the meta-gradient."""
        if self.meta_weight == 0:
            return torch.zeros((), device=soft_labels[0].device)
        coefficients, engine = meta_gradient(
            steps,
            g_w,
            InnerSGD.of(self.student_sgd),
            targets=[q.detach() for q in soft_labels],
            kind=self.settings.meta_gradient,
            engine=self._engine,
        )
        self._note_engine(engine, steps[0])
        return torch.stack([(c * q).sum() for c, q in zip(coefficients, soft_labels, strict=True)]).sum()

    def _note_engine(self, engine: Engine, step: StudentStep) -> None:
        if self._noted == engine:
            return
        chosen, why = choose_engine(step, exact=self.settings.meta_gradient == "exact")
        if self.settings.jvp != "auto":
            why = "as asked"
        elif engine != chosen:
            # What the network does not support now it will not support in the next step.
            self._engine, why = engine, "the network lacks forward-mode AD"
        self._noted = engine
        self.notes.append(f"Jacobian-vector products by {engine}: {why}")
