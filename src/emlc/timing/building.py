"""Build the method of a case, ready for the first step that is measured."""

from typing import Any

import torch

from emlc.config import Settings
from emlc.config.presets import preset_path
from emlc.data.loaders import Batch
from emlc.methods.base import Method
from emlc.methods.cross_entropy import CrossEntropy
from emlc.methods.emlc import EMLC
from emlc.methods.mlc import MLC
from emlc.networks.standardize import Standardize
from emlc.runtime.distributed import Ranks
from emlc.runtime.files import read_yaml
from emlc.runtime.streams import RandomStream, seed_torch
from emlc.timing.authors import AUTHORS_PRESET, AuthorsEMLC
from emlc.timing.cases import Case, Group
from emlc.timing.mlc import PrunedMLC
from emlc.timing.options import EMLC_METHODS, MethodName, StepOptions
from emlc.timing.plain import PlainEMLC

_METHODS: dict[MethodName, tuple[type[Method], str]] = {
    "cross-entropy": (CrossEntropy, "cross-entropy"),
    "emlc": (EMLC, "emlc"),
    "mlc": (MLC, "mlc"),
    "mlc-pruned": (PrunedMLC, "mlc"),
    "emlc-plain": (PlainEMLC, "emlc"),
    "emlc-authors": (AuthorsEMLC, "emlc"),
}
"""Measured method -> its class, and the method whose settings and hyper-parameters it takes."""

_FROM_PRESET = {
    *("label_embedding_dim", "gate_hidden_dim", "teacher", "meta_weight", "ce_weight", "bce_weight"),
    *("corruption", "student_trusted", "learning_rate", "momentum", "teacher_momentum"),
    *("weight_decay", "teacher_weight_decay"),
}
"""Settings on which the time of a step of emlc may depend, without those that a case has."""


def build_method(case: Case, group: Group, options: StepOptions, ranks: Ranks, batch: Batch) -> Method:
    """Build the method of a case, ready for its first step.

    Args:
        case: A case of any method but data.
        group: The network and the sizes of its batches.
        options: Options of the benchmark, of which preset, device and seed are used.
        ranks: A single process with the case's precision.
        batch: Images of the shape and type that the method will be trained on.
    """
    method_class, method_name = _METHODS[case.method]
    settings = Settings(
        **_of_preset(case.method, options),
        backbone=group.network,
        method=method_name,
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
    method = method_class(settings, batch.inputs.cpu(), group.classes)
    method.setup(ranks)
    if case.memory_format == "contiguous":
        _use_contiguous(method)
    if ranks.device.type == "cuda" and not isinstance(method, PlainEMLC):
        # As in the training loop: a captured step reads its learning rate from a tensor on the device.
        for parameters in method.student_sgd.param_groups:
            parameters["lr"] = torch.tensor(parameters["lr"], device=ranks.device)
    method.train_mode()
    return method


def teacher_of(method: MethodName, options: StepOptions) -> str | None:
    """Return the kind of teacher that a method is measured with, gate or noise-aware; None if it has none."""
    return Settings(**_of_preset(method, options)).teacher if method in EMLC_METHODS else None


def _of_preset(method: MethodName, options: StepOptions) -> dict[str, Any]:
    name = AUTHORS_PRESET if method == "emlc-authors" else options.preset
    if name is None or method not in EMLC_METHODS:
        return {}
    values = read_yaml(preset_path(name, "train"))
    return {key: value for key, value in values.items() if key in _FROM_PRESET}


def _use_contiguous(method: Method) -> None:
    for network in method.networks().values():
        network.to(memory_format=torch.contiguous_format)
        for module in network.modules():
            if isinstance(module, Standardize):
                module.memory_format = torch.contiguous_format
