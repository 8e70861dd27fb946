"""The steps that a benchmark measures, and the plain steps they are compared with."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from emlc.config import Precision
from emlc.errors import InputError
from emlc.timing.options import (
    EMLC_METHODS,
    EngineName,
    MemoryFormat,
    MetaGradientName,
    MethodName,
    StepOptions,
)


@dataclass(frozen=True)
class Group:
    """What cases that take turns have in common: the network and the sizes of its batches."""

    network: str
    noisy_batch: int
    trusted_batch: int
    classes: int


@dataclass(frozen=True)
class Case:
    """A kind of training step to measure.

    Attributes:
        method: Name of the method, as on the command line.
        precision: float32 or bf16-mixed.
        memory_format: Memory format of images and weights.
        captured: Whether the step is captured and replayed as a CUDA graph.
        k: Student steps per teacher step.
        engine: Engine for Jacobian-vector products; None for methods that take none.
        meta_gradient: approximate or exact for emlc, else None.
    """

    method: MethodName
    precision: Precision
    memory_format: MemoryFormat
    captured: bool
    k: int = 1
    engine: EngineName | None = None
    meta_gradient: MetaGradientName | None = None

    @property
    def erm(self) -> "Case":
        """The step of plain training that this one is compared with."""
        return Case("cross-entropy", self.precision, self.memory_format, self.captured)

    @property
    def plain(self) -> "Case":
        """The straightforward EMLC step of the same k: float32, torch's forward-mode AD, not captured."""
        return Case("emlc-plain", "float32", "contiguous", False, self.k, "forward", "approximate")

    @property
    def authors(self) -> "Case":
        """The authors' step of the same k, computed as :attr:`plain`."""
        return replace(self.plain, method="emlc-authors")

    @property
    def name(self) -> str:
        """A name to display, unique within the group."""
        emlc = self.method in EMLC_METHODS
        parts = [self.method, f"k={self.k}" if emlc else None]
        parts += [self.meta_gradient, self.engine if emlc else None]
        parts += [self.precision, self.memory_format, "captured" if self.captured else None]
        return " ".join(part for part in parts if part is not None)


def make_groups(options: StepOptions) -> list[Group]:
    """Return every combination of network, batch sizes and number of classes."""
    o = options
    return [Group(*each) for each in itertools.product(o.networks, o.noisy_batch, o.trusted_batch, o.classes)]


def make_cases(options: StepOptions, *, cuda: bool, tf32: bool) -> list[Case]:
    """Return every valid combination of the other options, with the plain steps they are compared with.

    emlc-plain and emlc-authors have a precision, a memory format and an engine of their own. Where they are
    asked for, each comes once per number of look-ahead steps, whatever the options say of these.

    Args:
        options: The options of the benchmark.
        cuda: Whether the device can replay CUDA graphs.
        tf32: Whether the device rounds float32 products to TF32, too coarse for finite differences.

    Raises:
        InputError: No combination is valid, or captured steps are asked of a device that has none.
    """
    if options.captured == "true" and not cuda:
        raise InputError("captured: CUDA graphs need a CUDA device")
    captured = {"true": [True], "false": [False], "both": [False, True]}[options.captured]
    cases = [
        case
        for precision, memory_format, replay in itertools.product(
            options.precisions, options.memory_formats, captured
        )
        for case in _methods(options, precision, memory_format, replay, tf32)
        if cuda or not case.captured
    ]
    cases += _in_their_own_way(options)
    if not cases:
        raise InputError(_nothing_left(options))
    return list(dict.fromkeys(each for case in cases for each in (case.erm, case)))


def _methods(
    options: StepOptions, precision: Precision, memory_format: MemoryFormat, captured: bool, tf32: bool
) -> Iterator[Case]:
    for method in options.methods:
        if method == "emlc":
            for k, engine, kind in itertools.product(
                options.look_ahead, options.engines, options.meta_gradients
            ):
                reduced = precision != "float32" or tf32
                if engine == "finite-difference" and (reduced or kind == "exact"):
                    continue
                yield Case(method, precision, memory_format, captured, k, engine, kind)
        elif method in ("mlc", "mlc-pruned"):
            yield Case(method, precision, memory_format, captured, engine="double-backward")
        elif method == "cross-entropy" or (method == "data" and not captured):
            yield Case(method, precision, memory_format, captured)


def _in_their_own_way(options: StepOptions) -> Iterator[Case]:
    for method, k in itertools.product(options.methods, options.look_ahead):
        plain = Case("emlc", "float32", "contiguous", False, k).plain
        if method == "emlc-plain":
            yield plain
        elif method == "emlc-authors":
            yield plain.authors


def left_out(options: StepOptions, cases: Sequence[Case]) -> list[MethodName]:
    """Return the methods that were asked for and of which the options leave no case."""
    measured = {case.method for case in cases}
    return [method for method in options.methods if method not in measured]


def _nothing_left(options: StepOptions) -> str:
    if options.captured == "true" and options.methods == ["data"]:
        return "captured and methods: loading data is never captured"
    return (
        "engines, meta_gradients and precisions: nothing to measure is left, as finite-difference goes with "
        "float32 (on GPUs without TF32) and the approximate meta-gradient only"
    )
