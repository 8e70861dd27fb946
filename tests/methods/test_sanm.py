"""SANM beside a step written sample by sample, and its masks pixel by pixel."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from test_dividemix import sharpen, softmax
from torch.distributions import Beta

import tiny
from emlc.data.loaders import Batch
from emlc.errors import InputError
from emlc.methods.sanm import (
    SANM,
    SANMHyper,
    draw_masks,
    extremes,
    last_map_layer,
    rectangles,
    softened,
)
from emlc.networks.backbones import build_backbone
from references import flat, relative_error

C, N, SIDE, ETA = 3, 4, 8, 0.1
HYPER = {"ramp_epochs": 2.0, "reconstruction_weight": 0.7}


def prepared(epoch=1):
    torch.manual_seed(0)
    settings = tiny.settings(
        image=True, method="sanm", epochs=9, warm_up_epochs=1, momentum=0.0, width=2, hyper=HYPER
    )
    split = tiny.split(settings, image=True)
    method = SANM(settings, split.noisy.inputs, C)
    for network in method.networks().values():
        network.double()
    method.setup(tiny.ALONE)
    method.bind(split)
    method.train_mode()
    method.epoch = epoch
    method.step_number.fill_(5)
    method._clean.copy_(torch.rand(method._clean.shape, generator=torch.Generator().manual_seed(3)))
    return method


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(6 * N, 1, SIDE, SIDE, generator=generator).double()
    return Batch(x, torch.randint(0, C, (N,), generator=generator), torch.arange(N), N)


def feature_map(network, x):
    """What the layers before the pooling make of images."""
    for layer in network.backbone:
        if isinstance(layer, torch.nn.AdaptiveAvgPool2d):
            break
        x = layer(x)
    return x


def slow_corners(f):
    """Row and column of the first pixel on the highest and on the lowest level of one map (d, h, w)."""
    energy = (f**2).sum(dim=0)[None, None]
    energy = torch.nn.functional.interpolate(energy, (SIDE, SIDE), mode="bilinear")[0, 0].numpy()
    levels = np.floor(255 * (energy - energy.min()) / (energy.max() - energy.min() + 1e-12))
    return [divmod(int(flat_index), SIDE) for flat_index in (levels.argmax(), levels.argmin())]


def slow_masked(image, corner, height, width, colour):
    """A copy of an image (1, height, width) with a rectangle of one colour, moved into it."""
    top, left = min(corner[0], SIDE - height), min(corner[1], SIDE - width)
    masked = image.clone()
    for row in range(top, top + height):
        for column in range(left, left + width):
            masked[0, row, column] = colour
    return masked


def slow_loss(network, other, decoder, w, share, noisy, lambda_u, hyper):
    views = noisy.inputs.split(N)
    guessing = torch.cat([views[4], views[5]])
    with torch.no_grad():
        maps = feature_map(deepcopy(network), guessing)[:N]
        predictions = softmax(network(guessing))
        others = softmax(deepcopy(other).eval()(guessing))
    targets = []
    for i in range(N):
        p = (predictions[i] + predictions[N + i]) / 2
        if w[i] > hyper.threshold:
            refined = (1 - w[i]) * p
            refined[noisy.labels[i]] += w[i]
            targets.append(sharpen(refined, hyper.temperature))
        else:
            targets.append(sharpen((2 * p + others[i] + others[N + i]) / 4, hyper.temperature))
    spread, form = torch.rand(2, N).double()
    colours = [torch.rand(N, 1, 1, 1).double() for _ in range(2)]
    soft, copies = [], [[], []]
    for i in range(N):
        r = float(0.02 + 0.05 * spread[i] + 0.03 * (1 - w[i]))
        aspect, area = float(0.8 + 0.45 * form[i]), r / 2 * SIDE * SIDE
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        best = int(targets[i].argmax())
        soft.append(torch.stack([q - r if c == best else q + r / (C - 1) for c, q in enumerate(targets[i])]))
        for copy, corner, colour in zip(copies, slow_corners(maps[i]), colours, strict=True):
            copy.append(slow_masked(views[4][i], corner, height, width, colour[i, 0, 0, 0]))
    masked = torch.stack([*copies[0], *copies[1]])
    restored = decoder(feature_map(network, masked))
    restored = torch.nn.functional.interpolate(restored, (SIDE, SIDE), mode="bilinear")
    truth = network.backbone[0](views[4])
    reconstruction = ((restored[:N] - truth) ** 2).mean() + ((restored[N:] - truth) ** 2).mean()

    x = torch.cat([*views[:4], masked])
    targets = targets * 4 + soft * 2
    share_of_first = float(Beta(hyper.mixup_alpha, hyper.mixup_alpha).sample())
    share_of_first = max(share_of_first, 1 - share_of_first)
    partners = torch.randperm(6 * N)
    logits = network(share_of_first * x + (1 - share_of_first) * x[partners])
    labelled, unlabelled, mean = 0.0, 0.0, torch.zeros(C)
    for i, (j, p) in enumerate(zip(partners, softmax(logits), strict=True)):
        target = share_of_first * targets[i] + (1 - share_of_first) * targets[j]
        mean = mean + p / (6 * N)
        if w[i % N] > hyper.threshold:
            labelled = labelled - (target * p.log()).sum()
        else:
            unlabelled = unlabelled + ((p - target) ** 2).sum() / C
    loss = labelled / max(share * 6 * N, 1) + lambda_u * unlabelled / max((1 - share) * 6 * N, 1)
    loss = loss + sum(1 / C * torch.log(1 / C / mean[c]) for c in range(C))
    return loss + hyper.reconstruction_weight * reconstruction


def test_a_step_is_the_one_written_out():
    method, noisy = prepared(), batch()
    start = flat([*method.student.parameters(), *method.decoders.parameters()]).detach().clone()
    pair, decoders = deepcopy(method.student), deepcopy(method.decoders)
    lambda_u = float(method.unlabelled_weight)
    assert lambda_u > 0
    torch.manual_seed(7)
    for k, (network, other) in enumerate((pair.both, pair.both[::-1])):
        w = method._clean[:, 1 - k]
        share = float((w > method.hyper.threshold).double().mean())
        loss = slow_loss(network, other, decoders[k], w[:N], share, noisy, lambda_u, method.hyper)
        weights = [*network.parameters(), *decoders[k].parameters()]
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for p, g in zip(weights, gradients, strict=True):
                p -= ETA * g
    torch.manual_seed(7)
    losses = method.step([noisy], None)
    assert losses["student_loss"].isfinite()
    expected = flat([*pair.parameters(), *decoders.parameters()]).detach() - start
    actual = flat([*method.student.parameters(), *method.decoders.parameters()]).detach() - start
    assert relative_error(actual, expected) <= 1e-5  # w, shares and the mixed images are in float32
    for (name, buffer), other in zip(method.student.named_buffers(), pair.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, rtol=1e-4, atol=1e-5, msg=name)


def test_in_the_warm_up_gradients_have_a_norm_of_1_at_most():
    method = prepared(epoch=0)
    with torch.no_grad():
        for network in method.student.both:
            network.classifier.weight *= 100
    before = deepcopy(method.student)
    method.step([batch()], None)
    for network, then in zip(method.student.both, before.both, strict=True):
        step = flat(network.parameters()) - flat(then.parameters())
        assert step.norm().item() == pytest.approx(ETA, rel=1e-4)


def test_masks_have_the_sizes_that_were_drawn():
    hyper = SANMHyper()
    w = torch.tensor([0.0, 1.0]).repeat(2000)
    masks = draw_masks(torch.rand(4000, 2, 4, 4), 32, 32, w, hyper)
    for k, (least, most) in enumerate(((0.05, 0.10), (0.02, 0.07))):
        shares = masks.shares[k::2]
        assert least <= shares.min() < least + 0.001
        assert most - 0.001 < shares.max() <= most
        assert shares.mean().item() == pytest.approx((least + most) / 2, abs=0.002)
    for masked in (masks.largest, masks.smallest):
        pixels = masked.sum(dim=(1, 2, 3))
        assert pixels.float().mean().item() == pytest.approx(float(masks.shares.mean()) / 2 * 1024, rel=0.02)
        heights, widths = masked.any(dim=3).sum(dim=(1, 2)), masked.any(dim=2).sum(dim=(1, 2))
        assert torch.equal(heights * widths, pixels)
        assert (heights / widths).min() >= 0.6
        assert (heights / widths).max() <= 1.6


def test_rectangles_start_at_their_corner_and_stay_within_the_image():
    corners, sizes = torch.tensor([0, 13, 34]), torch.tensor([[1, 2, 3], [2, 3, 4]])
    for mask, corner, size in zip(rectangles(corners, sizes, 5, 7), corners, sizes.T, strict=True):
        (row, column), (height, width) = divmod(int(corner), 7), size.tolist()
        expected = torch.zeros(5, 7, dtype=torch.bool)
        for i in range(height):
            for j in range(width):
                expected[min(row, 5 - height) + i, min(column, 7 - width) + j] = True
        assert torch.equal(mask[0], expected)


def test_the_first_pixel_of_the_extreme_levels_counts():
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 1] = torch.tensor([[0.0, -2.0], [1.0, 0.0]])
    largest, smallest = extremes(maps, SIDE, SIDE)
    assert [divmod(int(each), SIDE) for each in (largest, smallest)] == slow_corners(maps[0])
    assert divmod(int(largest), SIDE) == (0, 6)  # the upper right quarter, where the map is at its edge


def test_a_softened_label_keeps_its_sum():
    targets = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    expected = torch.tensor([[0.6, 0.25, 0.15], [0.025, 0.025, 0.95]])
    torch.testing.assert_close(softened(targets, torch.tensor([0.1, 0.05])), expected)


@pytest.mark.parametrize(
    ("name", "channels", "side"), [("cnn", 16, 2), ("resnet18", 512, 4), ("mobilenet_v2", 576, 2)]
)
def test_the_last_feature_map_is_that_before_the_pooling(name, channels, side):
    x = torch.rand(2, 3, {"cnn": 8}.get(name, 32), {"cnn": 8}.get(name, 32))
    backbone, _ = build_backbone(name, x, 4)
    layer, found = last_map_layer(backbone, x, name)
    outputs = []
    backbone.get_submodule(layer).register_forward_hook(lambda _m, _i, output: outputs.append(output))
    backbone.eval()(x)
    assert outputs[-1].shape == (2, found, side, side)
    assert found == channels


def test_the_published_decoder_restores_32_pixels_from_a_map_of_4():
    decoder = SANM(
        tiny.settings(image=True, method="sanm", backbone="resnet18", width=None), torch.rand(2, 3, 32, 32), C
    ).decoders[0]
    assert [tuple(layer.weight.shape) for layer in decoder] == [
        (512, 256, 4, 4),
        (256, 128, 6, 6),
        (128, 3, 4, 4),
    ]
    assert decoder(torch.zeros(1, 512, 4, 4)).shape == (1, 3, 32, 32)


def test_a_backbone_without_feature_maps_is_refused():
    with pytest.raises(InputError, match=r"backbone: sanm masks .* feature map, and linear has none"):
        SANM(tiny.settings(image=True, method="sanm", backbone="linear"), torch.rand(2, 1, 8, 8), C)
