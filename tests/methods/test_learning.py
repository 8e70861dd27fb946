"""Methods that correct or weigh labels do so on small samples, a third of which are labelled wrongly."""

from statistics import mean

import pytest
from short_runs import trained

SEEDS = range(5)
"""One run of a few steps says little: what counts is their mean."""


@pytest.mark.parametrize("name", ["pencil", "joint-optim", "mslg", "famus", "smp"])
def test_it_learns(name, tmp_path):
    changes = {"epochs": 24, "warm_up_epochs": 8, "schedule": "constant"}
    last = [trained(tmp_path / str(seed), name, seed=seed, **changes)[1][-1] for seed in SEEDS]
    assert mean(row["trusted_accuracy"] for row in last) > 60


@pytest.mark.parametrize("name", ["dividemix", "elr-plus", "augdesc"])
def test_it_tells_wrong_labels_and_corrects_them(name, tmp_path):
    """c2d is dividemix, but for its gradients in the warm-up and what it starts from."""
    changes = {"epochs": 9, "warm_up_epochs": 3, "width": 16, "learning_rate": 0.02, "hyper": None}
    runs = [trained(tmp_path / str(seed), name, seed=seed, **changes) for seed in SEEDS]
    last = [history[-1] for _, history in runs]
    assert mean(row["wrong_label_recovery"] for row in last) > 60
    assert mean(row["label_recovery"] for row in last) > 80  # 71 of the given labels are right
    if runs[0][0].estimate().weights is not None:
        wrong, right = (mean(row[f"retain_weight_{which}"] for row in last) for which in ("wrong", "right"))
        assert wrong < 0.3 < 0.8 < right
