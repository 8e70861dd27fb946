"""Methods trained on small samples by the real loop, also when it is interrupted."""

import pytest
import torch

import tiny
from emlc.config.methods import method_class
from emlc.data import Samples, split_samples
from emlc.runs.fit import fit
from emlc.runs.reporters import QuietReporter
from emlc.runtime.distributed import start_ranks

SMALL = {
    "emlc": {"look_ahead": 2},
    "mlc": {"look_ahead": 2},
    "mslc": {"hyper": {"averaged_epochs": 2}},
    "mlnt": {"hyper": {"meta_start": 0, "meta_full": 3, "fake_sets": 2}},
    "fasten": {"hyper": {"threshold": 0.4}},
    "dividemix": {"hyper": {"averaged_epochs": 2}},
    "c2d": {"hyper": {"averaged_epochs": 2}},
    "joint-optim": {"hyper": {"retraining_share": 0.34, "averaged_epochs": 2}},
    "pencil": {"hyper": {"final_share": 0.34}},
    "augdesc": {"hyper": {"averaged_epochs": 2}},
    "sanm": {"hyper": {"averaged_epochs": 2, "ramp_epochs": 1.0}},
    "famus": {"hyper": {"meta_learning_rate": 0.01}},
    "mslg": {"hyper": {"label_learning_rate": 60.0}},
    "smp": {"hyper": {"prototypes": 3}},
}
"""Settings with which three epochs see every stage of a method, where the defaults would not do."""


def needs_images(name):
    """Whether a method learns from images alone."""
    return bool(method_class(name).needs_images)


def settings(name, *, image=False, **changes):
    """Settings of three epochs, the first of which warms up, if any does."""
    image = image or needs_images(name)
    warm_up = {"warm_up_epochs": 1} if method_class(name).warms_up else {}
    return tiny.settings(
        image=image, **({"method": name, "epochs": 3} | warm_up | SMALL.get(name, {}) | changes)
    )


def two_classes():
    """Images of two of the three classes."""
    given = tiny.samples(60, image=True)
    rows = (given.labels != 2) & (given.true_labels != 2)
    truth = given.true_labels[rows]
    return Samples.from_arrays(given.inputs[torch.from_numpy(rows)], given.labels[rows], true_labels=truth)


def untrained(name, samples=None, *, initial_seed=0, **changes):
    """A method with random weights, and the samples that it is to be trained on."""
    samples = tiny.samples(image=needs_images(name)) if samples is None else samples
    image = samples.inputs.ndim == 4
    its_settings = settings(name, image=image, **changes)
    split = split_samples(samples, settings=its_settings, seed=its_settings.seed)
    torch.manual_seed(initial_seed)
    return method_class(name)(its_settings, split.noisy.inputs, len(split.classes)), split


def trained(folder, *arguments, precision="float32", interrupted_after=None, **changes):
    """A method after training, and the metrics of its epochs; or None, if it was stopped after some steps."""
    method, split = untrained(*arguments, **changes)
    ranks = start_ranks("cpu", precision)
    if interrupted_after is None:
        return method, fit(method, split, method.settings, QuietReporter(), folder, ranks).history
    step, taken = method.step, 0

    def interrupted(*batches):
        nonlocal taken
        if taken == interrupted_after:
            raise tiny.InterruptedRun
        taken += 1
        return step(*batches)

    method.step = interrupted
    with pytest.raises(tiny.InterruptedRun):
        fit(method, split, method.settings, QuietReporter(), folder, ranks)
    return None
