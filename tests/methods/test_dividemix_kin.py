"""What C2D and AugDesc change in DivideMix."""

from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from test_dividemix import DECAY, ETA, N, batch, prepared, slow_loss

import tiny
from emlc.methods.augdesc import AugDesc
from emlc.methods.c2d import C2D
from references import flat, relative_error


@pytest.fixture
def init(tmp_path):
    """A file with weights for the backbones of the small settings."""
    method = prepared()
    method.student.float()
    path = tmp_path / "backbone.safetensors"
    save_file(method.student.one.backbone.state_dict(), path)
    return str(path)


def test_c2d_starts_both_networks_from_them(init):
    method = prepared(C2D, init=init)
    method.load_initial_weights()
    one, other = (network.backbone.state_dict() for network in method.student.both)
    assert tiny.same_tensors(one, other)
    classifiers = [network.classifier.weight for network in method.student.both]
    assert not torch.equal(*classifiers)


@pytest.mark.parametrize("epoch", [0, 1])
def test_c2d_clips_gradients_in_the_warm_up(init, epoch):
    method = prepared(C2D, epoch=epoch, init=init)
    with torch.no_grad():
        for network in method.student.both:
            network.classifier.weight *= 30  # for steep losses
    before = deepcopy(method.student)
    method.step([batch()], None)
    for network, then in zip(method.student.both, before.both, strict=True):
        w = flat(then.parameters()).detach()
        gradient = (w - flat(network.parameters()).detach()) / ETA - DECAY * w  # no momentum yet
        if epoch == 0:
            assert gradient.norm().item() == pytest.approx(1)
        else:
            assert gradient.norm() > 1.5


@pytest.mark.parametrize(
    ("clean", "labelled"), [([0.1, 0.4, 0.3], 1), ([0.6, 0.9, 0.8], 2), ([0.2, 0.7, 0.6], 2)]
)
def test_c2d_has_a_sample_of_either_side(init, clean, labelled):
    """Its threshold of 0.5 gives way where all probabilities are on one side of it."""
    method = prepared(C2D, init=init)
    clean = torch.tensor(clean)
    assert int((clean > method.threshold_of(clean)).sum()) == labelled
    is_above = [c > min(max(0.5, min(clean) + 1e-5), max(clean) - 1e-5) for c in clean]
    assert (clean > method.threshold_of(clean)).tolist() == is_above


def test_augdesc_guesses_on_weak_views_and_learns_on_strong_ones():
    method = prepared(AugDesc)
    noisy, start = batch(views=4), flat(method.student.parameters()).detach()
    pair = deepcopy(method.student)
    lambda_u = float(method.unlabelled_weight)
    assert lambda_u > 0
    torch.manual_seed(7)
    for network, other, judge in ((pair.one, pair.other, 1), (pair.other, pair.one, 0)):
        w = method._clean[:, judge]
        share = float((w > 0.5).double().mean())
        loss = slow_loss(
            network, other, w[:N], share, noisy, lambda_u, method.hyper, guess=(0, 1), learn=(2, 3)
        )
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for p, g in zip(network.parameters(), gradients, strict=True):
                p -= ETA * (g + DECAY * p)
    torch.manual_seed(7)
    method.step([noisy], None)
    change = flat(method.student.parameters()) - start
    assert relative_error(change, flat(pair.parameters()) - start) <= 1e-6


@pytest.mark.parametrize("strong", [False, True])
def test_augdesc_warms_up_on_the_views_asked_for(strong):
    method = prepared(AugDesc, epoch=0, hyper={"strong_warm_up": strong})
    plain = prepared(epoch=0)
    noisy = batch(views=4)
    method.step([noisy], None)
    plain.step([noisy._replace(inputs=torch.cat(noisy.views[2:] if strong else noisy.views[:2]))], None)
    torch.testing.assert_close(flat(method.student.parameters()), flat(plain.student.parameters()))
