"""Enhanced Meta Label Correction: Algorithm 1 with the teacher and the losses of Sec. 3.6."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from emlc.config import Settings
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.meta.jvp import StudentStep, Weights, record_step
from emlc.meta.metagradient import InnerSGD, meta_gradient, soft_cross_entropy, trusted_gradient
from emlc.meta.replay import Replay
from emlc.methods.base import Losses, Method
from emlc.methods.corruption import corrupt_half
from emlc.methods.engine import EngineChoice
from emlc.networks.backbones import Classifier
from emlc.networks.initial_weights import load_initial_weights
from emlc.networks.teacher import Teacher
from emlc.runtime.cuda_graph import SideStream
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision
from emlc.runtime.streams import RandomStream


class _Step(NamedTuple):
    """A look-ahead step: its record, the teacher's soft labels, without graph and with it, and what the
    student learned from."""

    record: StudentStep
    q: Tensor
    soft_labels: Callable[[], Tensor]
    targets: Tensor
    r: Tensor
    loss: Tensor


class EMLC(Method):
    """A teacher corrects the labels that the student learns from, and learns through its steps."""

    name: ClassVar[str] = "emlc"
    reference: ClassVar[str] = "Enhanced Meta Label Correction for Coping with Label Corruption"
    looks_ahead: ClassVar[bool] = True
    joint: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    student: Classifier
    warms_up: ClassVar[bool] = True

    @classmethod
    def setting_problems(cls, settings: Settings) -> Iterator[str]:
        s, problem = settings, "the teacher starts as a copy of the student's network"
        if s.warm_up > 0 and s.teacher_backbone not in (None, s.backbone):
            yield f"warm_up_epochs and teacher_backbone: {problem}"
        if s.warm_up > 0 and s.teacher_init not in (None, s.init):
            yield f"warm_up_epochs and teacher_init: {problem}"

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        backbone, dim = self.build_backbone(settings.teacher_backbone or settings.backbone)
        self.teacher = Teacher(
            backbone,
            dim,
            num_classes,
            label_embedding_dim=settings.label_embedding_dim,
            gate_hidden_dim=settings.gate_hidden_dim,
        )
        self._engine = EngineChoice(self, exact=settings.meta_gradient == "exact")

    def load_initial_weights(self) -> list[str]:
        s = self.settings
        init = s.init if s.teacher_init is None else s.teacher_init
        name = s.teacher_backbone or s.backbone
        line = load_initial_weights(self.teacher.backbone, init, name, "teacher")
        return [*super().load_initial_weights(), line]

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}

    def setup(self, ranks: Ranks) -> None:
        super().setup(ranks)
        s = self.settings
        self.teacher_sgd = self.make_sgd(self.teacher, s.teacher_learning_rate or s.learning_rate)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"student": self.student_sgd, "teacher": self.teacher_sgd}

    def start_epoch(self) -> None:
        if self.epoch == self.settings.warm_up > 0:
            self.teacher.backbone.load_state_dict(self.student.backbone.state_dict())
            self.teacher.classifier.load_state_dict(self.student.classifier.state_dict())

    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        assert trusted is not None
        if self.warming_up:
            return self._warm_up(noisy)
        for_student, for_judging = self._split_trusted(trusted)
        # The teacher stays as it is until the last line: its forward passes, and those of its losses that
        # do not come through the student, go beside the student's steps.
        side_stream = SideStream(self.ranks.device)

        # k student steps on soft labels q of a fixed teacher (Algorithm 1, line 7).
        steps: list[_Step] = []
        for batch in noisy:
            with side_stream.work(), self.ranks.autocast():
                q, soft_labels = self._teacher_labels(batch)
            with self.ranks.autocast():
                x = _joined(batch, for_student)
                record, log_probs = record_step(self.student, x, keep_products=self.keeps_products)
            side_stream.join()
            targets, r = self._student_targets(batch, q, for_student)
            loss = soft_cross_entropy(log_probs, targets, r)
            self.descend(loss, self.student_sgd)
            steps.append(_Step(record, q, soft_labels, targets, r, loss.detach()))

        self.teacher_sgd.zero_grad(set_to_none=True)
        with side_stream.work():
            ce, bce = self._trusted_losses(trusted)
            (self.settings.ce_weight * ce + self.settings.bce_weight * bce).backward()

        # The student's loss on trusted data, and how it depends on the soft labels (Eq. 10, 11).
        with self.ranks.autocast():
            trusted_loss, g_w = trusted_gradient(self.student, for_judging.inputs, for_judging.labels)
        self._average(g_w, for_judging)
        coefficients = self._coefficients(steps, g_w)

        # One teacher step on all its losses (Eq. 12).
        meta_weight = self.meta_weight(len(steps))
        for step, c in zip(steps, coefficients, strict=False):  # none where the meta loss has no weight
            with side_stream.work():
                q = step.soft_labels()
            side_stream.join()
            # Rows of trusted samples, if the student learned from any, come last: nobody made their labels.
            (meta_weight * (c[: len(q)] * q).sum()).backward()
        side_stream.join()
        self.descend_gradients(self.teacher_sgd)
        return {
            "student_loss": torch.stack([step.loss for step in steps]).mean(),
            "teacher_ce": ce.detach(),
            "teacher_bce": bce.detach(),
            "meta_objective": self.local_scale(for_judging) * trusted_loss,
        }

    def _warm_up(self, noisy: Sequence[Batch]) -> Losses:
        losses = [self.descend_cross_entropy(batch) for batch in noisy]
        return {"student_loss": torch.stack(losses).mean()}

    def _split_trusted(self, trusted: Batch) -> tuple[Batch | None, Batch]:
        """Which trusted samples the student learns from, and which judge what it has learned."""
        if not self.settings.student_trusted:
            return None, trusted
        half = trusted.total // 2
        n = len(range(half)[self.ranks.shard(half)])
        x, y, positions, total = trusted
        return (
            Batch(x[:n], y[:n], positions[:n], half),
            Batch(x[n:], y[n:], positions[n:], total - half),
        )

    def _student_targets(self, noisy: Batch, q: Tensor, trusted: Batch | None) -> tuple[Tensor, Tensor]:
        """Soft labels and weights of a student step: the noisy batch, and trusted samples if any."""
        r = q.new_full((len(q),), self.local_scale(noisy) / len(q))
        if trusted is None:
            return q, r
        truth = one_hot(trusted.labels, q.shape[1]).to(q)
        r_trusted = r.new_full((len(truth),), self.local_scale(trusted) / len(truth))
        return torch.cat([q, truth]), torch.cat([r, r_trusted])

    @property
    def keeps_products(self) -> bool:
        """Whether the meta-gradient will want what the student's layers gave in a step."""
        s = self.settings
        forward = self.decisions.get("jvp") == "forward" and s.meta_gradient == "approximate"
        return forward and s.meta_weight != 0 and not s.save_memory

    def _teacher_labels(self, noisy: Batch) -> tuple[Tensor, Callable[[], Tensor]]:
        """Soft labels q (n, C) for the student, and, when their meta-gradient is known, with their graph."""
        if not self.settings.save_memory:
            q = self.teacher(noisy.inputs, noisy.labels).soft_labels
            return q.detach(), lambda: q
        replay = Replay(self.teacher, *noisy.tensors[:2])
        with torch.no_grad():
            q = self.teacher(noisy.inputs, noisy.labels).soft_labels
        return q, lambda: replay({}).soft_labels

    def _average(self, gradient: Weights, batch: Batch) -> None:
        """Make the gradients that each rank took on its share of a batch that of the joint batch."""
        if self.ranks.size > 1:
            torch._foreach_mul_(list(gradient.values()), self.local_scale(batch))
            self.ranks.average(list(gradient.values()))

    def _trusted_losses(self, trusted: Batch) -> tuple[Tensor, Tensor]:
        """CE of the teacher's own prediction, and BCE of the retain weight on corrupted labels."""
        x, y = trusted.inputs, trusted.labels
        with self.ranks.autocast():
            h = self.teacher.backbone(x)
            logits = full_precision(self.teacher.classifier(h))
            labels, is_right = corrupt_half(
                y,
                logits,
                self.settings.corruption,
                (self.settings.seed, RandomStream.CORRUPTION),
                step=self.step_number,
                total=trusted.total,
                share=self.ranks.shard(trusted.total),
            )
            bce = binary_cross_entropy_with_logits(self.teacher.retain_logit(h, labels), is_right)
            ce = cross_entropy(logits, y)
        return self.local_scale(trusted) * ce, self.local_scale(trusted) * bce

    def meta_weight(self, k: int) -> float | Tensor:
        """The setting, or what makes the size of the coefficients independent of eta, k and momentum."""
        weight = self.settings.meta_weight
        if weight is not None:
            return weight
        return 1 / InnerSGD.of(self.student_sgd).step_scale(k, self.settings.meta_gradient)

    def _coefficients(self, steps: Sequence[_Step], g_w: Weights) -> list[Tensor]:
        """What each step's soft labels (n, C) are multiplied by in the meta loss; [] if it has no weight."""
        if self.settings.meta_weight == 0:
            return []
        coefficients, engine = meta_gradient(
            [step.record for step in steps],
            g_w,
            InnerSGD.of(self.student_sgd),
            targets=[step.targets for step in steps],
            r=[step.r for step in steps],
            kind=self.settings.meta_gradient,
            engine=self._engine.requested(steps[0].record),
            average=self.ranks.average,
        )
        self._engine.used(engine, steps[0].record)
        return coefficients


def _joined(noisy: Batch, trusted: Batch | None) -> Tensor:
    """Inputs of a student step; in one pass, so that batch norm sees one batch in the step and in the JVP."""
    return noisy.inputs if trusted is None else torch.cat([noisy.inputs, trusted.inputs])
