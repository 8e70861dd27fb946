"""What is shown while a run is trained."""

import io

import pytest
from rich.console import Console

from emlc.runs.checkpoint import Progress
from emlc.runs.reporters import ConsoleReporter

STEPS = 100


@pytest.fixture
def reporter():
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    reporter = ConsoleReporter("emlc", 16, 2, console)
    yield reporter
    reporter.close()


def text_of(means):
    return " ".join(f"{name} {mean:.3f}" for name, mean in means.items())


@pytest.mark.parametrize("read_every", [1, 20])
def test_the_bar_shows_the_means_of_the_losses_that_have_been_read(reporter, monkeypatch, read_every):
    progress, taken = Progress(), []
    means = Progress.mean_losses
    monkeypatch.setattr(Progress, "mean_losses", lambda self: taken.append(self.steps) or means(self))
    reporter.on_start(progress, STEPS)
    for step in range(1, 2 * STEPS + 1):
        progress.steps, progress.epoch_steps = step, (step - 1) % STEPS + 1
        if step % read_every == 0:
            progress.losses.setdefault("loss", []).extend(map(float, range(step - read_every, step)))
        reporter.on_step(progress)
        (shown,) = reporter._bar.tasks
        assert (shown.completed, shown.fields["losses"]) == (step, text_of(means(progress)))
        progress.epoch = step // STEPS
    # Once per reading, and at the start of an epoch: the sums are over all its steps.
    assert len(taken) <= 2 * STEPS / read_every + 2
