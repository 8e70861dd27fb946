"""Meta-learning methods that stop in the middle of an epoch and go on end with the same bits."""

from unittest.mock import MagicMock

import pytest
import torch
from safetensors.torch import load_file

import tiny
from emlc.fit import fit
from emlc.methods import METHODS

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
    return fit(method, split, settings, MagicMock(), folder, tiny.ALONE)


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
