"""What a step costs: every method and engine beside plain training, in turns, within one process."""

import gc
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from emlc.config import Precision, Settings
from emlc.data.augment.augment import Augment, default_augmentations
from emlc.data.loaders import Batch, Stream
from emlc.data.samples import Samples
from emlc.meta.jvp import ReplayError
from emlc.methods.base import Losses, Method
from emlc.methods.captured import CapturedStep
from emlc.methods.cross_entropy import CrossEntropy
from emlc.methods.emlc import EMLC
from emlc.methods.mlc import MLC
from emlc.networks.standardize import Standardize
from emlc.runtime.cuda_graph import captured_map
from emlc.runtime.distributed import Ranks, pick_device, start_ranks
from emlc.runtime.messages import show_messages
from emlc.runtime.precision import uses_tf32
from emlc.runtime.streams import RandomStream, generator, seed_torch, torch_generator
from emlc.timing.cases import Case, Group, make_cases, make_groups
from emlc.timing.cost import ERM_PASSES, forward_passes
from emlc.timing.memory import held_bytes, peak_of_cpu
from emlc.timing.mlc import PrunedMLC
from emlc.timing.options import EngineName, MemoryFormat, MetaGradientName, MethodName, StepOptions
from emlc.timing.plain import PlainEMLC

_log = logging.getLogger(__name__)

_METHODS: dict[MethodName, type[Method]] = {
    "cross-entropy": CrossEntropy,
    "emlc": EMLC,
    "mlc": MLC,
    "mlc-pruned": PrunedMLC,
    "emlc-plain": PlainEMLC,
}
_SETTING: dict[MethodName, str] = {
    "cross-entropy": "cross-entropy",
    "emlc": "emlc",
    "mlc": "mlc",
    "mlc-pruned": "mlc",
    "emlc-plain": "emlc",
}
"""The method whose settings and hyper-parameters each has."""

_WARM_UP_STEPS = 5
"""Enough for a step to be captured, and replayed once."""

_LEAST_SECONDS_ON_CUDA = 0.2
"""Of a timed region, beside which the time to launch and to wait for it is nothing."""

_BATCHES_TO_LOAD_FROM = 8

Step = Callable[[Sequence[Batch], Batch | None], Losses]
"""A step of a method, captured or not."""

_FAILURES = (RuntimeError, FloatingPointError, ReplayError)
"""What ends one case, and not the benchmark: no memory, no such operator, too coarse a precision."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A measured case.

    Attributes:
        method: cross-entropy, mlc, mlc-pruned, emlc, emlc-plain, or data: loading and augmenting alone, n
            noisy and m trusted images a step.
        k: Student steps per step.
        engine: Of Jacobian-vector products, if any.
        meta_gradient: approximate or exact, of emlc.
        precision: float32 or bf16-mixed.
        memory_format: channels_last or contiguous.
        device: Where it ran, such as cpu or cuda:0.
        network: Backbone of the student, and of emlc's teacher.
        noisy_batch: Noisy images a student step, n.
        trusted_batch: Trusted images a teacher step, m.
        seconds_per_image: Median over the rounds of the seconds per noisy image, of which a step sees k n.
        ratio_to_erm: Median over the rounds of the ratio to plain training (``method="cross-entropy"``) of
            the same precision and memory format, captured if this is, in the same round.
        over_model: ``ratio_to_erm`` over what :func:`~emlc.timing.cost.forward_passes` predicts; None
            of data.
        peak_memory_bytes: Most bytes alive during a step with the networks of this method alone; None of
            data. Neither the batches nor what libraries allocate by themselves counts.
        classes: C.
        captured: Whether the step was replayed as a CUDA graph.
        seconds: Seconds per noisy image in every round.
        ratio_to_plain: Likewise to ``method="emlc-plain"`` of the same k, if that is measured; of emlc only.
        ratio_spread: Lower and upper quartile of the ratio over the rounds.
        problem: Why there are no figures, else None.
    """

    method: MethodName
    k: int
    engine: EngineName | None
    meta_gradient: MetaGradientName | None
    precision: Precision
    memory_format: MemoryFormat
    device: str
    network: str
    noisy_batch: int
    trusted_batch: int
    seconds_per_image: float | None
    ratio_to_erm: float | None
    over_model: float | None
    peak_memory_bytes: int | None
    classes: int
    captured: bool
    seconds: list[float]
    ratio_to_plain: float | None
    ratio_spread: tuple[float, float] | None
    problem: str | None

    @property
    def case(self) -> Case:
        """What was measured, without where."""
        kind = (self.method, self.precision, self.memory_format, self.captured)
        return Case(*kind, self.k, self.engine, self.meta_gradient)

    @property
    def group(self) -> Group:
        """What it took turns with: those of the same group."""
        return Group(self.network, self.noisy_batch, self.trusted_batch, self.classes)


@dataclass
class _Running:
    """A case that is ready to run, and what was measured of it; without a step, why it is not."""

    case: Case
    step: Callable[[], object] | None = None
    method: Method | None = None
    repeats: int = 1
    peak_memory_bytes: int | None = None
    seconds: list[float] = field(default_factory=list)
    problem: str | None = None

    def fail(self, error: BaseException) -> None:
        lines = str(error).splitlines()
        self.problem = f"{type(error).__name__}: {lines[0] if lines else ''}"
        self.step, self.method, self.seconds = None, None, []

    def check_finite(self) -> None:
        """Fail if the networks have diverged: steps on numbers that are not finite measure nothing."""
        networks = self.method.networks().values() if self.method is not None else ()
        if not all(p.isfinite().all() for network in networks for p in network.parameters()):
            self.fail(FloatingPointError("the networks diverged"))


def measure_steps(options: StepOptions, console: Console | None = None) -> list[Record]:
    """Measure every case that the options ask for, group by group.

    Within a group all cases stay alive and take turns: every round runs each once, in an order of its
    own. Images are random and lie on the device already. Steps are those of the training loop, without
    its loading, logging and evaluation.

    Args:
        options: What to measure.
        console: Where to show messages and progress; standard error by default.

    Raises:
        InputError: no such device or network; nothing to measure.
    """
    with show_messages(console) as shown:
        return _measure_steps(options, shown)


def _measure_steps(options: StepOptions, console: Console) -> list[Record]:
    device = pick_device(options.device)
    cuda = device.type == "cuda"
    cases = make_cases(options, cuda=cuda, tf32=cuda and uses_tf32())
    groups = make_groups(options)
    records: list[Record] = []
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=len(groups) * len(cases) * (1 + options.repetitions))

        def tell(what: str) -> None:
            progress.update(task, advance=1, description=what)

        for group in groups:
            _log.info(
                f"{group.network}, {group.noisy_batch} noisy and {group.trusted_batch} trusted images, "
                f"{group.classes} classes: {len(cases)} cases, {options.repetitions} rounds"
            )
            with show_messages(Console(quiet=True)):  # the engine of a case is in its name already
                records += _measure_group(group, cases, options, tell)
    return records


def _measure_group(
    group: Group, cases: list[Case], options: StepOptions, tell: Callable[[str], None]
) -> list[Record]:
    device = pick_device(options.device)
    ranks = {precision: start_ranks(str(device), precision) for precision in options.precisions}
    batches = _Batches(group, options, device)
    if device.type == "cuda":
        _take_workspaces(device)
    running = []
    for case in cases:
        tell(f"building {case.name}")
        running.append(_built(case, group, options, ranks[case.precision], batches))
    order = generator(options.seed, RandomStream.TIMING_ORDER)
    for _ in range(options.repetitions):
        for index in order.permutation(len(running)):
            each = running[index]
            tell(each.case.name)
            if each.step is not None:
                _time(each, group, device)
    for each in running:
        each.check_finite()
    found = {each.case: each for each in running}
    return [
        _record(each, found.get(each.case.erm), found.get(each.case.plain), group, device) for each in running
    ]


class _Batches:
    """Random images on the device, the same for every case of a group."""

    def __init__(self, group: Group, options: StepOptions, device: torch.device) -> None:
        numbers = torch_generator(options.seed, RandomStream.TIMING_BATCHES)
        shape = (3, options.image_size, options.image_size)

        def draw(n: int) -> Batch:
            x = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=numbers)
            y = torch.randint(0, group.classes, (n,), generator=numbers)
            return Batch(x.to(device), y.to(device), torch.arange(n, device=device), n)

        self.noisy = [draw(group.noisy_batch) for _ in range(max(options.look_ahead))]
        self.trusted = draw(group.trusted_batch)


def _built(case: Case, group: Group, options: StepOptions, ranks: Ranks, batches: _Batches) -> _Running:
    running = _Running(case)
    try:
        if case.method == "data":
            running.step = _loading(group, options, ranks)
            running.step()  # the first batches wait for more than the others
        elif ranks.device.type == "cuda":
            _build_on_cuda(running, group, options, ranks, batches)
        else:
            _build_on_cpu(running, group, options, ranks, batches)
    except _FAILURES as error:
        running.fail(error)
    if running.problem is not None:
        gc.collect()  # the traceback's frames held on to the networks
        torch.cuda.empty_cache()
    return running


def _build_on_cuda(
    running: _Running, group: Group, options: StepOptions, ranks: Ranks, batches: _Batches
) -> None:
    gc.collect()
    before = torch.cuda.memory_allocated(ranks.device)  # what others hold, which does not change meanwhile
    torch.cuda.reset_peak_memory_stats(ranks.device)
    method = build_method(running.case, group, options, ranks, batches.noisy[0])
    captured = CapturedStep(method, ranks.device) if running.case.captured else None
    step = _stepping(method, captured or method.step, running.case, batches)
    for _ in range(_WARM_UP_STEPS):
        step()
    if captured is not None and captured.refusal is not None:
        raise RuntimeError(f"the step is not captured as a CUDA graph: {captured.refusal}")
    torch.cuda.synchronize(ranks.device)
    running.peak_memory_bytes = torch.cuda.max_memory_allocated(ranks.device) - before
    running.step, running.method = step, method
    running.repeats = math.ceil(_LEAST_SECONDS_ON_CUDA / _seconds(step, 1, ranks.device))


def _take_workspaces(device: torch.device) -> None:
    """Let cuBLAS have its workspaces, which come with the first product of each thread, before any case."""
    x = torch.ones(8, 8, device=device, requires_grad=True)
    (x @ x).sum().backward()


def _build_on_cpu(
    running: _Running, group: Group, options: StepOptions, ranks: Ranks, batches: _Batches
) -> None:
    method = build_method(running.case, group, options, ranks, batches.noisy[0])
    step = _stepping(method, method.step, running.case, batches)
    step()  # now the optimisers have their states
    for optimizer in method.optimizers().values():
        optimizer.zero_grad(set_to_none=True)  # or the step would free what it did not allocate
    running.peak_memory_bytes = held_bytes(method) + peak_of_cpu(step)
    running.step, running.method = step, method


def build_method(case: Case, group: Group, options: StepOptions, ranks: Ranks, batch: Batch) -> Method:
    """The method of a case, prepared for its first step.

    Args:
        case: Of any method but data.
        group: The network and the batches.
        options: Device and seed.
        ranks: One process, of the case's precision.
        batch: Images like those that it will see.
    """
    settings = Settings(
        backbone=group.network,
        method=_SETTING[case.method],
        look_ahead=case.k,
        jvp=case.engine or "auto",
        meta_gradient=case.meta_gradient or "approximate",
        precision=case.precision,
        noisy_batch=group.noisy_batch,
        trusted_batch=group.trusted_batch,
        device=options.device,
        seed=options.seed,
    )
    seed_torch(options.seed, RandomStream.INITIAL_WEIGHTS)
    method = _METHODS[case.method](settings, batch.inputs.cpu(), group.classes)
    method.setup(ranks)
    if case.memory_format == "contiguous":
        _use_contiguous(method)
    if ranks.device.type == "cuda" and case.method != "emlc-plain":
        # As the training loop has it: a captured step reads its learning rate from there.
        for parameters in method.student_sgd.param_groups:
            parameters["lr"] = torch.tensor(parameters["lr"], device=ranks.device)
    method.train_mode()
    return method


def _use_contiguous(method: Method) -> None:
    for network in method.networks().values():
        network.to(memory_format=torch.contiguous_format)
        for module in network.modules():
            if isinstance(module, Standardize):
                module.memory_format = torch.contiguous_format


def _stepping(method: Method, step: Step, case: Case, batches: _Batches) -> Callable[[], object]:
    noisy, trusted = batches.noisy[: case.k], batches.trusted if method.uses_trusted else None

    def run() -> object:
        method.step_number.add_(1)
        return step(noisy, trusted)

    return run


def _loading(group: Group, options: StepOptions, ranks: Ranks) -> Callable[[], object]:
    """Load and augment a step's images, as the training loop does from memory."""
    streams: list[Iterator[Batch]] = []
    for number, n in enumerate((group.noisy_batch, group.trusted_batch)):
        many, size = n * _BATCHES_TO_LOAD_FROM, options.image_size
        rng = generator(options.seed, RandomStream.TIMING_IMAGES, number)
        images = rng.integers(0, 256, (many, size, size, 3), dtype=np.uint8)
        labels = list(islice(cycle(str(label) for label in range(group.classes)), many))
        samples = Samples.from_arrays(images, labels)
        key = (options.seed, (RandomStream.NOISY_AUGMENTATION, RandomStream.TRUSTED_AUGMENTATION)[number])
        augment: Callable[[Tensor, Tensor], Tensor]
        augment = Augment(default_augmentations(samples.inputs)[number], (size, size), key)
        if ranks.device.type == "cuda":
            augment = captured_map(augment, ranks.device)
        order = (options.seed, (RandomStream.NOISY_ORDER, RandomStream.TRUSTED_ORDER)[number])
        streams.append(Stream(samples, [augment], n, order, ranks, os.cpu_count() or 1).cycle())
    return lambda: [next(stream) for stream in streams]


def _time(running: _Running, group: Group, device: torch.device) -> None:
    assert running.step is not None
    images = running.case.k * group.noisy_batch
    try:
        running.seconds.append(_seconds(running.step, running.repeats, device) / images)
    except _FAILURES as error:
        running.fail(error)


def _seconds(step: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Seconds a step, of so many in a row."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / repeats


def _record(
    running: _Running, erm: _Running | None, plain: _Running | None, group: Group, device: torch.device
) -> Record:
    case = running.case
    ratios = _ratios(running, erm)
    alike = case.method == "emlc" and case.meta_gradient == "approximate"
    to_plain = _ratios(running, plain if alike else None)
    over_model = None
    if ratios is not None and case.method != "data":
        passes = sum(forward_passes(case, group.noisy_batch, group.trusted_batch).values())
        over_model = float(np.median(ratios)) * ERM_PASSES / passes
    return Record(
        method=case.method,
        k=case.k,
        engine=case.engine,
        meta_gradient=case.meta_gradient,
        precision=case.precision,
        memory_format=case.memory_format,
        device=str(device),
        network=group.network,
        noisy_batch=group.noisy_batch,
        trusted_batch=group.trusted_batch,
        seconds_per_image=float(np.median(running.seconds)) if running.seconds else None,
        ratio_to_erm=None if ratios is None else float(np.median(ratios)),
        over_model=over_model,
        peak_memory_bytes=running.peak_memory_bytes,
        classes=group.classes,
        captured=case.captured,
        seconds=running.seconds,
        ratio_to_plain=None if to_plain is None else float(np.median(to_plain)),
        ratio_spread=None if ratios is None else (_quantile(ratios, 0.25), _quantile(ratios, 0.75)),
        problem=running.problem,
    )


def _ratios(running: _Running, other: _Running | None) -> NDArray[np.float64] | None:
    """Round by round, if both were measured."""
    if other is None or not running.seconds or not other.seconds:
        return None
    return np.divide(running.seconds, other.seconds)


def _quantile(ratios: NDArray[np.float64], q: float) -> float:
    return float(np.quantile(ratios, q))
