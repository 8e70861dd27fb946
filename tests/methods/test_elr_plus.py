"""ELR+ beside two steps written out sample by sample."""

import math
from copy import deepcopy

import pytest
import torch
from torch.distributions import Beta

import tiny
from emlc.config.methods import method_class
from emlc.data.loaders import Batch
from references import flat, relative_error

C, N = 3, 8
ETA, DECAY, BETA, LAMBDA = 0.1, 0.01, 0.6, 2.0


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * N, 4, generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(0, C, (N,), generator=generator), 3 + torch.arange(N), N)


def prepared(**hyper):
    torch.manual_seed(0)
    hyper = {"target_momentum": BETA, "regularisation": LAMBDA, **hyper}
    settings = tiny.settings(method="elr-plus", momentum=0.0, weight_decay=DECAY, hyper=hyper)
    split = tiny.split(settings)
    method = method_class("elr-plus")(settings, split.noisy.inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method._targets = method._targets.double()
    method.train_mode()
    return method


@pytest.mark.parametrize("ramp", [0, 4])
def test_two_steps_are_those_written_out(ramp):
    method = prepared(weight_ramp_steps=ramp, weight_momentum=0.7)
    networks, start = deepcopy(method.student), flat(method.student.parameters()).detach()
    averages = deepcopy(networks)
    q = [[[0.0] * C for _ in range(N)] for _ in range(2)]
    for step in range(2):
        noisy = batch(step)
        gamma = 1 - 1 / (step + 2) if ramp == 0 else 0.7 * math.exp(-5 * (1 - (step + 2) / ramp) ** 2)
        gamma = min(gamma, 0.7)
        torch.manual_seed(step)
        for i, (network, x) in enumerate(zip(networks.both, noisy.views, strict=True)):
            with torch.no_grad():
                guesses = averages.both[1 - i](x).softmax(dim=1).tolist()
            for n in range(N):
                q[i][n] = [BETA * a + (1 - BETA) * b for a, b in zip(q[i][n], guesses[n], strict=True)]
            share = float(Beta(1.0, 1.0).sample())
            share = max(share, 1 - share)
            partners = torch.randperm(N).tolist()
            logits = network(torch.stack([share * x[n] + (1 - share) * x[m] for n, m in enumerate(partners)]))
            loss = 0.0
            for n, m in enumerate(partners):
                p = logits[n].exp() / logits[n].exp().sum()
                labels = noisy.labels
                loss = loss - share * p[labels[n]].log() - (1 - share) * p[labels[m]].log()
                agreement = sum((share * q[i][n][c] + (1 - share) * q[i][m][c]) * p[c] for c in range(C))
                loss = loss + LAMBDA * torch.log(1 - agreement)
            gradients = torch.autograd.grad(loss / N, list(network.parameters()))
            with torch.no_grad():
                for p, g, mean in zip(
                    network.parameters(), gradients, averages.both[i].parameters(), strict=True
                ):
                    p -= ETA * (g + DECAY * p)
                    mean.copy_(gamma * mean + (1 - gamma) * p)
        torch.manual_seed(step)
        method.step_number.fill_(step)
        assert method.step([noisy], None)["student_loss"].isfinite()
    # gamma and mixup's share are drawn in float32.
    assert (
        relative_error(flat(method.student.parameters()) - start, flat(networks.parameters()) - start) < 1e-6
    )
    moved = flat(averages.parameters()) - start
    assert relative_error(flat(method.averages.parameters()) - start, moved) < 1e-6
    expected = torch.tensor(q, dtype=torch.float64).transpose(0, 1)
    torch.testing.assert_close(method.sample_state()["targets"][3 : 3 + N], expected, atol=1e-7, rtol=0)
    assert method.sample_state()["targets"][:3].count_nonzero() == 0  # not visited
    assert relative_error(moved, flat(networks.parameters()) - start) > 0.1  # the average lags behind


def test_the_averages_have_statistics_of_their_own():
    method = prepared()
    before = deepcopy(method.averages)
    noisy = batch(0)
    method.step([noisy], None)
    for network, x in zip(before.both, reversed(noisy.views), strict=True):
        network(x)  # in training mode, as published: each sees the view of the other one
    for (name, buffer), expected in zip(method.averages.named_buffers(), before.buffers(), strict=True):
        if name.startswith("one."):  # the other one had moved, before it was asked
            continue
        torch.testing.assert_close(buffer, expected, msg=name)


def test_soft_labels_are_the_running_targets():
    method = prepared()
    torch.testing.assert_close(method.estimate().soft_labels, torch.full((63, C), 1 / 3, dtype=torch.float64))
    method.step([batch(0)], None)
    q = method.sample_state()["targets"][3 : 3 + N].sum(dim=1)
    estimate = method.estimate()
    torch.testing.assert_close(estimate.soft_labels[3 : 3 + N], q / q.sum(dim=1, keepdim=True))
    assert estimate.weights is None


def test_the_averages_start_from_the_initial_weights():
    settings = tiny.settings(method="elr-plus")
    method = method_class("elr-plus")(settings, tiny.samples().inputs, C)
    for p in method.student.parameters():
        torch.nn.init.constant_(p, 0.5)
    method.setup(tiny.ALONE)
    assert (flat(method.averages.parameters()) == 0.5).all()
    assert not any(p.requires_grad for p in method.averages.parameters())
