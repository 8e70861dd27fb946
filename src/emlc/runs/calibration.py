"""The calibration of a run's decision when a label counts as wrong."""

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from emlc.data import Samples, Split
from emlc.data.classes import UNKNOWN
from emlc.data.images.stored import Inputs
from emlc.data.reviewed import counts_as_random
from emlc.errors import InputError
from emlc.labels.decision import LEAST, Decision
from emlc.labels.evidence import CheckedLabels, decide
from emlc.networks.backbones import build_backbone
from emlc.networks.inference import predict_both, predict_proba, represent
from emlc.networks.initial_weights import load_initial_weights
from emlc.runs.checkpoint import INITIAL
from emlc.runtime.distributed import Ranks
from emlc.runtime.streams import RandomStream, generator, seed_torch
from emlc.runtime.tensors import load_tensors

if TYPE_CHECKING:
    from emlc.runs.run import Run

_MOST_SAMPLES = 10_000
"""Maximum number of trusted, and of noisy, samples for the decision; of more, so many are drawn."""
_MOST_CELLS = 2**26
"""Maximum number of features of these samples, unless they are 1,000 or fewer; 512 MiB of float64."""


def calibrate(run: "Run", split: Split, ranks: Ranks | None) -> Decision:
    """Calibrate the decision of a run on its samples: see :meth:`emlc.Run.decide`."""
    teacher = run.require_teacher()
    validation = validation_of_decision(split)
    role = "trusted" if validation is None else "validation"
    trusted = _few(run, split.trusted if validation is None else validation)
    noisy = _few(run, split.noisy, is_noisy=True)
    predicted, known = (
        predict_both(run.student, teacher, each.inputs, each.given, ranks).prediction()
        for each in (noisy, trusted)
    )
    if role == "validation":
        features = [np.log(np.maximum(each, LEAST)) for each in (known, predicted)]
    else:
        features = _features_before_training(run, [trusted, noisy], ranks)
    return decide(
        predicted,
        noisy.given,
        features[0],
        trusted.given,
        features[1],
        calibrated_on=role,
        transition=None if run.transition is None else run.transition.to_numpy(np.float64),
        reviewed=split.trusted.counts_before() * len(noisy) / len(split.noisy),
        checked=_checked_labels(run, split.trusted, ranks),
    )


def validation_of_decision(split: Split) -> Samples | None:
    """Return the validation samples, by which the decision is calibrated, if there are two of each class."""
    validation, C = split.validation, len(split.classes)
    if validation is None or np.bincount(validation.given, minlength=C).min() < 2:
        return None
    return validation


def _checked_labels(run: "Run", trusted: Samples, ranks: Ranks | None) -> CheckedLabels | None:
    """Collect the trusted samples that were drawn at random from the noisy ones, if there are any."""
    is_drawn, chosen = trusted.given_before != UNKNOWN, trusted.chosen_for_review
    if chosen is not None:
        is_drawn &= counts_as_random(chosen)
    if not is_drawn.any():
        return None
    samples = _few(run, trusted.take(is_drawn))
    # The student learns from them through the meta-gradient alone; the teacher knows them by heart.
    prediction = predict_proba(run.student, samples.inputs, ranks).double().numpy()
    return CheckedLabels(prediction, samples.given_before, samples.given)


def _few(run: "Run", samples: Samples, *, is_noisy: bool = False) -> Samples:
    width = samples.inputs.shape[1] if samples.inputs.ndim == 2 else 1
    most = min(_MOST_SAMPLES, max(1_000, _MOST_CELLS // width))
    if len(samples) <= most:
        return samples
    rng = generator(run.settings.seed, RandomStream.DECISION_SAMPLES, int(is_noisy))
    return samples.take(np.sort(rng.choice(len(samples), most, replace=False)))


def _features_before_training(
    run: "Run", sets: list[Samples], ranks: Ranks | None
) -> list[NDArray[np.float64]]:
    if sets[0].inputs.ndim == 2:
        return [run.reduced(samples.inputs, ranks) for samples in sets]
    backbone = _initial_backbone(run, sets[-1].inputs)
    return [represent(backbone, samples.inputs, ranks).double().numpy() for samples in sets]


def _initial_backbone(run: "Run", inputs: Inputs) -> nn.Module:
    """Return the student's backbone with its initial weights: those that the run has kept, if it has."""
    path = run.folder / INITIAL / "student.safetensors"
    if path.exists():
        backbone = deepcopy(run.student.get_submodule("backbone"))
        try:
            backbone.load_state_dict(load_tensors(path))
        except Exception as error:
            raise InputError(f"{path}: not the initial weights of this student: {error}") from error
        return backbone
    s = run.settings
    with torch.random.fork_rng(devices=[]):
        seed_torch(s.seed, RandomStream.INITIAL_WEIGHTS)
        classes = len(run.schema.classes)
        backbone, _ = build_backbone(s.backbone, inputs, s.width, stem=s.stem, num_classes=classes)
    load_initial_weights(backbone, s.init, s.backbone)
    return backbone.to(next(run.student.parameters()).device)
