"""Measure what a step costs on features, where networks are so small that calling an operation counts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from emlc.config import Settings
from emlc.config.methods import method_class
from emlc.data import Samples, Split
from emlc.data.loaders import Stream
from emlc.methods.base import Method
from emlc.runtime.distributed import Ranks, start_ranks
from emlc.runtime.streams import RandomStream, generator, seed_torch
from emlc.runtime.threads import threads_for
from emlc.timing.options import StepOptions
from emlc.timing.step import mean_seconds

SHAPE = (49_900, 256)
"""Number of noisy samples and of features, those of CIFAR-10 embedded by a small pretrained network."""

_TRUSTED = 1_000
_WARM_UP_STEPS = 3
_STEPS = 20
"""Steps in a row that are timed as one."""

_CASES: dict[str, dict[str, Any]] = {
    "cross-entropy": {"method": "cross-entropy"},
    "emlc, gate": {"method": "emlc", "teacher": "gate"},
    "emlc, noise-aware": {"method": "emlc", "teacher": "noise-aware"},
    "fasten": {"method": "fasten"},
}
"""Settings of each measured method, plain training first; all else is the default."""


@dataclass(frozen=True, kw_only=True)
class FeatureRecord:
    """The measurements of one method on features.

    Attributes:
        method: Name of the method, and of emlc's teacher.
        seconds_per_step: Median over the rounds; on the CPU, seconds of its time, without that of other
            processes.
        ratio_to_erm: Median over the rounds of the ratio to plain training in the same round.
        ratio_spread: Lower and upper quartile of that ratio.
        seconds: Seconds per step in every round.
        threads: Number of threads that torch computed with on the CPU.
    """

    method: str
    seconds_per_step: float
    ratio_to_erm: float
    ratio_spread: tuple[float, float]
    seconds: list[float]
    threads: int


def measure_features(options: StepOptions) -> list[FeatureRecord]:
    """Measure steps on random features, as the training loop takes them, with loading, methods in turns.

    Args:
        options: Device, repetitions and seed; the first of ``noisy_batch``, ``trusted_batch``, ``classes``.
    """
    ranks = start_ranks(options.device)
    split = _split(options)
    methods = {name: _build(case, split, options, ranks) for name, case in _CASES.items()}
    with threads_for(SHAPE[1], parameters=0):  # one, as the loop takes for networks as small as these
        steps = {name: _step_of(method, split, options) for name, method in methods.items()}
        seconds = _measure(steps, options, ranks.device)
        threads = torch.get_num_threads()
    erm = np.array(seconds["cross-entropy"])
    return [_record(name, np.array(values), erm, threads) for name, values in seconds.items()]


def _split(options: StepOptions) -> Split:
    """Draw features and labels of no meaning: what a step costs does not depend on them."""
    sets: list[Samples] = []
    for number, n in enumerate((SHAPE[0], _TRUSTED)):
        rng = generator(options.seed, RandomStream.TIMING_IMAGES, number)
        labels = rng.permutation(np.arange(n) % options.classes[0])
        sets.append(Samples.from_arrays(rng.standard_normal((n, SHAPE[1]), np.float32), labels))
    noisy, trusted = sets
    return Split(noisy=noisy, trusted=trusted)


def _build(case: dict[str, Any], split: Split, options: StepOptions, ranks: Ranks) -> Method:
    settings = Settings(
        **case,
        noisy_batch=options.noisy_batch[0],
        trusted_batch=options.trusted_batch[0],
        precision="float32",
        seed=options.seed,
    )
    seed_torch(options.seed, RandomStream.INITIAL_WEIGHTS)
    method: Method = method_class(settings.method)(settings, split.noisy.inputs, len(split.classes))
    method.setup(ranks)
    method.bind(split)
    method.train_mode()
    return method


def _step_of(method: Method, split: Split, options: StepOptions) -> Callable[[], object]:
    seed, ranks, s = options.seed, method.ranks, method.settings
    noisy = Stream(split.noisy, [None], s.batch, (seed, RandomStream.NOISY_ORDER), ranks, 1).cycle()
    key = (seed, RandomStream.TRUSTED_ORDER)
    trusted = Stream(split.trusted, [None], s.trusted_batch, key, ranks, 1).cycle()

    def step() -> object:
        method.step_number.add_(1)
        ranks.reseed(seed, RandomStream.TRAINING_STEP, 0)
        return method.step([next(noisy)], next(trusted) if method.uses_trusted else None)

    return step


def _measure(
    steps: dict[str, Callable[[], object]], options: StepOptions, device: torch.device
) -> dict[str, list[float]]:
    names = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    # Such steps are shorter than the turns that processes take on a busy machine.
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for name in names:
        mean_seconds(steps[name], _WARM_UP_STEPS, device)
    order = generator(options.seed, RandomStream.TIMING_ORDER)
    for _ in range(options.repetitions):
        for index in order.permutation(len(names)):
            seconds[names[index]].append(mean_seconds(steps[names[index]], _STEPS, device, clock))
    return seconds


def _record(name: str, seconds: NDArray[np.float64], erm: NDArray[np.float64], threads: int) -> FeatureRecord:
    lower, ratio, upper = np.quantile(seconds / erm, [0.25, 0.5, 0.75]).tolist()
    return FeatureRecord(
        method=name,
        seconds_per_step=float(np.median(seconds)),
        ratio_to_erm=ratio,
        ratio_spread=(lower, upper),
        seconds=seconds.tolist(),
        threads=threads,
    )


def feature_table(records: Sequence[FeatureRecord], hardware: str, options: StepOptions) -> Table:
    """Return the measurements as a table to print."""
    n, m, classes = options.noisy_batch[0], options.trusted_batch[0], options.classes[0]
    title = f"{SHAPE[0]:,} x {SHAPE[1]} features, {n} noisy + {m} trusted, {classes} classes; {hardware}"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("step", "ms/step", "x ERM", "quartiles", "s/epoch"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for r in records:
        epoch = r.seconds_per_step * SHAPE[0] / n
        figures = (1e3 * r.seconds_per_step, r.ratio_to_erm)
        quartiles = "-".join(f"{quartile:.2f}" for quartile in r.ratio_spread)
        table.add_row(r.method, *(f"{figure:.2f}" for figure in figures), quartiles, f"{epoch:.1f}")
    return table
