"""Algorithm 1: the training loop of all methods. The method defines what happens in a step."""

import functools
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from emlc.config import Augmentation, Settings
from emlc.data import Split
from emlc.data.augment.defaults import default_augmentations
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch, Stream
from emlc.methods.base import Losses, Method, NoisyEstimate
from emlc.methods.captured import CapturedStep
from emlc.runs.checkpoint import (
    NetworkWeights,
    Progress,
    copy_weights,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from emlc.runs.metrics import best_candidate, epoch_metrics
from emlc.runtime.cuda_graph import captured_map
from emlc.runtime.distributed import Ranks, cores_per_process
from emlc.runtime.streams import RandomStream
from emlc.runtime.threads import threads_for

FLUSH_EVERY = 20
"""Steps after which the losses are read from the device and averaged over the ranks."""


class Reporter(Protocol):
    """An observer of the training loop."""

    def on_start(self, progress: Progress, steps_per_epoch: int) -> None: ...
    def on_step(self, progress: Progress) -> None: ...
    def on_epoch(self, progress: Progress) -> None: ...


def fit(
    method: Method,
    split: Split,
    settings: Settings,
    reporter: Reporter,
    folder: Path,
    ranks: Ranks,
    *,
    resumable: bool = True,
) -> Progress:
    """Train a method on a split, from its latest checkpoint in ``folder`` if there is one.

    The first rank writes ``checkpoint.pt`` and the weights: ``chosen/*.safetensors`` and
    ``last/*.safetensors``. The chosen epoch is the best on the validation set; without one the latest with
    emlc's noise-aware teacher, else the best on the trusted set. Besides the networks there is a
    ``samples.safetensors`` with the method's estimate of the noisy samples, if it has one. Without
    ``resumable`` no checkpoint is written, and the weights are written at the end only.

    Returns:
        The final progress, with the metrics of every epoch and the losses of every step.
    """
    parameters = sum(p.numel() for network in method.networks().values() for p in network.parameters())
    with threads_for(math.prod(split.noisy.input_shape), parameters):
        training = _Training(method, split, settings, reporter, folder, ranks, resumable=resumable)
        training.start()
        while training.progress.epoch < settings.passes:
            training.take_steps()
            training.end_epoch()
        training.end()
    return training.progress


class _Training:
    """A training, from the latest checkpoint on if there is one.

    Attributes:
        progress: How far it is.
    """

    def __init__(
        self,
        method: Method,
        split: Split,
        settings: Settings,
        reporter: Reporter,
        folder: Path,
        ranks: Ranks,
        *,
        resumable: bool,
    ) -> None:
        self._method, self._split, self._settings = method, split, settings
        self._reporter, self._folder, self._ranks = reporter, folder, ranks
        self._resumable = resumable
        self._losses = PendingLosses(ranks)
        self._estimate: Callable[[], NoisyEstimate] | None = None
        self._chosen: NetworkWeights | None = None

    def start(self) -> None:
        """Prepare the method and its batches, and restore the position."""
        method, settings, ranks = self._method, self._settings, self._ranks
        method.setup(ranks)
        method.bind(self._split)
        self._noisy, trusted = _streams(method, self._split, settings, ranks)
        self._steps_per_epoch = math.ceil(self._noisy.num_batches() / method.look_ahead)
        self._schedule = _Schedule(method, settings, self._steps_per_epoch)
        with ranks.errors_everywhere():
            checkpoint = latest_checkpoint(self._folder)
            self.progress = Progress() if checkpoint is None else load_checkpoint(checkpoint, method)
        self.progress.threads = torch.get_num_threads()
        self._trusted_batches: Iterator[Batch | None] = (
            trusted.cycle(start=self.progress.steps) if method.uses_trusted else itertools.repeat(None)
        )
        captures = method.capturable and _captures(settings, ranks)
        self._step = CapturedStep(method, ranks.device) if captures else method.step
        self._reporter.on_start(self.progress, self._steps_per_epoch)

    def take_steps(self) -> None:
        """Take the steps of the current epoch, or those that an interrupted run has left of it."""
        method, progress, schedule = self._method, self.progress, self._schedule
        method.train_mode()
        method.epoch = progress.epoch
        clock = time.perf_counter()
        if progress.noisy_batches == 0:
            method.start_epoch()
        else:  # of an epoch whose last step is taken, the rate would not be told otherwise
            schedule.apply(progress.steps - 1)
        for group in _look_ahead_groups(self._noisy, method, progress, self._steps_per_epoch):
            schedule.apply(progress.steps)
            self._ranks.reseed(self._settings.seed, RandomStream.TRAINING_STEP, progress.steps)
            method.step_number.fill_(progress.steps)
            self._losses.append(self._step(group, next(self._trusted_batches)))
            clock = _advance(progress, method.look_ahead, clock)
            self._end_step()
        self._losses.flush(progress)
        progress.seconds += time.perf_counter() - clock  # a GPU has now finished its queued steps

    def _end_step(self) -> None:
        """Report a step; read the losses and write a checkpoint if it is time to."""
        progress = self.progress
        every = self._settings.checkpoint_every if self._resumable else None
        save = every is not None and progress.steps % every == 0
        if save or progress.steps % FLUSH_EVERY == 0:
            self._losses.flush(progress, wait=save)
        self._reporter.on_step(progress)
        if save and self._ranks.is_first:
            save_checkpoint(self._folder, self._method, progress)

    def end_epoch(self) -> None:
        """Measure and report an epoch, and write its networks if it is the chosen one so far."""
        method, progress = self._method, self.progress
        # Computed where it is needed: it may be a pass over all noisy samples.
        estimate = self._estimate = functools.cache(method.estimate)
        _finish_epoch(progress, method, estimate, self._split, self._schedule, self._ranks)
        # Reported before it is saved: a run killed in between reports the epoch twice, but never skips it.
        self._reporter.on_epoch(progress)
        is_chosen = chosen_epoch(progress.history) == progress.epoch
        if is_chosen:
            estimate()  # in every process: they may share the work
        if not self._ranks.is_first:
            return
        if is_chosen:
            weights = _weights(method, estimate(), self._split)
            if self._resumable:
                save_weights(self._folder / "chosen", weights)
            else:
                self._chosen = weights
        if self._resumable:
            save_checkpoint(self._folder, method, progress)

    def end(self) -> None:
        """Write the last networks, and without checkpoints the chosen ones too."""
        method = self._method
        method.epoch = self.progress.epoch - 1  # of a run that was interrupted after its last epoch, too
        estimate = (self._estimate or method.estimate)()
        if self._ranks.is_first:
            last = _weights(method, estimate, self._split)
            if not self._resumable:
                save_weights(self._folder / "chosen", self._chosen or last)
            save_weights(self._folder / "last", last)
        self._ranks.barrier()


def chosen_epoch(history: Sequence[dict[str, float]]) -> int:
    """Return the epoch, from 1, with the best ``choice_accuracy``; ties go to the lower ``choice_loss``.

    Where the epochs say ``latest_wins``, it is the latest one. Warm-up epochs are no candidates; the result
    is 0 if there are no others.
    """
    candidates = [row for row in history if not row.get("warm_up")]
    if candidates and candidates[-1].get("latest_wins"):
        return int(candidates[-1]["epoch"])
    best = max(
        candidates, key=lambda row: (row["choice_accuracy"], -row["choice_loss"]), default={"epoch": 0}
    )
    return int(best["epoch"])


def _weights(method: Method, estimate: NoisyEstimate, split: Split) -> NetworkWeights:
    """Copy the networks' weights and, as those of a network "samples", the estimate of the noisy samples.

    The student's are those of the method's best candidate.
    """
    tensors = {name: t.detach().cpu().clone() for name, t in estimate._asdict().items() if t is not None}
    networks = method.networks() | {"student": best_candidate(method, split, method.ranks)}
    return copy_weights(networks) | ({"samples": tensors} if tensors else {})


def _streams(method: Method, split: Split, settings: Settings, ranks: Ranks) -> tuple[Stream, Stream]:
    workers = settings.workers or cores_per_process()
    weak, strong = default_augmentations(split.noisy.inputs)
    weak = weak if settings.noisy_augmentation is None else settings.noisy_augmentation
    strong = strong if settings.trusted_augmentation is None else settings.trusted_augmentation
    random: list[Augmentation] = ["randaugment" if name == "autoaugment" else name for name in strong]
    views = [{"weak": weak, "strong": strong, "random": random}[view] for view in method.views]
    streams = []
    noisy = RandomStream.NOISY_ORDER, RandomStream.NOISY_AUGMENTATION
    trusted = RandomStream.TRUSTED_ORDER, RandomStream.TRUSTED_AUGMENTATION
    for samples, augmentations, batch_size, (order, augmentation) in (
        (split.noisy, views, settings.batch, noisy),
        (split.trusted, [strong], settings.trusted_batch, trusted),
    ):
        key = (settings.seed, augmentation)
        augments = [_augment(names, samples.inputs, key, settings, ranks) for names in augmentations]
        group = method.group if samples is split.noisy else 1
        streams.append(
            Stream(samples, augments, batch_size, (settings.seed, order), ranks, workers, group=group)
        )
    return streams[0], streams[1]


def _augment(
    names: Sequence[Augmentation], inputs: Inputs, key: tuple[int, int], settings: Settings, ranks: Ranks
) -> Callable[[Tensor, Tensor], Tensor] | None:
    if not names:
        return None
    from emlc.data.augment.augment import Augment  # imports torchvision: seconds that features need not wait

    augment = Augment(names, (inputs.shape[2], inputs.shape[3]), key)
    return captured_map(augment, ranks.device) if _captures(settings, ranks) else augment


def _captures(settings: Settings, ranks: Ranks) -> bool:
    return settings.cuda_graph and ranks.device.type == "cuda" and ranks.size == 1


def _look_ahead_groups(
    noisy: Stream, method: Method, progress: Progress, steps_per_epoch: int
) -> Iterator[list[Batch]]:
    """Yield the rest of the epoch in groups of k noisy batches; the last group may be shorter."""
    k = method.look_ahead
    if not method.uses_noisy:
        yield from ([] for _ in range(progress.noisy_batches // k, steps_per_epoch))
        return
    batches = noisy.epoch(progress.epoch, start=progress.noisy_batches)
    while group := list(itertools.islice(batches, k)):
        yield group


class PendingLosses:
    """The losses of the latest steps, kept on the device: reading a loss would wait for its step to end."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._steps: list[Losses] = []
        self._sent: deque[_Sent] = deque()

    def append(self, losses: Losses) -> None:
        """Add the losses of a step."""
        self._steps.append(losses)

    def flush(self, progress: Progress, *, wait: bool = True) -> None:
        """Move the losses to ``progress``, averaged over the ranks.

        With ``wait=False``, losses that the GPU has not computed yet are left to the next call.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        if self._steps:
            self._sent.append(self._send())
        while self._sent and (wait or len(self._sent) > 1 or self._sent[0].arrived is None):
            sent = self._sent.popleft()
            if sent.arrived is not None:
                sent.arrived.synchronize()
            for name, values in zip(sent.names, sent.values.tolist(), strict=True):
                if not all(map(math.isfinite, values)):
                    raise FloatingPointError(
                        f"{name} is not finite in epoch {progress.epoch + 1}: lower learning_rate"
                    )
                progress.losses.setdefault(name, []).extend(values)

    def _send(self) -> "_Sent":
        names = list(self._steps[0])
        values = torch.stack([losses[name].float() for name in names for losses in self._steps])
        self._ranks.average([values])
        values = values.view(len(names), -1)
        self._steps.clear()
        if values.device.type != "cuda":
            return _Sent(names, values, None)
        copied = torch.empty_like(values, device="cpu", pin_memory=True)
        copied.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(values.device))
        return _Sent(names, copied, arrived)


class _Sent(NamedTuple):
    """Losses (names, steps) in transfer from the device.

    Attributes:
        names: Names of the losses.
        values: (names, steps) on the CPU.
        arrived: The event after which the values are valid, or None if they are already.
    """

    names: list[str]
    values: Tensor
    arrived: torch.cuda.Event | None


def _advance(progress: Progress, k: int, clock: float) -> float:
    progress.steps += 1
    progress.epoch_steps += 1
    progress.noisy_batches += k
    now = time.perf_counter()
    progress.seconds += now - clock
    return now


def _finish_epoch(
    progress: Progress,
    method: Method,
    estimate: Callable[[], NoisyEstimate],
    split: Split,
    schedule: "_Schedule",
    ranks: Ranks,
) -> None:
    progress.epoch += 1
    measured = NoisyEstimate() if split.noisy.true_labels is None else estimate()
    progress.history.append(
        {
            "epoch": progress.epoch,
            "steps": progress.steps,
            "warm_up": float(method.warming_up),
            "latest_wins": float(method.latest_wins and split.validation is None),
            "learning_rate": schedule.learning_rate,
            "seconds": round(progress.seconds, 3),
            **progress.mean_losses(),
            **epoch_metrics(method, measured, split, ranks),
        }
    )
    progress.noisy_batches = progress.epoch_steps = 0


class _Schedule:
    """The learning rates as functions of step and epoch, so that checkpoints need not hold them.

    Attributes:
        learning_rate: The student's current learning rate.
    """

    def __init__(self, method: Method, settings: Settings, steps_per_epoch: int) -> None:
        device = method.ranks.device
        self._method = method
        self._optimizers = method.scheduled()
        self._initial = [float(optimizer.param_groups[0]["lr"]) for optimizer in self._optimizers]
        # On a GPU the rates are tensors, from which a captured step reads them.
        self._rates = [torch.zeros((), device=device) for _ in self._initial]
        self._on_device = device.type == "cuda"
        self.learning_rate = self._initial[0]
        self._settings = settings
        self._steps_per_epoch = steps_per_epoch

    def _factor(self, step: int) -> float:
        s, span = self._settings, self._method.schedule_span
        step -= span.start * self._steps_per_epoch
        steps = len(span) * self._steps_per_epoch
        if s.schedule == "cosine":
            return (1 + math.cos(math.pi * step / steps)) / 2
        # schedule_epochs is None except for step schedules: the factor is then 1. They count all epochs: a
        # shorter span has its share of them.
        passed = [epoch for epoch in s.schedule_epochs or () if step * s.passes >= epoch * steps]
        return s.schedule_factor ** len(passed)

    def apply(self, step: int) -> None:
        """Set the learning rates of all scheduled optimisers for this step, counted from 0."""
        factor = self._factor(step) * self._method.rate_factor
        for optimizer, initial, rate in zip(self._optimizers, self._initial, self._rates, strict=True):
            value = initial * factor
            for group in optimizer.param_groups:
                group["lr"] = rate.fill_(value) if self._on_device else value
        self.learning_rate = self._initial[0] * factor
