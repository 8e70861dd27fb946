"""Methods trained on small samples by the real loop, also when it is interrupted."""

import pytest
import torch

import tiny
from emlc.methods import METHODS
from emlc.runs.checkpoint import Progress
from emlc.runs.fit import fit


class Silent:
    def on_start(self, progress: Progress, steps_per_epoch: int) -> None: ...
    def on_step(self, progress: Progress) -> None: ...
    def on_note(self, note: str) -> None: ...
    def on_epoch(self, progress: Progress) -> None: ...


def trained(folder, *, image=False, interrupted_after=None, **changes):
    """A method after training, and the metrics of its epochs; or None, if it was stopped after some steps."""
    settings = tiny.settings(**changes)
    split = tiny.split(settings, image=image)
    torch.manual_seed(settings.seed)
    method = METHODS[settings.method](settings, split.noisy.inputs, 3)
    method.load_initial_weights()
    if interrupted_after is None:
        return method, fit(method, split, settings, Silent(), folder, tiny.ALONE).history
    step, taken = method.step, 0

    def interrupted(*arguments):
        nonlocal taken
        if taken == interrupted_after:
            raise tiny.InterruptedRun
        taken += 1
        return step(*arguments)

    method.step = interrupted
    with pytest.raises(tiny.InterruptedRun):
        fit(method, split, settings, Silent(), folder, tiny.ALONE)
    return None
