"""The style of a class at a place, and how it is measured in an image.

A style is a short list of statistics of the pixels of a class around a place: the mean of each band, the logarithm of
its standard deviation, the logarithms of the fine and the middle detail, and the direction of the detail (rows of a
field, ridges of a roof). They are measured, not learned, so the style of a place, season or sensor that no training has
seen is as well defined as any other. "Around" is a square whose side depends on the class: fields are even over many
metres, roofs differ from house to house. For looks, classes whose regions have one style (`regions`) are measured in
whole regions: the two slopes of a roof are part of its spread.

Styles are on a grid of `STYLE_CELL` pixels, for all classes at each position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from geosynth.models.patterns import one_hot_classes

STYLE_CELL = 8  # pixels; side of a cell of the grid of styles
BLUR = 4  # pixels; so close to an edge of the data, the measured detail depends on what lies beyond it
_SMALLEST = 1 / 127.5  # a deviation of 1 DN in 8 bits; smaller ones are not distinguished
_PRIOR_PIXELS = 16.0  # number of pixels of each window that the mean over the whole patch counts as


def style_size(num_bands: int) -> int:
    """Length of the style of one class: means, deviations, fine and middle detail, and two numbers for direction."""
    return 2 * num_bands + 4


def num_bands_of(size: int) -> int:
    """Number of bands of images with styles of this length: the inverse of `style_size`."""
    return (size - 4) // 2


def local_statistics(
    image: Tensor,
    labels: Tensor,
    num_classes: int,
    lengths: Sequence[int],
    regions: Mapping[int, Tensor] = MappingProxyType({}),
) -> tuple[Tensor, Tensor]:
    """The style of each class around each cell.

    Args:
        image: (B, num_bands, H, W) in [-1, 1]; H and W multiples of `STYLE_CELL`.
        labels: (B, H, W) class indices; `num_classes` where a pixel has no class.
        num_classes: of the labels.
        lengths: for each class, the side in pixels of the square in which its style is measured.
        regions: for classes that are measured in whole regions instead, such as roofs, a number for each cell, (B, h,
            w), the same in all cells of a region and less than h * w; -1 in cells to measure in squares.

    Returns:
        styles (B, num_classes, style_size, h, w), 0 for classes missing from a patch; and the number of pixels of the
        class in each cell, (B, num_classes, h, w).
    """
    image = image.float()
    smooth = _blurred(image, 1)
    fine = (image - smooth).square().mean(1, keepdim=True)
    middle = (smooth - _blurred(smooth, 2)).square().mean(1, keepdim=True)
    values = torch.cat([torch.ones_like(fine), image, image.square(), fine, middle, _directions(smooth)], 1)
    masks = one_hot_classes(labels, num_classes, image.dtype)
    per_class = [F.avg_pool2d(values * masks[:, index, None], STYLE_CELL) for index in range(num_classes)]
    pixels = torch.stack([sums[:, 0] for sums in per_class], 1) * STYLE_CELL**2
    pooled = [_pooled(sums, length) for sums, length in zip(per_class, lengths, strict=True)]
    for index, numbers in regions.items():
        pooled[index] = _in_regions(per_class[index], numbers, pooled[index])
    return torch.stack([_style(sums) for sums in pooled], 1), pixels


def without_holes(image: Tensor, labels: Tensor, no_class: int) -> tuple[Tensor, Tensor]:
    """Images without NaN, and labels that have no class wherever NaN would show in a style.

    Args:
        image: (B, num_bands, H, W), with NaN where there is no data.
        labels: (B, H, W).
        no_class: the label of pixels without a class.
    """
    holes = image.isnan().any(1)
    if not holes.any():
        return image, labels
    near = F.max_pool2d(holes.float(), 2 * BLUR + 1, stride=1, padding=BLUR) > 0
    return image.nan_to_num(0), labels.masked_fill(near, no_class)


def _blurred(image: Tensor, step: int) -> Tensor:
    """Images smoothed along both axes with weights 1 2 1 of pixels at a distance of `step`."""
    padded = F.pad(image, (step,) * 4, mode="replicate")
    rows = (padded[..., : -2 * step, :] + 2 * padded[..., step:-step, :] + padded[..., 2 * step :, :]) / 4
    return (rows[..., : -2 * step] + 2 * rows[..., step:-step] + rows[..., 2 * step :]) / 4


def _directions(image: Tensor) -> Tensor:
    """The squared gradient of the mean over bands, also times cosine and sine of twice its angle, (B, 3, H, W)."""
    padded = F.pad(image.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    return torch.cat([across.square() + down.square(), across.square() - down.square(), 2 * across * down], 1)


def _pooled(sums: Tensor, length: int) -> Tensor:
    """Sums over squares of side `length`, plus a small part of the mean over the whole patch."""
    reach = max(0, round(length / STYLE_CELL / 2 - 0.5))
    side = 2 * reach + 1
    whole = sums.mean((2, 3), keepdim=True)
    for kernel, padding in (((side, 1), (reach, 0)), ((1, side), (0, reach))):
        sums = F.avg_pool2d(sums, kernel, stride=1, padding=padding)
    share = _PRIOR_PIXELS / (side * side * STYLE_CELL**2)
    return sums + whole / whole[:, :1].clamp(min=1e-6) * share


def _in_regions(sums: Tensor, regions: Tensor, others: Tensor) -> Tensor:
    """Sums over regions, plus as small a part of the whole patch as in `_pooled`; `others` where there is no region."""
    flat, inside = sums.flatten(2), (regions >= 0).unsqueeze(1)
    index = regions.clamp(min=0).flatten(1).unsqueeze(1).expand_as(flat)
    totals = torch.zeros_like(flat).scatter_add_(2, index, flat * inside.flatten(2)).gather(2, index)
    whole = sums.mean((2, 3), keepdim=True)
    share = _PRIOR_PIXELS / STYLE_CELL**2
    return torch.where(inside, totals.view_as(sums) + whole / whole[:, :1].clamp(min=1e-6) * share, others)


def _style(sums: Tensor) -> Tensor:
    """From sums over pixels (B, 6 + 2 num_bands, h, w) to styles (B, style_size, h, w)."""
    num_bands = (sums.shape[1] - 6) // 2
    count = sums[:, :1]
    present = count > 0
    means = sums[:, 1:] / count.clamp(min=1e-9)
    mean, square, detail, gradient, direction = torch.split(means, [num_bands, num_bands, 2, 1, 2], 1)
    spread = (square - mean.square()).clamp(min=0) + _SMALLEST**2
    coherence = direction / (gradient + _SMALLEST**2)
    return torch.cat([mean, 0.5 * spread.log(), 0.5 * (detail + _SMALLEST**2).log(), coherence], 1) * present
