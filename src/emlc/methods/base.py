"""The interface between a method and the training loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from emlc.config import Settings
from emlc.config.hyper import Hyper
from emlc.data import Samples, Split
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch, batches_in
from emlc.errors import InputError
from emlc.networks.backbones import Classifier, build_backbone
from emlc.networks.batch_norm import use_joint_batch
from emlc.networks.initial_weights import load_initial_weights
from emlc.networks.standardize import Statistics
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision

View = Literal["weak", "strong", "random"]
"""How a sample is augmented: by ``noisy_augmentation`` (weak), by ``trusted_augmentation`` (strong), or as
strong with RandAugment in AutoAugment's place (random)."""

OF_SOME_METHODS = (
    *("teacher", "teacher_backbone", "teacher_init", "label_embedding_dim", "gate_hidden_dim"),
    *("teacher_learning_rate", "teacher_momentum", "teacher_weight_decay"),
    *("meta_gradient", "jvp", "save_memory", "look_ahead", "warm_up_epochs"),
    *("meta_weight", "ce_weight", "bce_weight", "likelihood_weight", "anchor_weight"),
    *("corruption", "student_trusted"),
)
"""Settings that a method follows only if its class says so."""

Losses = dict[str, Tensor]
"""Losses of a step by name: 0-d tensors on the device, detached; their means over an epoch are logged."""


class NoisyEstimate(NamedTuple):
    """A method's estimate of the labels of the n noisy samples, on the CPU.

    Attributes:
        soft_labels: (n, C) float, the corrected soft labels; None of a method that corrects no labels.
        weights: (n,) float in [0, 1], how far the method trusts each given label; None of a method that
            weights no samples.
    """

    soft_labels: Tensor | None = None
    weights: Tensor | None = None


class MetaObjective(NamedTuple):
    """What a method's meta-gradient descends: the losses ``meta_objective``.

    Attributes:
        what: What it is, without an article.
        unit: Its unit, or what kind of number it is, and its range.
    """

    what: str
    unit: str


TRUSTED_CROSS_ENTROPY = MetaObjective("student's cross-entropy on trusted batches", "nats")


class Method(ABC):
    """A method that trains a student from noisy and trusted batches.

    Attributes:
        name: The name on the command line and in :data:`emlc.config.methods.METHODS`.
        reference: Title, authors and venue, or a description. It has to be a string literal, since it is
            read from the source.
        warm_up_share: Share of the epochs that are warm-up, unless ``warm_up_epochs`` is set; in [0, 1].
        learning_rate: The student's, unless the setting ``learning_rate`` is given.
        hyper_class: The dataclass of the method's own hyper-parameters.
        follows: Which of :data:`OF_SOME_METHODS` the method reads, beside ``look_ahead`` and
            ``warm_up_epochs``.
        looks_ahead: Whether the method follows the setting ``look_ahead``; otherwise k is 1.
        uses_noisy: Whether :meth:`step` needs noisy batches; otherwise it gets an empty list.
        uses_trusted: Whether :meth:`step` needs a trusted batch; otherwise it gets None.
        views: The augmentation of each view of a noisy batch: see :attr:`Batch.views`.
        group: Number of noisy samples with the same given label that come next to each other in a batch.
        needs_images: What the method does with the pixels of images, such as "masks images"; "": it also
            learns from features.
        joint: Whether several processes may train together.
        capturable: Whether :meth:`step` can be captured as a CUDA graph, because it reads no value from the
            device.
        warms_up: Whether the method has warm-up epochs.
        noise_model: Name of the network, if any, whose attribute ``transition`` is the learned noise (C, C):
            P(given label | true class). It is shown with the run's results.
        look_ahead: Noisy batches per step, k.
        hyper: The method's own hyper-parameters.
        student: The classifier to be trained, inputs (n, ...) to logits (n, C).
        epoch: The current epoch, from 0; the loop sets it.
        step_number: Steps taken so far, 0-d int64 on the device; the loop sets it.
        ranks: The processes that train together, of which this is one.
        noisy: The n noisy samples; set by :meth:`bind`.
        decisions: Choices made during training, such as the JVP engine; checkpoints hold them.
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    warm_up_share: ClassVar[float] = 0.0
    learning_rate: ClassVar[float] = 0.02
    hyper_class: ClassVar[type[Hyper]] = Hyper
    follows: ClassVar[tuple[str, ...]] = ()
    looks_ahead: ClassVar[bool] = False
    uses_noisy: ClassVar[bool] = True
    uses_trusted: ClassVar[bool] = True
    views: ClassVar[tuple[View, ...]] = ("weak",)
    group: int = 1
    needs_images: ClassVar[str] = ""
    joint: ClassVar[bool] = False
    capturable: ClassVar[bool] = False
    warms_up: ClassVar[bool] = False
    noise_model: ClassVar[str] = "teacher"
    epoch: int = 0
    step_number: Tensor
    ranks: Ranks
    noisy: Samples

    @classmethod
    def setting_problems(cls, settings: Settings) -> Iterator[str]:
        """Yield one message per setting that is valid by itself but cannot be used with this method."""
        yield from ()

    @classmethod
    def idle_settings(cls, settings: Settings) -> Iterator[str]:
        """Yield the names of settings that do nothing with this method, though they do with others."""
        has_warm_up = cls.warms_up or not settings.warm_up_epochs  # 0: as wanted
        flags = {"look_ahead": cls.looks_ahead, "warm_up_epochs": has_warm_up}
        yield from (name for name in OF_SOME_METHODS if not flags.get(name, name in cls.follows))

    @classmethod
    def meta_objective(cls, settings: Settings) -> MetaObjective:
        """Return what the losses ``meta_objective`` are, if :meth:`step` returns any."""
        return TRUSTED_CROSS_ENTROPY

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        """Build the networks, with random weights.

        Args:
            settings: All settings of the run.
            inputs: The training inputs, for their shape and standardisation.
            num_classes: C.

        Raises:
            InputError: The method needs images, and the inputs are none.
        """
        if self.needs_images and inputs.ndim != 4:
            raise InputError(
                f"method: {self.name} {self.needs_images}, but the samples are rows of features; give it "
                "images, with --image_model none, so that they are not embedded"
            )
        self.settings = settings
        self.num_classes = num_classes
        self.hyper: Any = settings.hyper_parameters
        self.look_ahead = settings.look_ahead if self.looks_ahead else 1
        self._inputs, self._statistics = inputs, Statistics(inputs, settings.scaling)
        self.student: nn.Module = self.build_student()
        self.decisions: dict[str, str] = {}

    def build_student(self) -> Classifier:
        """Build a classifier for the run's inputs and classes, with random weights."""
        return Classifier(*self.build_backbone(self.settings.backbone), self.num_classes)

    def build_backbone(self, name: str) -> tuple[nn.Module, int]:
        """Build a feature extractor for the run's inputs; return it and the width of its representation."""
        s = self.settings
        return build_backbone(
            name,
            self._inputs,
            s.width,
            stem=s.stem,
            statistics=self._statistics,
            num_classes=self.num_classes,
        )

    def load_initial_weights(self) -> list[str]:
        """Load the weights that the settings name into the backbones; return messages for the user.

        Raises:
            InputError: the weights are missing or do not fit a backbone.
        """
        s = self.settings
        students = [m for m in self.student.modules() if isinstance(m, Classifier)]
        lines = [load_initial_weights(each.backbone, s.init, s.backbone, "student") for each in students]
        return lines[:1]

    def networks(self) -> dict[str, nn.Module]:
        """Return every network of the method by name; checkpoints hold them all."""
        return {"student": self.student}

    def candidates(self) -> list[nn.Module]:
        """Return the networks of which, after an epoch, the best one is the result, the student first.

        They have the student's architecture. Accuracy on the samples that choose the epoch decides.
        """
        return [self.student]

    def setup(self, ranks: Ranks) -> None:
        """Move the networks to the device and create the optimisers. Called once, before any step."""
        self.ranks = ranks
        self.step_number = torch.zeros((), dtype=torch.int64, device=ranks.device)
        for network in self.networks().values():
            network.to(ranks.device).to(memory_format=torch.channels_last)
            if ranks.size > 1:
                use_joint_batch(network)
            ranks.broadcast(list(network.state_dict().values()))
        self.student_sgd = self.make_sgd(self.learners(), self.settings.student_rate)

    def learners(self) -> nn.Module:
        """Return what the student's SGD moves: the student, with any networks that learn at its rate."""
        return self.student

    @property
    def meta_rate(self) -> float:
        """Learning rate of a meta-net: ``teacher_learning_rate``, else ``hyper.meta_learning_rate``."""
        rate: float = self.settings.teacher_learning_rate or self.hyper.meta_learning_rate
        return rate

    def steps_in(self, split: Split, epochs: int) -> int:
        """Return the number of steps in ``epochs`` epochs, at one noisy batch per step."""
        return epochs * batches_in(len(split.noisy), self.settings.batch, self.ranks)

    def check(self, split: Split) -> None:  # noqa: B027  # a hook: most methods train on any sets
        """Raise an :class:`InputError` if the method cannot train on these sets; nothing is written yet."""

    def bind(self, split: Split) -> None:
        """Receive the sets, once, after :meth:`setup`; methods create their per-sample tables here.

        Whoever builds the method has called :meth:`check` with these sets.
        """
        self.noisy = split.noisy

    def sample_state(self) -> dict[str, Tensor]:
        """Return the tensors with one row per noisy sample, (n, ...), by name; checkpoints hold them.

        A resumed run fills them in place.
        """
        return {}

    def estimate(self) -> NoisyEstimate:
        """Return the current soft labels and weights of the noisy samples.

        It is empty for emlc, whose teacher corrects any sample.
        """
        return NoisyEstimate()

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Return every optimiser by name; checkpoints hold them all."""
        return {"student": self.student_sgd}

    def scheduled(self) -> list[torch.optim.Optimizer]:
        """Return the optimisers whose learning rates the schedule scales, the student's first."""
        return list(self.optimizers().values())

    @property
    def rate_factor(self) -> float:
        """Factor on the schedule's learning rates in the current epoch."""
        return 1.0

    @property
    def schedule_span(self) -> range:
        """The epochs that the schedule runs over now: all, or those of the current stage."""
        return range(self.settings.passes)

    @property
    def latest_wins(self) -> bool:
        """Whether accuracy on the trusted set says too little for a choice: the latest epoch is then kept."""
        return False

    @property
    def warming_up(self) -> bool:
        """Whether the current epoch is warm-up; a warm-up epoch is no candidate for the model choice."""
        return self.warms_up and self.epoch < self.settings.warm_up

    def start_epoch(self) -> None:  # noqa: B027  # a hook: most methods have nothing to do
        """Prepare an epoch. Called before its first step, but not when a run resumes within the epoch."""

    @abstractmethod
    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        """Learn from up to ``look_ahead`` noisy batches and one trusted batch; return the step's losses."""

    def train_mode(self, mode: bool = True) -> None:
        """Put every network in training or evaluation mode."""
        for network in self.networks().values():
            network.train(mode)

    def make_sgd(
        self,
        network: nn.Module,
        learning_rate: float,
        *,
        momentum: float | None = None,
        weight_decay: float | None = None,
    ) -> torch.optim.SGD:
        """Create SGD for the network's trainable parameters.

        Momentum and weight decay are by default those of the settings. Parameters that the network names in
        ``undecayed`` are spared the weight decay.
        """
        s = self.settings
        undecayed: Sequence[str] = getattr(network, "undecayed", ())
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": [p for name, p in named if name not in undecayed]}]
        if undecayed:
            groups.append({"params": [p for name, p in named if name in undecayed], "weight_decay": 0.0})
        return torch.optim.SGD(
            groups,
            learning_rate,
            momentum=s.momentum if momentum is None else momentum,
            weight_decay=s.weight_decay if weight_decay is None else weight_decay,
            nesterov=s.nesterov,
            # On CPUs it is twice as fast, but for weights in channels_last it is slower.
            fused=self.ranks.device.type == "cuda" or all(p.is_contiguous() for _, p in named),
        )

    def local_scale(self, batch: Batch) -> float:
        """Return the factor by which this rank scales its batch mean, as ranks may have unequal shares.

        The average over the ranks of the scaled means is the mean over the joint batch.
        """
        return len(batch.labels) * self.ranks.size / batch.total

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take one step of ``optimizer`` on ``loss``, with gradients averaged over the ranks."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.descend_gradients(optimizer)

    def descend_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Take one step of ``optimizer`` with the gradients in ``grad``, averaged over the ranks."""
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        self.ranks.average([p.grad for p in weights if p.grad is not None])
        optimizer.step()

    def descend_cross_entropy(self, batch: Batch) -> Tensor:
        """Take one step of the student on the cross-entropy of a batch; return that loss, detached."""
        with self.ranks.autocast():
            logits = full_precision(self.student(batch.inputs))
        loss = self.local_scale(batch) * cross_entropy(logits, batch.labels)
        self.descend(loss, self.student_sgd)
        return loss.detach()
