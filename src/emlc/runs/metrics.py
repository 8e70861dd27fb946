"""The figures that are followed during training: accuracies and label recovery."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emlc.data import Samples, Split
from emlc.data.classes import UNKNOWN
from emlc.labels.quality import IssueCounts
from emlc.methods.base import Method, NoisyEstimate
from emlc.networks.inference import correct, predict_proba
from emlc.runtime.distributed import Ranks


def accuracy(probabilities: Tensor, labels: NDArray[np.int64]) -> float:
    """Share of samples, in per cent, whose most probable class is the label."""
    return 100 * float((probabilities.argmax(dim=1).numpy() == labels).mean())


def cross_entropy(probabilities: Tensor, labels: NDArray[np.int64]) -> float:
    """Mean negative log-probability of the labels, in nats."""
    chosen = probabilities[torch.arange(len(labels)), torch.from_numpy(labels)]
    return -chosen.clamp_min(1e-12).log().mean().item()


def epoch_metrics(
    method: Method, estimate: NoisyEstimate, split: Split, ranks: Ranks | None = None
) -> dict[str, float]:
    """The metrics of a moment in training; keys whose data is missing are absent.

    Accuracies and recoveries are in per cent. ``choice_accuracy`` and ``choice_loss``, on the
    validation set or without one on the trusted set, are what the model choice looks at. Test
    figures are for the record only.
    """
    metrics: dict[str, float] = {}
    for name, samples in (("trusted", split.trusted), ("validation", split.validation), ("test", split.test)):
        if samples is None:
            continue
        probabilities = predict_proba(method.student, samples.inputs, ranks)
        metrics[f"{name}_accuracy"] = accuracy(probabilities, samples.given)
        if name != "test":
            metrics["choice_accuracy"] = metrics[f"{name}_accuracy"]
            metrics["choice_loss"] = cross_entropy(probabilities, samples.given)
    teacher = method.networks().get("teacher")
    if teacher is not None and not method.warming_up:
        metrics |= _teacher_metrics(teacher, split, ranks)
    return metrics | recovery_metrics(estimate.soft_labels, estimate.weights, split.noisy)


def _teacher_metrics(teacher: nn.Module, split: Split, ranks: Ranks | None) -> dict[str, float]:
    metrics: dict[str, float] = {}
    if split.test is not None:
        # The teacher's own prediction looks at the sample alone: the label it is given does not matter.
        prediction = correct(teacher, split.test.inputs, split.test.given, ranks).prediction
        metrics["teacher_test_accuracy"] = accuracy(prediction, split.test.given)
    if split.noisy.true_labels is not None:
        correction = correct(teacher, split.noisy.inputs, split.noisy.given, ranks)
        metrics |= recovery_metrics(correction.soft_labels, correction.retain_weight, split.noisy)
    return metrics


def recovery_metrics(soft_labels: Tensor | None, weights: Tensor | None, noisy: Samples) -> dict[str, float]:
    """How well the labels were recovered, where the truth is known (paper, Fig. 1 and 8).

    Args:
        soft_labels: (n, C) what is taken for the labels, if they are corrected.
        weights: (n,) how far the given labels are believed, if they are weighed.
        noisy: The n samples.
    """
    known = np.zeros(0) if noisy.true_labels is None else noisy.true_labels != UNKNOWN
    if noisy.true_labels is None or not known.any():
        return {}
    metrics: dict[str, float] = {}
    given, truth = noisy.given[known], noisy.true_labels[known]
    if soft_labels is not None:
        counts = IssueCounts.of(given, truth, soft_labels.argmax(dim=1).numpy()[known])
        for name, share in (("label", counts.recovery), ("wrong_label", counts.wrong_recovery)):
            if share is not None:
                metrics[f"{name}_recovery"] = 100 * share
    if weights is not None:
        of_known = weights.numpy()[known]
        for name, these in (("wrong", given != truth), ("right", given == truth)):
            if these.any():
                metrics[f"retain_weight_{name}"] = float(of_known[these].mean())
    return metrics
