"""The stages of methods that correct a table of labels: as given, corrected, final."""

import pytest
from short_runs import trained

import tiny
from emlc.methods.stages import Stages


@pytest.mark.parametrize(("name", "rate"), [("pencil", 0.2 / 0.06), ("joint-optim", 0.2 / 0.08)])
def test_the_last_stage_has_a_learning_rate_of_its_own(name, rate, tmp_path):
    _, history = trained(tmp_path, name, schedule="constant")
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.1 * rate])
    assert [row["warm_up"] for row in history] == [1, 0, 0]


def test_a_short_run_has_an_epoch_of_correction():
    for epochs, warm_up, share, expected in (
        (320, 70, 120 / 320, (70, 200)),
        (2, 1, 0.375, (1, 2)),
        (1, 0, 0.9, (0, 1)),
        (10, 8, 0.5, (8, 9)),
        (10, 2, 0.0, (2, 10)),
    ):
        settings = tiny.settings(method="pencil", epochs=epochs, warm_up_epochs=warm_up)
        assert Stages.of(settings, share) == expected
