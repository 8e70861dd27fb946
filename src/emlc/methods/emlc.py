"""Enhanced Meta Label Correction: Algorithm 1 with the teacher and the losses of Sec. 3.6."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from emlc.config import Settings
from emlc.data import Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.meta.chain import chain_of
from emlc.meta.jvp import StudentStep, Weights, record_step
from emlc.meta.metagradient import InnerSGD, meta_gradient, soft_cross_entropy, trusted_gradient
from emlc.meta.replay import Replay
from emlc.methods.base import (
    OF_SOME_METHODS,
    TRUSTED_CROSS_ENTROPY,
    Losses,
    MetaObjective,
    Method,
)
from emlc.methods.closed_form import closed_form_step
from emlc.methods.corruption import corrupt_half
from emlc.methods.engine import EngineChoice
from emlc.methods.reviewed import ReviewedLabels, representative
from emlc.networks.backbones import Classifier
from emlc.networks.gate_teacher import Teacher
from emlc.networks.initial_weights import load_initial_weights
from emlc.networks.noise_aware_teacher import NoiseAwareCorrection, NoiseAwareTeacher
from emlc.networks.teacher import AnyCorrection, build_teacher
from emlc.runtime.cuda_graph import SideStream
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision
from emlc.runtime.streams import RandomStream

_NOISE_AWARE_SHARE = 0.6
"""Meta weight of the noise-aware teacher as a share of the gate's, were all labels right."""
_FULL_CE_SHARE = 0.07
"""Share of trusted samples among all from which their cross-entropy has weight 1; see :func:`ce_weight`."""
_FEW_PER_CLASS, _FEW = 400, 4000
"""Noisy samples per class, and in all, up to which it has weight 1, however few are trusted."""
_MIN_CE_WEIGHT = 0.02
_OF_TEACHER = {
    "gate": ("corruption", "bce_weight", "gate_hidden_dim", "label_embedding_dim"),
    "noise-aware": ("likelihood_weight", "anchor_weight"),
}
"""Settings that only one of the teachers has."""


class _Step(NamedTuple):
    """A look-ahead step: its batch and record, the teacher's soft labels q, what it says of the batch, with
    its graph when it is asked for, and what the student learned from."""

    batch: Batch
    record: StudentStep
    q: Tensor  # made on the side stream, and so kept until the end of the step
    correct: Callable[[], AnyCorrection]
    targets: Tensor
    r: Tensor
    loss: Tensor


class EMLC(Method):
    """A teacher corrects the labels that the student learns from, and learns through its steps."""

    name: ClassVar[str] = "emlc"
    reference: ClassVar[str] = "Enhanced Meta Label Correction for Coping with Label Corruption"
    follows: ClassVar[tuple[str, ...]] = OF_SOME_METHODS
    looks_ahead: ClassVar[bool] = True
    joint: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    student: Classifier
    warms_up: ClassVar[bool] = True

    @property
    def latest_wins(self) -> bool:
        # The teacher knows its trusted samples by heart, and its student learns from it.
        return self.settings.teacher == "noise-aware"

    @classmethod
    def setting_problems(cls, settings: Settings) -> Iterator[str]:
        s, problem = settings, "the teacher starts as a copy of the student's network"
        if s.warm_up > 0 and s.teacher_backbone not in (None, s.backbone):
            yield f"warm_up_epochs and teacher_backbone: {problem}"
        if s.warm_up > 0 and s.teacher_init not in (None, s.init):
            yield f"warm_up_epochs and teacher_init: {problem}"

    @classmethod
    def idle_settings(cls, settings: Settings) -> Iterator[str]:
        yield from super().idle_settings(settings)
        for teacher, names in _OF_TEACHER.items():
            yield from () if teacher == settings.teacher else names

    @classmethod
    def meta_objective(cls, settings: Settings) -> MetaObjective:
        if settings.teacher == "gate":
            return TRUSTED_CROSS_ENTROPY
        return MetaObjective("student's expected error on trusted batches", "share, 0 to 1")

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        backbone, dim = self.build_backbone(settings.teacher_backbone or settings.backbone)
        self.teacher = build_teacher(settings, backbone, dim, num_classes)
        self.loss_weights = {
            "teacher_ce": 1.0 if settings.ce_weight is None else settings.ce_weight,
            "teacher_bce": settings.bce_weight,
            "teacher_nll": settings.likelihood_weight,
            "teacher_anchor": settings.anchor_weight,
            "noisy_head_ce": 1.0,  # nothing else learns from it
        }
        self._reviewed: ReviewedLabels | None = None
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
        self.teacher_sgd = self.make_sgd(
            self.teacher,
            s.teacher_rate,
            momentum=s.teacher_momentum,
            weight_decay=s.teacher_weight_decay,
        )
        self._zero = torch.zeros((), device=ranks.device)
        self._closed_form = closed_form_step(self)

    def bind(self, split: Split) -> None:
        super().bind(split)
        if isinstance(self.teacher, NoiseAwareTeacher):
            is_sample = representative(split.trusted)
            trusted, given = (
                torch.from_numpy(y) for y in (split.trusted.given[is_sample], split.noisy.given)
            )
            self.teacher.count(trusted, given)
            self._reviewed = ReviewedLabels.of(split, self.ranks.device)
            if self._reviewed is not None:
                self._closed_form = None  # which weighs all trusted samples alike
            if self.settings.ce_weight is None:
                m, n = int(is_sample.sum()), len(split.noisy)
                self.loss_weights["teacher_ce"] = ce_weight(m, n, self.num_classes)

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
        if self._closed_form is not None:
            return self._closed_form(noisy, trusted)
        for_student, for_judging = self.split_trusted(trusted)
        # The teacher stays as it is until the end: its forward passes, and those of its losses that do not
        # come through the student, go beside the student's steps.
        beside = SideStream(self.ranks.device)
        # k student steps on soft labels q of a fixed teacher (Algorithm 1, line 7).
        steps = [self._student_step(batch, for_student, beside) for batch in noisy]
        losses = self._learn_trusted(trusted, beside)
        # The student's loss on trusted data, and how it depends on the soft labels (Eq. 10, 11).
        objective, g_w = self._trusted_gradient(for_judging)
        coefficients = self._coefficients(steps, g_w)
        # One teacher step on all its losses (Eq. 12).
        losses = self._learn_given(steps, coefficients, losses, beside)
        self.descend_gradients(self.teacher_sgd)
        self._observe(steps)
        return {
            "student_loss": torch.stack([step.loss for step in steps]).mean(),
            **{name: loss.detach() for name, loss in losses.items()},
            "meta_objective": objective,
        }

    def _student_step(self, batch: Batch, trusted: Batch | None, beside: SideStream) -> _Step:
        """Take a step of the student on the teacher's soft labels, and on trusted samples if any."""
        with beside.work(), self.ranks.autocast():
            q, correct = self._teacher_labels(batch)
        with self.ranks.autocast():
            x = _joined(batch, trusted)
            record, log_probs = record_step(self.student, x, keep_products=self.keeps_products)
        beside.join()
        targets, r = self.student_targets(batch, q, trusted)
        loss = soft_cross_entropy(log_probs, targets, r)
        self.descend(loss, self.student_sgd)
        return _Step(batch, record, q, correct, targets, r, loss.detach())

    def _learn_trusted(self, trusted: Batch, beside: SideStream) -> Losses:
        """Begin the teacher's gradient with that of its losses on trusted samples; return these."""
        self.teacher_sgd.zero_grad(set_to_none=True)
        with beside.work():
            losses = self._trusted_losses(trusted)
            self._weighted(losses).backward()
        return losses

    def _trusted_gradient(self, trusted: Batch) -> tuple[Tensor, Weights]:
        """Compute the student's loss on trusted samples, and its gradient g_w over those of all ranks."""
        with self.ranks.autocast():
            loss, g_w = trusted_gradient(
                self.student, trusted.inputs, trusted.labels, loss=self._trusted_objective
            )
        scale = self.local_scale(trusted)
        if self.ranks.size > 1:
            torch._foreach_mul_(list(g_w.values()), scale)
            self.ranks.average(list(g_w.values()))
        return scale * loss, g_w

    def _learn_given(
        self, steps: Sequence[_Step], coefficients: Sequence[Tensor], losses: Losses, beside: SideStream
    ) -> Losses:
        """Add to the teacher's gradient those of the meta loss <c, q> and of its losses on given labels.

        Returns:
            The losses so far, with those on given labels.
        """
        meta_weight = self.meta_weight(len(steps))
        for step, c in zip(steps, coefficients, strict=True):
            with beside.work():
                correction = step.correct()
            beside.join()
            given = self._given_losses(correction, step.batch, share=1 / len(steps))
            # Rows of trusted samples, if the student learned from any, come last: nobody made their labels.
            q = correction.soft_labels
            (meta_weight * (c[: len(q)] * q).sum() + self._weighted(given)).backward()
            losses = losses | {name: losses.get(name, 0) + loss for name, loss in given.items()}
        beside.join()
        return losses

    def _warm_up(self, noisy: Sequence[Batch]) -> Losses:
        losses = [self.descend_cross_entropy(batch) for batch in noisy]
        return {"student_loss": torch.stack(losses).mean()}

    def split_trusted(self, trusted: Batch) -> tuple[Batch | None, Batch]:
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

    def student_targets(self, noisy: Batch, q: Tensor, trusted: Batch | None) -> tuple[Tensor, Tensor]:
        """Soft labels and weights of a student step: the noisy batch, and trusted samples if any."""
        r = self.sample_weights(noisy, q)
        if trusted is None:
            return q, r
        truth = one_hot(trusted.labels, q.shape[1]).to(q)
        return torch.cat([q, truth]), torch.cat([r, self.sample_weights(trusted, q)])

    def sample_weights(self, batch: Batch, like: Tensor) -> Tensor:
        """The weights (n,) of this rank's samples in the mean over the joint batch."""
        n = len(batch.labels)
        return like.new_full((n,), self.local_scale(batch) / n)

    @property
    def keeps_products(self) -> bool:
        """Whether the meta-gradient will want what the student's layers gave in a step."""
        s = self.settings
        forward = self.decisions.get("jvp") == "forward" or chain_of(self.student) is not None
        return forward and s.meta_gradient == "approximate" and s.meta_weight != 0 and not s.save_memory

    def _teacher_labels(self, noisy: Batch) -> tuple[Tensor, Callable[[], AnyCorrection]]:
        """Soft labels q (n, C) for the student, and, once their meta-gradient is known, with graph."""
        if not self.settings.save_memory:
            correction = self.teacher(noisy.inputs, noisy.labels)
            return correction.soft_labels.detach(), lambda: correction
        replay = Replay(self.teacher, *noisy.tensors[:2])
        with torch.no_grad():
            q = self.teacher(noisy.inputs, noisy.labels).soft_labels
        return q, lambda: replay({})

    @property
    def _trusted_objective(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The student's loss on trusted samples, which the meta-gradient descends."""
        teacher = self.teacher
        return teacher.expected_error if isinstance(teacher, NoiseAwareTeacher) else cross_entropy

    def _observe(self, steps: Sequence[_Step]) -> None:
        if isinstance(self.teacher, NoiseAwareTeacher):
            means = [self.local_scale(s.batch) * s.targets[: len(s.batch.labels)].mean(dim=0) for s in steps]
            self.observe(self.teacher, torch.stack(means).mean(dim=0))

    def observe(self, teacher: NoiseAwareTeacher, mean_q: Tensor) -> None:
        """Tell a teacher in which shares (C,) the noisy batches of a look-ahead have the classes."""
        self.ranks.average([mean_q])
        teacher.observe(mean_q)

    def _weighted(self, losses: Losses) -> Tensor:
        """The sum of losses of the teacher, each times its weight."""
        return sum((self.loss_weights[name] * loss for name, loss in losses.items()), self._zero)

    def _trusted_losses(self, trusted: Batch) -> Losses:
        """CE of the teacher's own prediction, and what else its kind learns from trusted samples."""
        with self.ranks.autocast():
            h = self.teacher.backbone(trusted.inputs)
            logits = full_precision(self.teacher.classifier(h))
            if isinstance(self.teacher, NoiseAwareTeacher):
                losses = self._noise_aware_losses(self.teacher, h, logits, trusted)
            else:
                losses = {
                    "teacher_ce": cross_entropy(logits, trusted.labels),
                    "teacher_bce": self._gate_loss(self.teacher, h, logits, trusted),
                }
        return {name: self.local_scale(trusted) * loss for name, loss in losses.items()}

    def _noise_aware_losses(
        self, teacher: NoiseAwareTeacher, h: Tensor, logits: Tensor, trusted: Batch
    ) -> Losses:
        """CE of the teacher's own prediction, and the anchor of T."""
        if self._reviewed is not None:
            return self._reviewed.losses(teacher, h, logits, trusted)
        return {
            "teacher_ce": cross_entropy(logits + teacher.prior_shift, trusted.labels),
            "teacher_anchor": teacher.anchor(h, trusted.labels),
        }

    def _gate_loss(self, teacher: Teacher, h: Tensor, logits: Tensor, trusted: Batch) -> Tensor:
        """BCE of the retain weight on labels of which half are corrupted."""
        labels, is_right = corrupt_half(
            trusted.labels,
            logits,
            self.settings.corruption,
            (self.settings.seed, RandomStream.CORRUPTION),
            step=self.step_number,
            total=trusted.total,
            share=self.ranks.shard(trusted.total),
        )
        return binary_cross_entropy_with_logits(teacher.retain_logit(h, labels), is_right)

    def _given_losses(self, correction: AnyCorrection, noisy: Batch, *, share: float) -> Losses:
        """What a noise-aware teacher loses on the given labels of one of the batches of a look-ahead."""
        if not isinstance(correction, NoiseAwareCorrection):
            return {}
        losses = {"teacher_nll": correction.given_nll, "noisy_head_ce": correction.noisy_head_ce}
        return {name: share * self.local_scale(noisy) * loss.mean() for name, loss in losses.items()}

    def meta_weight(self, k: int) -> float | Tensor:
        """The setting, or what makes the size of the coefficients independent of eta, k and momentum.

        A noise-aware teacher learns from the likelihood, too. To it the student's steps say how far to trust
        the labels of a batch. The fewer of them are right, or of the classes of the trusted samples, the less
        there is to say, and the more the few trusted samples would be learned by heart. So its weight is a
        share of that; and it stays as it is when the learning rate falls, and with it the coefficients.
        """
        weight, kind = self.settings.meta_weight, self.settings.meta_gradient
        if weight is not None:
            return weight
        sgd = InnerSGD.of(self.student_sgd)
        if not isinstance(self.teacher, NoiseAwareTeacher):
            return 1 / sgd.step_scale(k, kind)
        at_first = replace(sgd, lr=self.settings.student_rate)
        return _NOISE_AWARE_SHARE * self.teacher.informative_share / at_first.step_scale(k, kind)

    def _coefficients(self, steps: Sequence[_Step], g_w: Weights) -> list[Tensor]:
        """What each step's soft labels (n, C) are multiplied by in the meta loss."""
        if self.settings.meta_weight == 0:
            return [torch.zeros_like(step.targets) for step in steps]
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


def ce_weight(m: int, n: int, classes: int) -> float:
    """Return the weight of the noise-aware teacher's cross-entropy on m trusted samples, beside n noisy ones.

    A step has as large a batch of the few as of the many. At equal weights the few are learned by heart long
    before the others have taught anything; where they are many, they teach most. And where a class has few
    given labels, these teach little, least of all in a short training. The numbers were chosen on held-out
    training images of CIFAR-10 (2,500 to 49,000 noisy samples) and CIFAR-100, on digits and on unequal
    classes: docs/results.md.
    """
    by_share = (m / max(m + n, 1) / _FULL_CE_SHARE) ** 2
    by_size = min((_FEW_PER_CLASS * classes / max(n, 1)) ** 4, _FEW / max(n, 1))
    return min(1.0, max(_MIN_CE_WEIGHT, by_share, by_size))


def _joined(noisy: Batch, trusted: Batch | None) -> Tensor:
    """Inputs of a student step; in one pass, so that batch norm sees one batch in the step and in the JVP."""
    return noisy.inputs if trusted is None else torch.cat([noisy.inputs, trusted.inputs])
