"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

# As in the paper, at strength 1, for images in [-1, 1].
_BRIGHTNESS = 0.5  # largest value added to all bands
_CONTRAST = 0.5  # largest change of the distance to the image's mean, as a factor
_SATURATION = 1.0  # largest change of the distance to the mean over bands, as a factor
_HOLE = 0.5  # side, as a share of the image's


class Augmentation:
    """One change per sample, the same for all images and labels to which it is applied.

    Args:
        strength: 0 (none) to 1 (as in the paper).
        height, width: of the images, in pixels.
        drawn: (B, NUM_DRAWS) numbers, uniform in [0, 1), on the images' device, which determine each sample's change.
    """

    NUM_DRAWS = 5

    def __init__(self, strength: float, height: int, width: int, drawn: Tensor) -> None:
        colours = zip((2 * drawn[:, :3] - 1).unbind(1), (_BRIGHTNESS, _CONTRAST, _SATURATION), strict=True)
        self._colours = [(strength * either_way * limit)[:, None, None, None] for either_way, limit in colours]
        rows, columns = (
            _span(size, strength * _HOLE, place) for size, place in zip((height, width), drawn[:, 3:].T, strict=True)
        )
        self._hole = rows[:, :, None] & columns[:, None, :]  # (B, H, W)

    def image(self, image: Tensor) -> Tensor:
        """Changed images, (B, num_bands, H, W) in [-1, 1]; 0 in the hole."""
        brightness, contrast, saturation = self._colours
        grey = image.mean(1, keepdim=True)
        image = grey + (1 + saturation) * (image - grey) + brightness
        mean = image.mean((1, 2, 3), keepdim=True)
        image = mean + (1 + contrast) * (image - mean)
        return image * ~self._hole[:, None]

    def labels(self, labels: Tensor, num_classes: int) -> Tensor:
        """Changed class indices, (B, H, W); `num_classes`, "no class", in the hole."""
        return labels.masked_fill(self._hole, num_classes)


def _span(size: int, share: float, place: Tensor) -> Tensor:
    """(B, size) bool: a run of `share` of the size with its centre anywhere inside, cut off at the ends."""
    centre = place[:, None] * size
    distance = (torch.arange(size, device=place.device) + 0.5 - centre).abs()
    return distance < share * size / 2
