"""What the training loop asks of a method."""

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
from emlc.networks.backbones import Classifier, build_backbone
from emlc.networks.batch_norm import use_joint_batch
from emlc.networks.initial_weights import load_initial_weights
from emlc.networks.standardize import Statistics
from emlc.runtime.distributed import Ranks
from emlc.runtime.precision import full_precision

View = Literal["weak", "strong"]
"""How a sample is augmented: as ``noisy_augmentation`` says, or as ``trusted_augmentation`` does."""

Losses = dict[str, Tensor]
"""Name -> 0-d tensor on the device, detached; averaged over an epoch and logged."""


class NoisyEstimate(NamedTuple):
    """What a method holds of the n noisy samples, on the CPU.

    Attributes:
        soft_labels: (n, C) what it takes for their labels, if it corrects any.
        weights: (n,) in [0, 1], how far it believes the given labels, if it weighs any.
    """

    soft_labels: Tensor | None = None
    weights: Tensor | None = None


class Method(ABC):
    """A way to train a student from noisy and trusted batches.

    Attributes:
        name: As on the command line, and in :data:`emlc.config.methods.METHODS`.
        reference: Title, authors and venue, or what it is: a string in the source, from which it is read.
        warm_up_share: Share of the epochs that it warms up for, unless ``warm_up_epochs`` says otherwise.
        hyper_class: The dataclass of its own hyper-parameters.
        looks_ahead: Whether ``look_ahead`` is a setting of its; it is 1 otherwise.
        uses_noisy: Whether :meth:`step` wants noisy batches; without, it gets an empty list.
        uses_trusted: Whether :meth:`step` wants a trusted batch; without, it gets None.
        views: How often, and how, a noisy batch is augmented: see :attr:`Batch.views`.
        joint: Whether several processes may train together.
        capturable: Whether :meth:`step` looks at no value, so that it can become a CUDA graph.
        warms_up: Whether it has epochs of warming up.
        look_ahead: Noisy batches a step, k.
        hyper: The method's own hyper-parameters.
        student: The classifier that is wanted, inputs (n, ...) to logits (n, C).
        epoch: The current epoch, from 0; the loop sets it.
        step_number: 0-d int64 on the device: steps taken so far; the loop sets it.
        ranks: The processes that train together, of which this is one.
        noisy: The n noisy samples, from :meth:`bind` on.
        decisions: What was chosen on the way, such as the JVP engine; checkpoints hold it.
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    warm_up_share: ClassVar[float] = 0.0
    hyper_class: ClassVar[type[Hyper]] = Hyper
    looks_ahead: ClassVar[bool] = False
    uses_noisy: ClassVar[bool] = True
    uses_trusted: ClassVar[bool] = True
    views: ClassVar[tuple[View, ...]] = ("weak",)
    joint: ClassVar[bool] = False
    capturable: ClassVar[bool] = False
    warms_up: ClassVar[bool] = False
    epoch: int = 0
    step_number: Tensor
    ranks: Ranks
    noisy: Samples

    @classmethod
    def setting_problems(cls, settings: Settings) -> Iterator[str]:
        """Say what does not go with this method in settings that are right by themselves, field by field."""
        yield from ()

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        """Build the networks, with random weights.

        Args:
            settings: All settings of the run.
            inputs: The training inputs, for their shape and standardisation.
            num_classes: C.
        """
        self.settings = settings
        self.num_classes = num_classes
        self.hyper: Any = settings.hyper_parameters
        self.look_ahead = settings.look_ahead if self.looks_ahead else 1
        self._inputs, self._statistics = inputs, Statistics(inputs)
        self.student: nn.Module = self.build_student()
        self.decisions: dict[str, str] = {}

    def build_student(self) -> Classifier:
        """A network for the run's inputs and classes."""
        return Classifier(*self.build_backbone(self.settings.backbone), self.num_classes)

    def build_backbone(self, name: str) -> tuple[nn.Module, int]:
        """A feature extractor for the run's inputs, and the width of its representation."""
        s = self.settings
        return build_backbone(name, self._inputs, s.width, stem=s.stem, statistics=self._statistics)

    def load_initial_weights(self) -> list[str]:
        """Fill the backbones with the weights that the settings name; tells which, in lines for the user.

        Raises:
            InputError: they are not there, or do not fill a backbone.
        """
        s = self.settings
        students = [m for m in self.student.modules() if isinstance(m, Classifier)]
        lines = [load_initial_weights(each.backbone, s.init, s.backbone, "student") for each in students]
        return lines[:1]

    def networks(self) -> dict[str, nn.Module]:
        """Every network of the method by name; checkpoints hold them all."""
        return {"student": self.student}

    def setup(self, ranks: Ranks) -> None:
        """Move the networks to the device and make the optimisers. Called once, before any step."""
        self.ranks = ranks
        self.step_number = torch.zeros((), dtype=torch.int64, device=ranks.device)
        for network in self.networks().values():
            network.to(ranks.device).to(memory_format=torch.channels_last)
            if ranks.size > 1:
                use_joint_batch(network)
            ranks.broadcast(list(network.state_dict().values()))
        self.student_sgd = self.make_sgd(self.student, self.settings.learning_rate)

    def steps_in(self, split: Split, epochs: int) -> int:
        """Steps of so many epochs of one noisy batch a step."""
        return epochs * batches_in(len(split.noisy), self.settings.noisy_batch, self.ranks)

    def check(self, split: Split) -> None:  # noqa: B027  # a hook: most methods can do with any
        """Raise an :class:`InputError` if these sets do not do, before anything is written."""

    def bind(self, split: Split) -> None:
        """Take the sets, once, after :meth:`setup`: methods make tables of the noisy samples here, say."""
        self.noisy = split.noisy

    def sample_state(self) -> dict[str, Tensor]:
        """What the method keeps of each noisy sample, (n, ...) by name; checkpoints hold it.

        They are filled in place when a run goes on.
        """
        return {}

    def estimate(self) -> NoisyEstimate:
        """What the method holds of the noisy samples now; of emlc, its teacher says it."""
        return NoisyEstimate()

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Every optimiser by name; checkpoints hold them all."""
        return {"student": self.student_sgd}

    def scheduled(self) -> list[torch.optim.Optimizer]:
        """Those whose learning rates the schedule scales, the student's first; by default all."""
        return list(self.optimizers().values())

    @property
    def rate_factor(self) -> float:
        """What the schedule's learning rates are multiplied by in the current epoch."""
        return 1.0

    @property
    def schedule_span(self) -> range:
        """The epochs that the schedule runs over now: all, or those of the current stage."""
        return range(self.settings.epochs)

    @property
    def warming_up(self) -> bool:
        """Whether the method is still preparing: such an epoch is no candidate for the model choice."""
        return self.warms_up and self.epoch < self.settings.warm_up

    def start_epoch(self) -> None:  # noqa: B027  # a hook: most methods have nothing to do
        """Called before the first step of every epoch, but not where a run goes on within one."""

    @abstractmethod
    def step(self, noisy: Sequence[Batch], trusted: Batch | None) -> Losses:
        """Learn from up to ``look_ahead`` noisy batches and one trusted batch."""

    def train_mode(self, mode: bool = True) -> None:
        """Put every network in training or evaluation mode."""
        for network in self.networks().values():
            network.train(mode)

    def make_sgd(self, network: nn.Module, learning_rate: float) -> torch.optim.SGD:
        """SGD over the network's trained parameters, with the settings' momentum and weight decay."""
        s = self.settings
        trained = [p for p in network.parameters() if p.requires_grad]
        return torch.optim.SGD(
            trained,
            learning_rate,
            momentum=s.momentum,
            weight_decay=s.weight_decay,
            nesterov=s.nesterov,
            fused=self.ranks.device.type == "cuda",
        )

    def local_scale(self, batch: Batch) -> float:
        """Times this, means over this rank's samples average over the ranks to means of the joint batch."""
        return len(batch.labels) * self.ranks.size / batch.total

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """One step of ``optimizer`` down ``loss``, averaged over the ranks."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.descend_gradients(optimizer)

    def descend_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of ``optimizer`` down the gradients that are there, averaged over the ranks."""
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        self.ranks.average([p.grad for p in weights if p.grad is not None])
        optimizer.step()

    def descend_cross_entropy(self, batch: Batch) -> Tensor:
        """One step of the student down the cross-entropy of a batch; gives that loss."""
        with self.ranks.autocast():
            logits = full_precision(self.student(batch.inputs))
        loss = self.local_scale(batch) * cross_entropy(logits, batch.labels)
        self.descend(loss, self.student_sgd)
        return loss.detach()
