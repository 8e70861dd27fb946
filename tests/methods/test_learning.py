"""Methods that correct or weigh labels do so on small samples, a third of which are labelled wrongly."""

import pytest
from short_runs import trained


@pytest.mark.parametrize("name", ["pencil", "joint-optim", "mslg", "famus", "smp"])
def test_it_learns(name, tmp_path):
    _, history = trained(tmp_path, name, epochs=12, warm_up_epochs=4)
    assert history[-1]["trusted_accuracy"] > 60


@pytest.mark.parametrize("name", ["dividemix", "elr-plus", "augdesc"])
def test_it_tells_wrong_labels_and_corrects_them(name, tmp_path):
    """c2d is dividemix, but for its gradients in the warm-up and what it starts from."""
    changes = {"epochs": 9, "warm_up_epochs": 3, "width": 16, "learning_rate": 0.02, "hyper": None}
    method, history = trained(tmp_path, name, **changes)
    assert history[-1]["wrong_label_recovery"] > 60
    assert history[-1]["label_recovery"] > 80  # 71 of the given labels are right
    if method.estimate().weights is not None:
        assert history[-1]["retain_weight_wrong"] < 0.3 < 0.8 < history[-1]["retain_weight_right"]
