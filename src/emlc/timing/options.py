"""Options of `emlc bench step`, without torch, so that `--help` does not wait for it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

from emlc.config import Precision
from emlc.config.presets import preset_path
from emlc.errors import raise_together

MethodName = Literal["cross-entropy", "mlc", "mlc-pruned", "emlc", "emlc-plain", "emlc-authors", "data"]
EMLC_METHODS: tuple[MethodName, ...] = ("emlc", "emlc-plain", "emlc-authors")
"""Methods with look-ahead steps and Jacobian-vector products."""

EngineName = Literal["finite-difference", "forward", "double-backward"]
MetaGradientName = Literal["approximate", "exact"]
MemoryFormat = Literal["channels_last", "contiguous"]


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Which steps are measured, and how often: all valid combinations of the values in the lists.

    Attributes:
        features: Measure plain training, emlc with either teacher, and fasten on 49,900 x 256 random features
            with the default network, loading included, in place of all below but the batches (the first of
            each), classes, device, repetitions, seed and output.
        networks: Backbones, as for ``emlc train``.
        methods: Any of cross-entropy (plain training, the unit of all ratios; always measured), mlc,
            mlc-pruned (mlc without a gradient that it does not use for k = 1), emlc, emlc-plain (the
            straightforward implementation: float32, channels first, torch's forward-mode AD, no CUDA graph),
            emlc-authors (the same with the settings of the authors' code, and one pass of the teacher over
            noisy and trusted images; compare it with emlc by preset cifar10-authors-head), and data (loading
            and augmenting alone). emlc-plain and emlc-authors are measured once per k, whatever precisions,
            memory_formats, engines, meta_gradients and captured are.
        preset: Preset of ``emlc train`` from which emlc takes its teacher, losses and optimisers, in place of
            the defaults.
        look_ahead: Student steps per teacher step of emlc, k.
        engines: Engines for emlc's Jacobian-vector products: any of finite-difference (in float32, on GPUs
            only without TF32), forward, double-backward.
        meta_gradients: Any of approximate and exact (not by finite differences).
        precisions: Any of float32 and bf16-mixed.
        memory_formats: Any of channels_last, which emlc trains with, and contiguous (channels first).
        captured: Whether steps on a GPU are captured as CUDA graphs: true, false or both. A captured step is
            compared with a captured step of plain training.
        noisy_batch: Noisy images per student step.
        trusted_batch: Trusted images per teacher step.
        classes: Numbers of classes.
        image_size: Height and width of the colour images, in pixels.
        device: auto | cpu | cuda | cuda:N.
        repetitions: Number of rounds; each runs every case once.
        seed: Seed of the images, the weights and the order within the rounds.
        output: File for the measurements (.json).
        plot: File for a plot of them (.png).
    """

    features: bool = False
    networks: list[str] = field(default_factory=lambda: ["resnet18"])
    methods: list[MethodName] = field(default_factory=lambda: list(get_args(MethodName)))
    preset: str | None = None
    look_ahead: list[int] = field(default_factory=lambda: [1, 5])
    engines: list[EngineName] = field(default_factory=lambda: list(get_args(EngineName)))
    meta_gradients: list[MetaGradientName] = field(default_factory=lambda: list(get_args(MetaGradientName)))
    precisions: list[Precision] = field(default_factory=lambda: list(get_args(Precision)))
    memory_formats: list[MemoryFormat] = field(default_factory=lambda: list(get_args(MemoryFormat)))
    noisy_batch: list[int] = field(default_factory=lambda: [128])
    trusted_batch: list[int] = field(default_factory=lambda: [32])
    classes: list[int] = field(default_factory=lambda: [10])
    captured: Literal["true", "false", "both"] = "both"
    image_size: int = 32
    device: str = "auto"
    repetitions: int = 7
    seed: int = 0
    output: str = "bench.json"
    plot: str | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: Values are out of range; lists every such option.
        """
        raise_together(list(_problems(self)), "the options")


def _problems(o: StepOptions) -> Iterator[str]:
    if o.features:
        yield from _idle(o)
    if o.preset is not None:
        preset_path(o.preset, "train")
    for name in _LISTS:
        values = getattr(o, name)
        if not values:
            yield f"{name}: expected at least one"
        if len(set(values)) < len(values):
            yield f"{name}: expected each once, got {values}"
    for name, least in _LEAST.items():
        value = getattr(o, name)
        for number in value if isinstance(value, list) else [value]:
            if number < least:
                yield f"{name}: expected at least {least}, got {number}"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", o.device):
        yield f"device: expected auto, cpu, cuda or cuda:N, got {o.device!r}"
    for name, ending in (("output", ".json"), ("plot", ".png")):
        path = getattr(o, name)
        if path is not None and not path.endswith(ending):
            yield f"{name}: expected a file name that ends in {ending}, got {path!r}"
        elif path is not None and Path(path).is_dir():
            yield f"{name}: {path} is a directory, expected a file"


def _idle(o: StepOptions) -> Iterator[str]:
    """Yield the options that play no part on features, although they were given."""
    used = {"features", "noisy_batch", "trusted_batch", "classes", "device", "repetitions", "seed", "output"}
    defaults = StepOptions()
    for name in (f.name for f in fields(o) if f.name not in used):
        if getattr(o, name) != getattr(defaults, name):
            yield f"{name}: plays no part with --features"


_LISTS = (
    *("networks", "methods", "look_ahead", "engines", "meta_gradients", "precisions", "memory_formats"),
    *("noisy_batch", "trusted_batch", "classes"),
)
_LEAST = {
    "look_ahead": 1,
    "noisy_batch": 2,
    "trusted_batch": 4,  # mlc splits it in halves, and batch norm needs two samples in each
    "classes": 2,
    "image_size": 1,
    "repetitions": 1,
    "seed": 0,
}
