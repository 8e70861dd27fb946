"""Self-supervised Adversarial Noisy Masking: DivideMix with masked views, and the task to restore them.

Tu et al.: Learning with Noisy Labels via Self-supervised Adversarial Noisy Masking, CVPR 2023, and the
authors' public code for CIFAR after its correction. A network learns on six views of a sample: two by
AutoAugment, two by RandAugment, and two masked copies of a seventh, by AutoAugment. The seventh and an
eighth view give the targets q, as in :mod:`emlc.methods.dividemix`. With w the probability that the label
is right, and f (d, height, width) the network's last feature map for the seventh view,

    share:  r = U(0.02, 0.07) + 0.03 (1 - w)
    mask:   a rectangle of area r / 2 of the image and aspect U(0.8, 1.25), of one random colour; its corner
            is at the largest value of sum_c f_c^2, enlarged to the image, in the second copy at the smallest
    label:  the largest entry of q less r, every other entry plus r / (C - 1)
    loss:   L_x + lambda_u L_u + L_reg + 0.02 (MSE of the first copy + MSE of the second)

where MSE is the squared error with which a decoder restores the unmasked view from the last feature map of
a masked copy. The student is both networks; the decoders serve training alone. Gradients are clipped to a
norm of 1 in the warm-up.

The code starts from random weights, as DivideMix does, or from SimCLR's as C2D does: ``init`` decides. In
the latter case its network takes the softmax of its outputs, and the loss takes it again, which is not done
here.

Departures:

- Those of DivideMix.
- The warm-up is on AutoAugment's views; the code has colour jitter and affine maps.
- Colours are uniform on the scale of pixels, in the code on that of standardised images.
- The decoder's three layers are those of the code, with d, d / 2 and d / 4 channels in place of 512, 256
  and 128. They fit maps of 4 x 4 for images of 32 x 32; others are stretched to the image's size.
- RandAugment is torchvision's, without cutout. Where AutoAugment is none of ``trusted_augmentation``, as
  for grey images by default, all views are made alike.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from emlc.config import Settings
from emlc.config.hyper import Hyper, within
from emlc.data.images.stored import Inputs
from emlc.data.loaders import Batch
from emlc.errors import InputError
from emlc.methods.base import View
from emlc.methods.dividemix import DivideMix, DivideMixHyper, Lesson
from emlc.networks.backbones import Classifier
from emlc.networks.standardize import Standardize, scaled
from emlc.runtime.precision import full_precision

_LEVELS = 255
"""Largest level of the enlarged map, which is rounded down to whole levels before its extremes are sought."""


@dataclass(frozen=True, kw_only=True)
class SANMHyper(DivideMixHyper):
    """Hyper-parameters of SANM: those of DivideMix, and four more.

    Attributes:
        least_masked: Smallest masked share r of the image, of a sample whose label is surely right.
        most_masked: Largest masked share of the image, of such a sample.
        further_masked: What is added to that share if the label is surely wrong.
        reconstruction_weight: Weight of the decoder's loss; 0.3 on Clothing1M.
    """

    least_masked: float = within(0.02, 0, 0.5)
    most_masked: float = within(0.07, 0, 0.5)
    further_masked: float = within(0.03, 0, 0.5)
    reconstruction_weight: float = within(0.02)


class Decoder(nn.Sequential):
    """Three transposed convolutions from a feature map (n, d, h, w) to an image, of some larger size."""

    def __init__(self, feature_dim: int, channels: int) -> None:
        half, quarter = max(1, feature_dim // 2), max(1, feature_dim // 4)
        super().__init__(
            nn.ConvTranspose2d(feature_dim, half, 4, stride=2),
            nn.ConvTranspose2d(half, quarter, 6),
            nn.ConvTranspose2d(quarter, channels, 4, stride=2),
        )


class Masks(NamedTuple):
    """Masks of n images.

    Attributes:
        shares: (n,) r, the share of the image that counts as masked.
        largest: (n, 1, height, width) bool, the rectangle at the largest activation.
        smallest: (n, 1, height, width) bool, the rectangle at the smallest activation.
    """

    shares: Tensor
    largest: Tensor
    smallest: Tensor


class SANM(DivideMix):
    """DivideMix that also learns on masked copies, and restores what was masked."""

    name: ClassVar[str] = "sanm"
    reference: ClassVar[str] = (
        "Learning with Noisy Labels via Self-supervised Adversarial Noisy Masking, Tu et al., CVPR 2023"
    )
    warm_up_share: ClassVar[float] = 10 / 360
    warm_up_norm: ClassVar[float] = 1.0
    hyper_class: ClassVar[type[Hyper]] = SANMHyper
    views: ClassVar[tuple[View, ...]] = ("strong", "strong", "random", "random", "strong", "strong")
    needs_images: ClassVar[str] = "masks images"
    hyper: SANMHyper

    def __init__(self, settings: Settings, inputs: Inputs, num_classes: int) -> None:
        super().__init__(settings, inputs, num_classes)
        backbone = self.student.one.backbone
        self._map_layer, feature_dim = last_map_layer(backbone, inputs, settings.backbone)
        channels = len(_standardize(backbone).std.flatten())
        self.decoders = nn.ModuleList(Decoder(feature_dim, channels) for _ in self.student.both)

    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "decoders": self.decoders}

    def learners(self) -> nn.Module:
        return nn.ModuleList([self.student, self.decoders])

    def warm_up_views(self, batch: Batch) -> tuple[Tensor, ...]:
        return batch.views[:2]

    def guessing_views(self, batch: Batch) -> tuple[Tensor, ...]:
        return batch.views[4:]

    def learning_views(self, batch: Batch) -> tuple[Tensor, ...]:
        return batch.views[:4]

    def lesson(
        self, network: Classifier, other: Classifier, batch: Batch, w: Tensor, is_labelled: Tensor
    ) -> Lesson:
        with self._last_map(network) as maps:
            targets = self.targets(network, other, batch, w, is_labelled)
        image = _float(self.guessing_views(batch)[0])
        masks = draw_masks(maps[-1][: len(w)], image.shape[2], image.shape[3], w, self.hyper)
        copies = [torch.where(mask, _colours(image), image) for mask in (masks.largest, masks.smallest)]
        masked_targets = softened(targets, masks.shares)
        views = [_float(view) for view in self.learning_views(batch)]
        return Lesson(
            torch.cat([*views, *copies]),
            torch.cat([targets.repeat(len(views), 1), masked_targets.repeat(len(copies), 1)]),
            self.hyper.reconstruction_weight * self.reconstruction_loss(network, image, torch.cat(copies)),
        )

    def reconstruction_loss(self, network: Classifier, image: Tensor, masked: Tensor) -> Tensor:
        """Compute the sum of both copies' mean squared errors, 0-d, on the scale of standardised images.

        Args:
            network: One of the two networks.
            image: (n, channels, height, width).
            masked: (2 n, channels, height, width), the two masked copies.
        """
        decoder = self.decoders[self.student.both.index(network)]
        with self.ranks.autocast(), self._last_map(network) as maps:
            network.backbone(masked)
            restored = full_precision(decoder(maps[-1]))
        if restored.shape[2:] != image.shape[2:]:
            restored = interpolate(restored, image.shape[2:], mode="bilinear", align_corners=False)
        expected = _standardize(network.backbone)(image).to(restored)
        return 2 * mse_loss(restored, expected.repeat(2, 1, 1, 1))

    @contextmanager
    def _last_map(self, network: Classifier) -> Iterator[list[Tensor]]:
        """Collect the outputs of the network's last layer with feature maps, of all calls in this block."""
        maps: list[Tensor] = []
        layer = network.backbone.get_submodule(self._map_layer)
        handle = layer.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
        try:
            yield maps
        finally:
            handle.remove()


def draw_masks(maps: Tensor, height: int, width: int, w: Tensor, hyper: SANMHyper) -> Masks:
    """Draw masks for images (n, channels, height, width), by torch's global generator.

    Args:
        maps: (n, d, h, w) feature maps of the images.
        height: Height of the images.
        width: Width of the images.
        w: (n,) probabilities that the labels are right.
        hyper: The sizes of the masks.
    """
    spread, form = torch.rand(2, len(w), device=w.device)
    shares = hyper.least_masked + (hyper.most_masked - hyper.least_masked) * spread
    shares = shares + hyper.further_masked * (1 - w)
    aspect = 0.8 + (1.25 - 0.8) * form
    area = shares / 2 * height * width
    sizes = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()]).round()
    # Nearly square, and a fourth of the image at most: it is only longer than an image that is very narrow.
    sizes = sizes.minimum(sizes.new_tensor([[height], [width]])).long()
    largest, smallest = (
        rectangles(corners, sizes, height, width) for corners in extremes(maps, height, width)
    )
    return Masks(shares, largest, smallest)


def extremes(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Find the largest and the smallest activation of maps (n, d, h, w), enlarged to height x width.

    Returns:
        (n,) and (n,) int64, the first pixel of the highest and of the lowest of 256 levels, row by row.
    """
    activation = full_precision(maps).square().sum(dim=1, keepdim=True)
    activation = interpolate(activation, (height, width), mode="bilinear", align_corners=False).flatten(1)
    activation = activation - activation.amin(dim=1, keepdim=True)
    levels = (_LEVELS * activation / (activation.amax(dim=1, keepdim=True) + 1e-12)).floor()
    pixels = torch.arange(height * width, device=maps.device).expand_as(levels)
    bounds = levels.amax(dim=1, keepdim=True), levels.amin(dim=1, keepdim=True)
    largest, smallest = (pixels.where(levels == bound, height * width).amin(dim=1) for bound in bounds)
    return largest, smallest


def rectangles(corners: Tensor, sizes: Tensor, height: int, width: int) -> Tensor:
    """Return masks (n, 1, height, width), bool, of rectangles that are moved into the image.

    Args:
        corners: (n,) int64, the pixel of the upper left corner, row by row.
        sizes: (2, n) int64, heights and widths.
        height: Height of the images.
        width: Width of the images.
    """
    top = (corners // width).minimum(height - sizes[0])[:, None]
    left = (corners % width).minimum(width - sizes[1])[:, None]
    rows = torch.arange(height, device=corners.device)
    columns = torch.arange(width, device=corners.device)
    in_rows = (rows >= top) & (rows < top + sizes[0][:, None])
    in_columns = (columns >= left) & (columns < left + sizes[1][:, None])
    return in_rows[:, None, :, None] & in_columns[:, None, None, :]


def softened(targets: Tensor, shares: Tensor) -> Tensor:
    """Take a share (n,) from the largest entry of each target (n, C), for the others in equal parts."""
    num_classes = targets.shape[1]
    moved = shares[:, None] / (num_classes - 1)
    is_largest = torch.arange(num_classes, device=targets.device) == targets.argmax(dim=1, keepdim=True)
    return torch.where(is_largest, targets - shares[:, None], targets + moved)


def last_map_layer(backbone: nn.Module, inputs: Inputs, name: str) -> tuple[str, int]:
    """Find the last layer of a backbone whose output is a feature map, larger than one pixel if there is one.

    Returns:
        Its name, and the number of its channels.

    Raises:
        InputError: The backbone has no feature maps.
    """
    found: list[tuple[str, tuple[int, ...]]] = []

    def note(layer: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found.append((layer, tuple(output.shape)))

    leaves = {
        n: m for n, m in backbone.named_modules() if not [*m.children()] and not isinstance(m, Standardize)
    }
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, layer=layer: note(layer, output))
        for layer, module in leaves.items()
    ]
    was_training = backbone.training
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, *inputs.shape[1:]))
    backbone.train(was_training)
    for handle in handles:
        handle.remove()
    larger = [each for each in found if each[1][2] * each[1][3] > 1] or found
    if not larger:
        raise InputError(f"backbone: sanm masks images by the last feature map, and {name} has none")
    layer, shape = larger[-1]
    return layer, shape[1]


def _float(images: Tensor) -> Tensor:
    return scaled(images) if images.dtype == torch.uint8 else images


def _colours(images: Tensor) -> Tensor:
    """Draw a colour (n, channels, 1, 1) in [0, 1] for each image, by torch's global generator."""
    return torch.rand(*images.shape[:2], 1, 1, device=images.device).to(images)


def _standardize(backbone: nn.Module) -> Standardize:
    return next(module for module in backbone.modules() if isinstance(module, Standardize))
