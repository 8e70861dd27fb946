"""Meta-learning methods in the loop: stopped and gone on, on images, with two classes."""

from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tiny
from emlc.data import Samples, split_samples
from emlc.methods import METHODS
from emlc.runs.fit import fit

OPTIONS = {
    "mlc": {"look_ahead": 2},
    "mw-net": {},
    "mslc": {},
    "mlnt": {"warm_up_epochs": 1, "hyper": {"meta_start": 0, "meta_full": 3, "fake_sets": 2}},
    "fasten": {"hyper": {"threshold": 0.4}},
}
EPOCHS, STOP = 3, 5


def run(settings, split, folder):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(settings.seed)
    method = METHODS[settings.method](settings, split.noisy.inputs, len(split.classes))
    return fit(method, split, settings, MagicMock(), folder, tiny.ALONE).history


@pytest.mark.parametrize("name", OPTIONS)
def test_images_of_two_classes_are_learned_from(name, tmp_path):
    """The last batch is smaller, and a trusted batch may lack a class."""
    options = {"epochs": 2, "warm_up_epochs": 1, "width": 2, "noisy_batch": 16, "trusted_per_class": 2}
    settings = tiny.settings(method=name, **(OPTIONS[name] | options | {"trusted_batch": 4}))
    given = tiny.samples(60, image=True)
    rows = (given.labels != 2) & (given.true_labels != 2)
    labels, truth = given.labels[rows], given.true_labels[rows]
    pair = Samples.from_arrays(given.inputs[torch.from_numpy(rows)], labels, true_labels=truth)
    split = split_samples(pair, settings=settings, seed=0)
    assert len(split.noisy) % 16 > 1
    history = run(settings, split, tmp_path / "run")
    assert len(history) == 2
    assert all(np.isfinite(value) for row in history for value in row.values())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_resumed_run_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    settings = tiny.settings(method=name, epochs=EPOCHS, checkpoint_every=1, **OPTIONS[name])
    split = tiny.split(settings)
    whole = run(settings, split, tmp_path / "whole")
    kind, taken = METHODS[name], 0
    step = kind.step

    def interrupted(self, noisy, trusted):
        nonlocal taken
        taken += 1
        if taken == STOP + 1:
            raise tiny.InterruptedRun
        return step(self, noisy, trusted)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "step", interrupted)
        with pytest.raises(tiny.InterruptedRun):
            run(settings, split, tmp_path / "parts")
    parts = run(settings, split, tmp_path / "parts")
    assert len(parts) == EPOCHS
    for key in ("student_loss", "trusted_accuracy"):
        assert [row[key] for row in parts] == [row[key] for row in whole]
    written = sorted((tmp_path / "whole" / "last").iterdir())
    assert "student.safetensors" in [path.name for path in written]
    for path in written:
        assert tiny.same_tensors(load_file(path), load_file(tmp_path / "parts" / "last" / path.name))
