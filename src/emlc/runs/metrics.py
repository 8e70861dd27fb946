"""The metrics of an epoch: accuracies and label recovery."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emlc.config import Settings
from emlc.data import Samples, Split
from emlc.data.classes import UNKNOWN
from emlc.labels.quality import IssueCounts
from emlc.methods.base import Method, NoisyEstimate
from emlc.networks.inference import correct, predict_proba
from emlc.runtime.distributed import Ranks


def accuracy(probabilities: Tensor, labels: NDArray[np.int64]) -> float:
    """Compute the share of samples, in per cent, whose most probable class is the label.

    Args:
        probabilities: (n, C).
        labels: (n,) int64.
    """
    return 100 * float((probabilities.argmax(dim=1).numpy() == labels).mean())


def cross_entropy(probabilities: Tensor, labels: NDArray[np.int64]) -> float:
    """Compute the mean negative log-probability of the labels (n,) from probabilities (n, C), in nats."""
    p_label = probabilities[torch.arange(len(labels)), torch.from_numpy(labels)]
    return -p_label.clamp_min(1e-12).log().mean().item()


def has_noisy_test(settings: Settings, split: Split) -> bool:
    """Return whether a test set was drawn from data without true labels: its labels are as noisy as all."""
    is_drawn = split.test is not None and settings.test_fraction is not None
    return is_drawn and split.noisy.true_labels is None


def best_candidate(method: Method, split: Split, ranks: Ranks | None = None) -> nn.Module:
    """Return the method's candidate with the best accuracy on the validation set, or else the trusted set.

    Ties go to the lower cross-entropy, and then to the first.
    """
    candidates = method.candidates()
    if len(candidates) == 1:
        return candidates[0]
    samples = split.trusted if split.validation is None else split.validation
    predictions = [predict_proba(each, samples.inputs, ranks) for each in candidates]
    scores = [(accuracy(p, samples.given), -cross_entropy(p, samples.given)) for p in predictions]
    return candidates[scores.index(max(scores))]


def epoch_metrics(
    method: Method, estimate: NoisyEstimate, split: Split, ranks: Ranks | None = None
) -> dict[str, float]:
    """Compute the metrics of an epoch; metrics whose data is missing are left out.

    Accuracies and recoveries are in per cent. The model choice uses ``choice_accuracy`` and ``choice_loss``,
    on the validation set or without one on the trusted set. Test metrics are recorded but never used.
    """
    metrics: dict[str, float] = {}
    result = best_candidate(method, split, ranks)
    for name, samples in (("trusted", split.trusted), ("validation", split.validation), ("test", split.test)):
        if samples is None:
            continue
        probabilities = predict_proba(result, samples.inputs, ranks)
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
        # The teacher's own prediction depends on the sample alone, not on the given label.
        prediction = correct(teacher, split.test.inputs, split.test.given, ranks).prediction
        metrics["teacher_test_accuracy"] = accuracy(prediction, split.test.given)
    if split.noisy.true_labels is not None:
        correction = correct(teacher, split.noisy.inputs, split.noisy.given, ranks)
        metrics |= recovery_metrics(correction.soft_labels, correction.retain_weight, split.noisy)
    return metrics


def recovery_metrics(soft_labels: Tensor | None, weights: Tensor | None, noisy: Samples) -> dict[str, float]:
    """Measure how well the labels are recovered, where the true labels are known (paper, Fig. 1 and 8).

    Args:
        soft_labels: (n, C) corrected soft labels, if there are any.
        weights: (n,) weights of the given labels in [0, 1], if there are any.
        noisy: The n noisy samples.

    Returns:
        label_recovery and wrong_label_recovery in per cent, mean retain_weight_wrong and retain_weight_right
        in [0, 1]; those without data are left out.
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
        known_weights = weights.numpy()[known]
        for name, mask in (("wrong", given != truth), ("right", given == truth)):
            if mask.any():
                metrics[f"retain_weight_{name}"] = float(known_weights[mask].mean())
    return metrics
