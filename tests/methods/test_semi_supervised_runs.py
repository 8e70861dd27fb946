"""Runs of the methods that train two networks without trusted samples."""

import pytest
import torch
from short_runs import trained

import tiny

KINDS = ["dividemix", "elr-plus", "augdesc"]
"""c2d is dividemix, but for its gradients in the warm-up and what it starts from."""


@pytest.mark.parametrize(("name", "image"), [("dividemix", True), ("elr-plus", False), ("augdesc", True)])
def test_an_interrupted_run_ends_with_the_same_bits(name, image, tmp_path):
    settings = {"method": name, "epochs": 3, "width": 2, "checkpoint_every": 1, "image": image}
    if name != "elr-plus":
        settings |= {"warm_up_epochs": 1, "hyper": {"averaged_epochs": 2}}
    method, history = trained(tmp_path / "whole", **settings)
    for steps in (6, 2):  # in the second epoch, and at its end
        trained(tmp_path / "parts", interrupted_after=steps, **settings)
    resumed, its_history = trained(tmp_path / "parts", **settings)
    for network in method.networks():
        weights = (m.networks()[network].state_dict() for m in (method, resumed))
        assert tiny.same_tensors(*weights), network
    for name, table in method.sample_state().items():
        torch.testing.assert_close(resumed.sample_state()[name], table, rtol=0, atol=0, equal_nan=True)
    for row, other in zip(history, its_history, strict=True):
        assert row | {"seconds": 0} == other | {"seconds": 0}


@pytest.mark.parametrize("name", KINDS)
def test_it_tells_wrong_labels_and_corrects_them(name, tmp_path):
    changes = {"method": name, "epochs": 9, "width": 16, "learning_rate": 0.02}
    if name != "elr-plus":
        changes |= {"warm_up_epochs": 3}
    method, history = trained(tmp_path, **changes)
    assert history[-1]["wrong_label_recovery"] > 60
    assert history[-1]["label_recovery"] > 80  # 71 of the given labels are right
    soft_labels, weights = method.estimate()
    torch.testing.assert_close(soft_labels.sum(dim=1), torch.ones(len(soft_labels)))
    if weights is not None:
        assert history[-1]["retain_weight_wrong"] < 0.3 < 0.8 < history[-1]["retain_weight_right"]
