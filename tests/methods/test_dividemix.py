"""DivideMix beside a step written sample by sample, and its division beside Bayes' rule."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.distributions import Beta

import tiny
from emlc.data.loaders import Batch
from emlc.methods.dividemix import DivideMix, probability_of_clean, semi_supervised_losses, sharpened
from references import flat, relative_error

C, N = 3, 8
ETA, MU, DECAY = 0.1, 0.9, 0.01


def batch(views=2, n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(views * n, 4, generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(0, C, (n,), generator=generator), torch.arange(n), n)


def prepared(kind=DivideMix, epoch=1, steps=5, **changes):
    """A method in float64 with a table of its division, in an epoch after its one of warm-up."""
    torch.manual_seed(0)
    settings = tiny.settings(
        method=kind.name,
        epochs=9,
        warm_up_epochs=1,
        momentum=MU,
        weight_decay=DECAY,
        **changes,
    )
    split = tiny.split(settings)
    method = kind(settings, split.noisy.inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    method.epoch = epoch
    method.step_number.fill_(steps)
    method._clean.copy_(torch.rand(method._clean.shape, generator=torch.Generator().manual_seed(3)))
    return method


def sharpen(q, t):
    powers = [float(x) ** (1 / t) for x in q]
    return torch.tensor([x / sum(powers) for x in powers], dtype=torch.float64)


def softmax(logits):
    return [x.exp() / x.exp().sum() for x in logits]


def slow_loss(network, other, w, share, noisy, lambda_u, hyper, guess=(0, 1), learn=(0, 1)):
    """A network's loss, from loops over samples and views; w is the other's, guess and learn number views."""
    n = len(noisy.labels)
    views = noisy.inputs.split(n)
    with torch.no_grad():
        predictions = softmax(network(torch.cat([views[i] for i in guess])))
        others = softmax(deepcopy(other).eval()(torch.cat([views[i] for i in guess])))
    targets = []
    for i in range(n):
        p = (predictions[i] + predictions[n + i]) / 2
        if w[i] > hyper.threshold:
            refined = (1 - w[i]) * p
            refined[noisy.labels[i]] += w[i]
            targets.append(sharpen(refined, hyper.temperature))
        else:
            targets.append(sharpen((2 * p + others[i] + others[n + i]) / 4, hyper.temperature))
    targets, x = targets + targets, torch.cat([views[i] for i in learn])
    share_of_first = float(Beta(hyper.mixup_alpha, hyper.mixup_alpha).sample())
    share_of_first = max(share_of_first, 1 - share_of_first)
    partners = torch.randperm(2 * n)
    mixed = [share_of_first * x[i] + (1 - share_of_first) * x[j] for i, j in enumerate(partners)]
    logits = network(torch.stack(mixed))
    labelled, unlabelled, mean = torch.zeros(3, dtype=torch.float64), 0.0, torch.zeros(C)
    for i, (j, p) in enumerate(zip(partners, softmax(logits), strict=True)):
        target = share_of_first * targets[i] + (1 - share_of_first) * targets[j]
        mean = mean + p / (2 * n)
        if w[i % n] > hyper.threshold:
            labelled = labelled - target * p.log()
        else:
            unlabelled = unlabelled + ((p - target) ** 2).sum() / C
    loss = labelled.sum() / max(share * 2 * n, 1) + lambda_u * unlabelled / max((1 - share) * 2 * n, 1)
    return loss + sum(1 / C * torch.log(1 / C / mean[c]) for c in range(C))


@pytest.mark.parametrize("changes", [{}, {"threshold": 1.0}, {"threshold": 0.0}, {"temperature": 1.0}])
def test_a_step_is_the_one_written_out(changes):
    method = prepared(hyper={"ramp_epochs": 2.0} | changes, noisy_batch=16)
    noisy, start = batch(), flat(method.student.parameters()).detach()
    pair, velocity = deepcopy(method.student), {}
    # 63 noisy samples in batches of 16: four steps an epoch, of which five are over and four were warm-up.
    lambda_u = 25 * ((5 - 4) / 4) / 2
    torch.manual_seed(7)
    for network, other, judge in ((pair.one, pair.other, 1), (pair.other, pair.one, 0)):
        w = method._clean[:, judge]
        share = float((w > method.hyper.threshold).double().mean())
        loss = slow_loss(network, other, w[:N], share, noisy, lambda_u, method.hyper)
        names = dict(network.named_parameters())
        gradients = torch.autograd.grad(loss, list(names.values()))
        with torch.no_grad():
            for (name, p), g in zip(names.items(), gradients, strict=True):
                velocity[name] = g + DECAY * p  # the first step: there is no momentum yet
                p -= ETA * velocity[name]
    torch.manual_seed(7)
    losses = method.step([noisy], None)
    assert losses["student_loss"].isfinite()
    change = flat(method.student.parameters()) - start
    assert relative_error(change, flat(pair.parameters()) - start) <= 1e-6  # w is kept in float32
    for (name, buffer), expected in zip(method.student.named_buffers(), pair.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, msg=name)


def test_in_the_warm_up_each_network_learns_the_labels_from_its_view():
    method = prepared(epoch=0, hyper={"confidence_penalty": True})
    noisy, pair = batch(), deepcopy(method.student)
    losses = []
    for network, x in zip(pair.both, noisy.views, strict=True):
        p = torch.stack(softmax(network(x)))
        loss = (-p[torch.arange(N), noisy.labels].log() + (p * p.log()).sum(dim=1)).mean()
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for q, g in zip(network.parameters(), gradients, strict=True):
                q -= ETA * (g + DECAY * q)
    step_losses = method.step([noisy], None)
    assert step_losses["student_loss"].item() == pytest.approx(np.mean(losses))
    torch.testing.assert_close(flat(method.student.parameters()), flat(pair.parameters()))


def test_over_an_epoch_every_sample_of_a_side_weighs_the_same():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(2, 60, C, generator=generator, dtype=torch.float64)
    targets = targets.softmax(dim=1)
    is_labelled = torch.rand(60, generator=generator) < 0.3
    share = is_labelled.double().mean()
    batches = zip(*(each.split(10) for each in (logits, targets, is_labelled)), strict=True)
    loss_x, loss_u = np.mean([[float(x) for x in semi_supervised_losses(*b, share)] for b in batches], axis=0)
    probabilities = logits.softmax(dim=1)
    cross_entropies = -(targets * probabilities.log()).sum(dim=1)
    assert loss_x == pytest.approx(cross_entropies[is_labelled].mean().item())
    squares = (probabilities - targets)[~is_labelled] ** 2
    assert loss_u == pytest.approx(squares.mean().item())


def test_a_batch_without_one_side_has_a_term_less():
    logits, targets = torch.randn(4, C), torch.full((4, C), 1 / C)
    for side in (True, False):
        losses = semi_supervised_losses(logits, targets, torch.full((4,), side), torch.tensor(float(side)))
        assert (losses[0] > 0) == side
        assert (losses[1] > 0) == (not side)


def test_the_weight_of_guesses_rises_after_the_warm_up():
    method = prepared(hyper={"ramp_epochs": 2.0, "unlabelled_weight": 10.0}, noisy_batch=16)
    weights = []
    for steps in (4, 6, 8, 12, 30):
        method.step_number.fill_(steps)
        weights.append(float(method.unlabelled_weight))
    assert weights == [0, 2.5, 5, 10, 10]


def test_the_division_is_bayes_rule():
    rng = np.random.default_rng(0)
    n, share, means, deviations = 20_000, 0.6, np.array([0.2, 0.7]), np.array([0.05, 0.1])
    is_wrong = rng.random(n) > share
    losses = rng.normal(means[is_wrong.astype(int)], deviations[is_wrong.astype(int)])
    densities = np.exp(-(((losses[:, None] - means) / deviations) ** 2) / 2) / deviations * [share, 1 - share]
    expected = densities[:, 0] / densities.sum(axis=1)
    posterior = probability_of_clean(losses, seed=0)
    assert np.abs(posterior - expected)[(losses > 0.1) & (losses < 0.9)].mean() < 0.005
    assert posterior[losses < 0.3].min() > 0.9
    assert posterior[losses > 0.5].max() < 0.1
    np.testing.assert_array_equal(posterior, probability_of_clean(losses, seed=0))


def test_samples_that_nothing_tells_apart_are_all_clean():
    np.testing.assert_array_equal(probability_of_clean(np.zeros(5), seed=0), np.ones(5))
    np.testing.assert_array_equal(probability_of_clean(np.full(1, 0.3), seed=0), np.ones(1))


def test_losses_are_those_of_each_network_without_augmentation_and_averaged_over_epochs():
    method = prepared(hyper={"averaged_epochs": 2})
    method.student.float()
    split = tiny.split(method.settings)
    x, y = split.noisy.inputs, torch.from_numpy(split.noisy.labels)
    expected = []
    for _ in range(3):
        with torch.no_grad():
            for p in method.student.parameters():
                p += 0.1 * torch.randn(p.shape)
        method._current = None  # as a step would
        method.start_epoch()
        pair = deepcopy(method.student).eval()
        with torch.no_grad():
            losses = torch.stack(
                [torch.nn.functional.cross_entropy(f(x), y, reduction="none") for f in pair.both]
            )
        losses = (losses - losses.amin(1, keepdim=True)) / (
            losses.amax(1, keepdim=True) - losses.amin(1, keepdim=True)
        )
        expected.append(losses.T)
    losses_so_far = method.sample_state()["losses"]
    torch.testing.assert_close(losses_so_far, torch.stack(expected[1:], dim=2), atol=1e-5, rtol=0)
    mean = torch.stack(expected[1:]).mean(dim=0).double().numpy()
    for i in range(2):
        clean = probability_of_clean(mean[:, i], method.settings.seed)
        np.testing.assert_allclose(method.sample_state()["clean"][:, i], clean, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5, 1.0])
def test_targets_are_sharpened_where_their_powers_are_too_small_for_float32(temperature):
    p = torch.tensor([[0.1] * 10, [0.11, 0.1, 0.1, 0.09, *[0.1] * 6], [0.0, 1.0, *[0.0] * 8]])
    powers = p.double() ** (1 / temperature)
    expected = powers / powers.sum(dim=1, keepdim=True)
    torch.testing.assert_close(sharpened(p, temperature), expected.float(), rtol=1e-4, atol=1e-7)
