"""Measure what a step costs: every method and engine in turns with plain training, within one process."""

import gc
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from emlc.config import Precision
from emlc.data.augment.augment import Augment
from emlc.data.augment.defaults import default_augmentations
from emlc.data.loaders import Batch, Stream
from emlc.data.samples import Samples
from emlc.meta.jvp import ReplayError
from emlc.methods.base import Losses, Method
from emlc.methods.captured import CapturedStep
from emlc.runtime.cuda_graph import captured_map
from emlc.runtime.distributed import Ranks, pick_device, start_ranks
from emlc.runtime.messages import show_messages
from emlc.runtime.precision import uses_tf32
from emlc.runtime.streams import RandomStream, generator, torch_generator
from emlc.timing.building import build_method, teacher_of
from emlc.timing.cases import Case, Group, left_out, make_cases, make_groups
from emlc.timing.cost import ERM_PASSES, forward_passes
from emlc.timing.memory import peak_of_cpu, state_bytes
from emlc.timing.options import EngineName, MemoryFormat, MetaGradientName, MethodName, StepOptions

_log = logging.getLogger(__name__)

_WARM_UP_STEPS = 5
"""Steps before the first measurement: enough to capture the step and replay it once."""

_LEAST_SECONDS_ON_CUDA = 0.2
"""Least duration of a timed region: launching and waiting are negligible beside it."""

_BATCHES_TO_LOAD_FROM = 8
"""Batches in the random data set that loading is timed on."""

Step = Callable[[Sequence[Batch], Batch | None], Losses]
"""A step of a method, captured or not."""

_FAILURES = (RuntimeError, FloatingPointError, ReplayError)
"""Errors that end one case, not the benchmark: out of memory, a missing operator, too low a precision."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The measurements of one case.

    Attributes:
        method: cross-entropy, mlc, mlc-pruned, emlc, emlc-plain, emlc-authors, or data: loading and
            augmenting alone, n noisy and m trusted images per step.
        teacher: Kind of emlc's teacher, gate or noise-aware; None for other methods.
        k: Student steps per teacher step.
        engine: Engine for Jacobian-vector products, if the method takes any.
        meta_gradient: approximate or exact for emlc, else None.
        precision: float32 or bf16-mixed.
        memory_format: channels_last or contiguous.
        device: Device it ran on, such as cpu or cuda:0.
        network: Backbone of the student, and of emlc's teacher.
        noisy_batch: Noisy images per student step, n.
        trusted_batch: Trusted images per teacher step, m.
        seconds_per_image: Median over the rounds of the seconds per noisy image; a step sees k n of them.
        ratio_to_erm: Median over the rounds of the ratio to plain training (``method="cross-entropy"``) of
            the same precision and memory format, captured if this step is, in the same round.
        over_model: ``ratio_to_erm`` over what :func:`~emlc.timing.cost.forward_passes` predicts; None for
            data.
        peak_memory_bytes: Peak memory during a step with the networks of this method alone, in bytes; None
            for data. The batches and memory that libraries allocate for themselves are not counted.
        classes: Number of classes, C.
        captured: Whether the step was captured and replayed as a CUDA graph.
        seconds: Seconds per noisy image in every round.
        ratio_to_plain: Median ratio to ``method="emlc-plain"`` of the same k, for emlc with the approximate
            meta-gradient where both were measured.
        ratio_to_authors: The same to ``method="emlc-authors"``.
        ratio_spread: Lower and upper quartile of the ratio to plain training over the rounds.
        problem: Why there are no figures, else None.
    """

    method: MethodName
    teacher: str | None
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
    ratio_to_authors: float | None
    ratio_spread: tuple[float, float] | None
    problem: str | None

    @property
    def case(self) -> Case:
        """The step that was measured."""
        kind = (self.method, self.precision, self.memory_format, self.captured)
        return Case(*kind, self.k, self.engine, self.meta_gradient)

    @property
    def group(self) -> Group:
        """The network and batches; cases of the same group took turns."""
        return Group(self.network, self.noisy_batch, self.trusted_batch, self.classes)


@dataclass
class _Running:
    """A case ready to run with its measurements so far; without a step, the problem that stopped it."""

    case: Case
    teacher: str | None = None
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
        """Fail if the networks diverged: timings of steps on non-finite numbers mean nothing."""
        networks = self.method.networks().values() if self.method is not None else ()
        if not all(p.isfinite().all() for network in networks for p in network.parameters()):
            self.fail(FloatingPointError("the networks diverged"))


def measure_steps(options: StepOptions, console: Console | None = None) -> list[Record]:
    """Measure every case that the options ask for, group by group.

    Within a group all cases stay in memory and take turns: every round runs each once, in a new random
    order. Images are random and lie on the device already. Steps are those of the training loop, without
    its loading, logging and evaluation. With one thread on a CPU its CPU time counts, else that of a clock.

    Args:
        options: Which steps to measure, and how often.
        console: Console for messages and progress; standard error by default.

    Returns:
        One record per case, group by group.

    Raises:
        InputError: There is no such device or network, or nothing to measure.
    """
    with show_messages(console) as shown:
        return _measure_steps(options, shown)


def _measure_steps(options: StepOptions, console: Console) -> list[Record]:
    device = pick_device(options.device)
    cuda = device.type == "cuda"
    cases = make_cases(options, cuda=cuda, tf32=cuda and uses_tf32())
    groups = make_groups(options)
    if absent := left_out(options, cases):
        _log.warning(f"left out, as no combination of the other options suits them: {', '.join(absent)}")
    records: list[Record] = []
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=len(groups) * len(cases) * (1 + options.repetitions))

        def advance(description: str) -> None:
            progress.update(task, advance=1, description=description)

        for group in groups:
            _log.info(
                f"{group.network}, {group.noisy_batch} noisy and {group.trusted_batch} trusted images, "
                f"{group.classes} classes: {len(cases)} cases, {options.repetitions} rounds"
            )
            with show_messages(Console(quiet=True)):  # the engine of a case is in its name already
                records += _measure_group(group, cases, options, advance)
    return records


def _measure_group(
    group: Group, cases: list[Case], options: StepOptions, advance: Callable[[str], None]
) -> list[Record]:
    device = pick_device(options.device)
    ranks = {each: start_ranks(str(device), each) for each in {case.precision for case in cases}}
    batches = _Batches(group, options, device)
    if device.type == "cuda":
        _take_workspaces(device)
    running = []
    for case in cases:
        advance(f"building {case.name}")
        running.append(_build(case, group, options, ranks[case.precision], batches))
    order = generator(options.seed, RandomStream.TIMING_ORDER)
    for _ in range(options.repetitions):
        for index in order.permutation(len(running)):
            each = running[index]
            advance(each.case.name)
            if each.step is not None:
                _time(each, group, device)
    for each in running:
        each.check_finite()
    by_case = {each.case: each for each in running}
    return [_record(each, by_case, group, device) for each in running]


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


def _build(case: Case, group: Group, options: StepOptions, ranks: Ranks, batches: _Batches) -> _Running:
    running = _Running(case, teacher_of(case.method, options))
    try:
        if case.method == "data":
            running.step = _loading_step(group, options, ranks)
            running.step()  # the first batches take longer: the loader starts up
        elif ranks.device.type == "cuda":
            _build_on_cuda(running, group, options, ranks, batches)
        else:
            _build_on_cpu(running, group, options, ranks, batches)
    except _FAILURES as error:
        running.fail(error)
    if running.problem is not None:
        gc.collect()  # frees the networks, to which the traceback's frames refer
        torch.cuda.empty_cache()
    return running


def _build_on_cuda(
    running: _Running, group: Group, options: StepOptions, ranks: Ranks, batches: _Batches
) -> None:
    gc.collect()
    before = torch.cuda.memory_allocated(ranks.device)  # by the other cases: it does not change meanwhile
    torch.cuda.reset_peak_memory_stats(ranks.device)
    method = build_method(running.case, group, options, ranks, batches.noisy[0])
    captured = CapturedStep(method, ranks.device) if running.case.captured else None
    step = _step_on(method, captured or method.step, running.case, batches)
    for _ in range(_WARM_UP_STEPS):
        step()
    if captured is not None and captured.refusal is not None:
        raise RuntimeError(f"the step is not captured as a CUDA graph: {captured.refusal}")
    torch.cuda.synchronize(ranks.device)
    running.peak_memory_bytes = torch.cuda.max_memory_allocated(ranks.device) - before
    running.step, running.method = step, method
    running.repeats = math.ceil(_LEAST_SECONDS_ON_CUDA / mean_seconds(step, 1, ranks.device))


def _take_workspaces(device: torch.device) -> None:
    """Make cuBLAS allocate its workspaces, which come with each thread's first product, before any case."""
    x = torch.ones(8, 8, device=device, requires_grad=True)
    (x @ x).sum().backward()


def _build_on_cpu(
    running: _Running, group: Group, options: StepOptions, ranks: Ranks, batches: _Batches
) -> None:
    method = build_method(running.case, group, options, ranks, batches.noisy[0])
    step = _step_on(method, method.step, running.case, batches)
    step()  # creates the states of the optimisers
    for optimizer in method.optimizers().values():
        optimizer.zero_grad(set_to_none=True)  # else the step would free memory that it did not allocate
    running.peak_memory_bytes = state_bytes(method) + peak_of_cpu(step)
    running.step, running.method = step, method


def _step_on(method: Method, step: Step, case: Case, batches: _Batches) -> Callable[[], object]:
    """Return a step on fixed batches."""
    noisy, trusted = batches.noisy[: case.k], batches.trusted if method.uses_trusted else None

    def run() -> object:
        method.step_number.add_(1)
        return step(noisy, trusted)

    return run


def _loading_step(group: Group, options: StepOptions, ranks: Ranks) -> Callable[[], object]:
    """Return a function that loads and augments a step's images, as the training loop does from memory."""
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
        running.seconds.append(mean_seconds(running.step, running.repeats, device) / images)
    except _FAILURES as error:
        running.fail(error)


def _clock(device: torch.device) -> Callable[[], float]:
    """Return the clock: of one thread on a CPU its own time, so that other work counts little."""
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if is_alone else time.perf_counter


def mean_seconds(
    step: Callable[[], object],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] | None = None,
) -> float:
    """Return the mean seconds per step over ``repeats`` steps in a row, by default by :func:`_clock`."""
    clock = clock or _clock(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    for _ in range(repeats):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - start) / repeats


def _record(
    running: _Running,
    by_case: Mapping[Case, _Running],
    group: Group,
    device: torch.device,
) -> Record:
    case = running.case
    ratios = _ratios(running, by_case.get(case.erm))
    comparable = case.method == "emlc" and case.meta_gradient == "approximate"
    to_plain, to_authors = (
        _ratios(running, by_case.get(other) if comparable else None) for other in (case.plain, case.authors)
    )
    over_model = None
    if ratios is not None and case.method != "data":
        passes = sum(forward_passes(case, group.noisy_batch, group.trusted_batch).values())
        over_model = float(np.median(ratios)) * ERM_PASSES / passes
    return Record(
        method=case.method,
        teacher=running.teacher,
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
        ratio_to_authors=None if to_authors is None else float(np.median(to_authors)),
        ratio_spread=None if ratios is None else (_quantile(ratios, 0.25), _quantile(ratios, 0.75)),
        problem=running.problem,
    )


def _ratios(running: _Running, other: _Running | None) -> NDArray[np.float64] | None:
    """Return the ratio of seconds round by round, if both cases were measured."""
    if other is None or not running.seconds or not other.seconds:
        return None
    return np.divide(running.seconds, other.seconds)


def _quantile(ratios: NDArray[np.float64], q: float) -> float:
    return float(np.quantile(ratios, q))
