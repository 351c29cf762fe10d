"""OASIS: the discriminator as a segmentation network (Schoenfeld et al. 2021, "You Only Need Adversarial Supervision").

A U-Net predicts each pixel's class, with one more class for "fake". Its losses use the labels only as targets, from
which the generator learns where each class belongs.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.config import OasisSettings
from geosynth.errors import DataError
from geosynth.models.spectral import with_spectral_norm


class OasisDiscriminator(nn.Module):
    """U-Net of residual blocks with skips, spectral norm on all convolutions, no other norm.

    With `base_width` 64 as in the paper: 128, 128, 256, 256, 512, 512 channels down, 512, 256, 256, 128, 128, 64 up.
    """

    def __init__(self, settings: OasisSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.base_width
        down = [settings.num_bands, *(width * multiple for multiple in (2, 2, 4, 4, 8, 8)[: settings.num_levels])]
        self.down = nn.ModuleList(
            _DownBlock(inputs, outputs, first=index == 0) for index, (inputs, outputs) in enumerate(pairwise(down))
        )
        outputs = [*down[-2:0:-1], width]  # coarse to fine
        inputs = [down[-1], *(2 * channels for channels in outputs[:-1])]
        self.up = nn.ModuleList(_UpBlock(*channels) for channels in zip(inputs, outputs, strict=True))
        self.to_classes = _conv(width, settings.num_classes + 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, num_bands, H, W) to the logits (B, num_classes + 1, H, W), the last for "fake", and the blocks' features.

        Raises:
            DataError: if the image is too small for the levels.
        """
        height, width = image.shape[2:]
        if min(height, width) < 2**self.settings.num_levels:
            raise DataError(
                f"image of {height} x {width} px: {self.settings.num_levels} levels need sides of"
                f" {2**self.settings.num_levels} px at least"
            )
        values, skips = image, []
        for block in self.down:
            values = block(values)
            skips.append(values)
        sizes = [skip.shape[2:] for skip in skips[-2::-1]] + [image.shape[2:]]
        features = [*skips]
        for block, size, skip in zip(self.up, sizes, [*skips[-2::-1], None], strict=True):
            values = block(values, size)
            features.append(values)
            if skip is not None:
                values = torch.cat([values, skip], dim=1)
        return self.to_classes(values), features


def _conv(inputs: int, outputs: int, size: int) -> nn.Module:
    return with_spectral_norm(nn.Conv2d(inputs, outputs, size, padding=size // 2))


class _DownBlock(nn.Module):
    """A residual block, then half the size."""

    def __init__(self, inputs: int, outputs: int, *, first: bool) -> None:
        super().__init__()
        self.first = first  # an image is not passed through an activation
        self.conv_0, self.conv_1 = _conv(inputs, outputs, 3), _conv(outputs, outputs, 3)
        self.conv_s = _conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.conv_0(values if self.first else F.leaky_relu(values, 0.2))
        return F.avg_pool2d(self.conv_s(values) + self.conv_1(F.leaky_relu(hidden, 0.2)), 2)


class _UpBlock(nn.Module):
    """Upsampling to the given size (about double), then a residual block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_0, self.conv_1 = _conv(inputs, outputs, 3), _conv(outputs, outputs, 3)
        self.conv_s = _conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, values: Tensor, size: torch.Size) -> Tensor:
        values = F.interpolate(values, size=size, mode="nearest")
        hidden = self.conv_0(F.leaky_relu(values, 0.2))
        return self.conv_s(values) + self.conv_1(F.leaky_relu(hidden, 0.2))  # type: ignore[no-any-return]


def count_classes(labels: Tensor, num_classes: int) -> Tensor:
    """(num_classes,) pixels of each class in (B, H, W) labels; pixels of index `num_classes` are left out."""
    # A histogram would first read the labels' range on the host.
    classes = torch.arange(num_classes, device=labels.device).view(-1, 1)
    return (labels.flatten() == classes).sum(1)


def class_weights(counts: Tensor) -> Tensor:
    """(num_classes,) float32 weights for class-balanced cross-entropy: inverse frequency over the batch.

    Absent classes get 0. The mean over all pixels with a class is 1, so that each present class has the same influence.

    Args:
        counts: (num_classes,) pixels of each class in the batch.
    """
    counts = counts.float()
    present = counts > 0
    return present * counts.sum() / (counts.clamp(min=1) * present.sum().clamp(min=1))


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of logits and labels, weighted by `weights[label]`, mean over pixels.

    This is the generator's loss for the logits of its fakes, and the discriminator's for those of real images.

    Args:
        logits: (B, num_classes + 1, H, W).
        labels: (B, H, W); pixels of index `num_classes`, "no class", count 0.
        weights: (num_classes,), as `class_weights` gives them.
    """
    num_classes, labels = len(weights), labels.long()
    pixel_weights = F.pad(weights, (0, 1))[labels]
    entropy = F.cross_entropy(logits, labels.clamp(max=num_classes - 1), reduction="none")
    return (pixel_weights * entropy).mean()


def fake_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of (B, num_classes + 1, H, W) logits against "fake", mean over pixels; no class counts 0."""
    num_classes = logits.shape[1] - 1
    entropy = -F.log_softmax(logits, dim=1)[:, num_classes]
    return (entropy * (labels < num_classes)).mean()


def label_mix_mask(labels: Tensor, sides: Tensor) -> Tensor:
    """A mask (B, 1, H, W) that follows class regions: each class of each image is entirely real (true) or fake.

    Args:
        labels: (B, H, W).
        sides: (B, num_classes + 1) bool, the side of each class ("no class" is the last).
    """
    return torch.gather(sides, 1, labels.flatten(1).long()).view(labels.shape).unsqueeze(1)


def label_mix_loss(mixed: Tensor, fake: Tensor, real: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance of the logits of a mixed image to the mixed logits of fake and real."""
    return F.mse_loss(mixed, torch.where(mask, real, fake))
