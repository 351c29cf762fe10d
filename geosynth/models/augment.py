"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020, "Differentiable Augmentation for ...").

Real and fake images are changed alike, so the generator need not paint the changes, but the discriminator cannot learn
few images by heart. Of the paper's three, translation is left out: patches are cut at random places anyhow. Its cutout
takes the labels out, too, so that nobody asks what class the hole has.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# The paper's, at strength 1, of images in [-1, 1].
_BRIGHTNESS = 0.5  # at most, added to all bands
_CONTRAST = 0.5  # at most, of the distance to the image's mean
_SATURATION = 1.0  # at most, of the distance to the mean over bands
_HOLE = 0.5  # side, of the image's


class Augmentation:
    """One change a sample, the same for all images and labels that it is applied to.

    Args:
        strength: 0 (none) to 1 (the paper's).
        height, width: of the images, pixels.
        rngs: one a sample; draws its change.
        device: where the images and labels are.
    """

    def __init__(
        self,
        strength: float,
        height: int,
        width: int,
        rngs: Sequence[torch.Generator],
        device: torch.device | str = "cpu",
    ) -> None:
        drawn = torch.stack([torch.rand(5, generator=rng) for rng in rngs]).to(device)
        either_way = strength * (2 * drawn[:, :3] - 1)
        limits = torch.tensor([_BRIGHTNESS, _CONTRAST, _SATURATION], device=device)
        self._colours = (either_way * limits)[:, :, None, None, None].unbind(1)  # three of (B, 1, 1, 1)
        rows, columns = (
            _span(size, strength * _HOLE, place) for size, place in zip((height, width), drawn[:, 3:].T, strict=True)
        )
        self._hole = rows[:, :, None] & columns[:, None, :]  # (B, H, W)

    def image(self, image: Tensor) -> Tensor:
        """(B, num_bands, H, W) in [-1, 1], changed; 0 in the hole."""
        brightness, contrast, saturation = self._colours
        grey = image.mean(1, keepdim=True)
        image = grey + (1 + saturation) * (image - grey) + brightness
        mean = image.mean((1, 2, 3), keepdim=True)
        image = mean + (1 + contrast) * (image - mean)
        return image * ~self._hole[:, None]

    def labels(self, labels: Tensor, num_classes: int) -> Tensor:
        """(B, H, W) class indices; `num_classes`, "no class", in the hole."""
        return labels.masked_fill(self._hole, num_classes)


def _span(size: int, share: float, place: Tensor) -> Tensor:
    """(B, size) bool: a run of `share` of the size whose centre lies anywhere inside, cut off at the ends."""
    centre = place[:, None] * size
    distance = (torch.arange(size, device=place.device) + 0.5 - centre).abs()
    return distance < share * size / 2
