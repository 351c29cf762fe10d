"""Ordinary augmentation of train tiles: flips, quarter turns, contrast and brightness."""

from __future__ import annotations

import torch
from kornia.enhance import adjust_brightness, adjust_contrast
from torch import Tensor

from geosynth.patches.transforms import random_dihedral

_CONTRAST = 0.2
_BRIGHTNESS = 0.1


def augment(image: Tensor, mask: Tensor, how: str, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Change each sample of a batch at random.

    Args:
        image: (B, bands, N, N) in [-1, 1].
        mask: (B, N, N).
        how: "none"; "flips": one of the eight symmetries of the square, image and mask alike; "flips+colour": also all
            values, counted from the low end of their range, times 0.8 to 1.2 and plus -0.1 to 0.1 of the range. One
            change holds for all bands of an image, as light and exposure do: near infrared keeps its relation to red,
            by which vegetation is told.
        rng: of the draws.

    Returns:
        both, of the same shapes; images stay in [-1, 1].
    """
    if how == "none":
        return image, mask
    image, mask = random_dihedral(image, mask, rng)
    if how == "flips+colour":
        draws = 2 * torch.rand((2, len(image)), generator=rng) - 1
        unit = adjust_contrast((image + 1) / 2, 1 + _CONTRAST * draws[0])
        image = 2 * adjust_brightness(unit, _BRIGHTNESS * draws[1]) - 1
    return image, mask
