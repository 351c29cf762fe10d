"""The look of each class: how it is measured in an image, and how it conditions a generator.

The style of a class at a place is a short list of statistics of the pixels of that class around it: the mean of each
band, the logarithm of its standard deviation, the logarithms of the fine and the middle detail, and the direction of
the detail (rows of a field, ridges of a roof). They are measured, not learned, so the style of a place, season or
sensor that no training has seen is as well defined as any other. "Around" is a square whose side depends on the class:
fields are even over many metres, roofs differ from house to house.

Styles are on a grid of `STYLE_CELL` pixels, for all classes at each position; a pixel of the network takes the style of
its own class (`StyleCodes`), so that looks end where labels end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.models.affine import PixelRows
from geosynth.models.device import product_type
from geosynth.models.patterns import one_hot_classes, whole_rows

STYLE_CELL = 8  # pixels; side of a cell of the grid of styles
BLUR = 4  # pixels; so close to an edge of the data, the measured detail depends on what lies beyond it
OBJECTS = 8  # of a class in a tile, whose styles a look keeps
REACH = 1.25  # spacings of the objects' lattice; in classes that change gradually, objects up to here count in a mean
_SMALLEST = 1 / 127.5  # a deviation of 1 DN in 8 bits; smaller ones are not distinguished
_PRIOR_PIXELS = 16.0  # number of pixels of each window that the mean over the whole patch counts as


def style_size(num_bands: int) -> int:
    """Length of the style of one class: means, deviations, fine and middle detail, and two numbers for direction."""
    return 2 * num_bands + 4


def num_bands_of(size: int) -> int:
    """Number of bands of images with styles of this length: the inverse of `style_size`."""
    return (size - 4) // 2


def local_statistics(image: Tensor, labels: Tensor, num_classes: int, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The style of each class around each cell.

    Args:
        image: (B, num_bands, H, W) in [-1, 1]; H and W multiples of `STYLE_CELL`.
        labels: (B, H, W) class indices; `num_classes` where a pixel has no class.
        num_classes: of the labels.
        lengths: for each class, the side in pixels of the square in which its style is measured.

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
    styles = [_style(_pooled(sums, length)) for sums, length in zip(per_class, lengths, strict=True)]
    return torch.stack(styles, 1), pixels


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


@dataclass(frozen=True)
class Look:
    """How the classes look in one place and season: styles that were observed there together.

    A style drawn from a look (`look_field.look_field`) is always the whole style of an observed object: a bright roof
    keeps the spread, the detail and the direction that belong to its brightness, which a normal distribution would mix
    with those of others.

    Attributes:
        mean: (num_classes, style_size), over all pixels of the class.
        departures: (tiles, num_classes, OBJECTS, style_size): styles of objects in each tile, minus the mean.
        shares: (num_classes,) share of each class in the pixels in which the look was measured.
        asked: (num_classes, style_size), the means that a generator is asked for so that it paints `mean`, see
            `calibration`; None for `mean` itself.
        around: (tiles, num_classes, OBJECTS), the share of its class around each object (`edge_effect.shares_around`).
        edge_effect: (num_classes, 2, style_size), how a style changes with that share (`edge_effect.edge_change`).
            Both are None in looks of older versions, where styles do not depend on the labels around.
    """

    mean: Tensor
    departures: Tensor
    shares: Tensor
    asked: Tensor | None = None
    around: Tensor | None = None
    edge_effect: Tensor | None = None

    def __repr__(self) -> str:
        tiles, num_classes = self.departures.shape[:2]
        return f"Look({num_classes} classes, observed in {tiles} tiles)"

    @property
    def of_tiles(self) -> Tensor:
        """What the objects of a tile have in common, minus the mean, (tiles, num_classes, 1, style_size)."""
        return self.departures.mean(2, keepdim=True)

    def to(self, device: torch.device | str) -> Look:
        """The same look on a device."""
        return Look(**{name: values.to(device) for name, values in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by the names of the attributes; without those that are None."""
        parts = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: values for name, values in parts if values is not None}


class StyleCodes(nn.Module):
    """From styles to codes, which condition the blocks of a generator on the look of each class at each position.

    Args:
        num_classes: of the labels.
        num_bands: of the images.
        width: of a code.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, num_classes: int, num_bands: int, width: int) -> None:
        super().__init__()
        size = style_size(num_bands)
        self.classes = nn.Parameter(torch.zeros(num_classes, 2 * width))
        self.first = nn.Linear(size, 2 * width)
        self.second = nn.Linear(2 * width, width)
        self.direct = nn.Linear(size, width, bias=False)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self, styles: Tensor) -> Tensor:
        """From (B, num_classes, style_size, h, w) to (B * h * w * (num_classes + 1), width); 0 for "no class"."""
        dtype = product_type(self.first.weight)
        values = (styles.permute(0, 3, 4, 1, 2) - self.centre) / self.scale
        values = values.to(dtype, memory_format=torch.contiguous_format)  # once, for both products
        hidden = F.leaky_relu(self.first(values) + self.classes.to(dtype), 0.2)
        codes = self.second(hidden) + self.direct(values)
        return F.pad(codes, (0, 0, 0, 1)).flatten(0, 3)


def code_places(labels: Tensor, num_classes: int) -> Tensor:
    """For each pixel of label maps (B, H, W), the row of its code in the output of `StyleCodes`, (B, H, W)."""
    batch, height, width = labels.shape
    down, across = height // STYLE_CELL, width // STYLE_CELL
    first = torch.arange(0, batch * down * across * (num_classes + 1), num_classes + 1, device=labels.device)
    in_cells = labels.view(batch, down, STYLE_CELL, across, STYLE_CELL)
    return (first.view(batch, down, 1, across, 1) + in_cells).view(labels.shape)


def pixel_codes(codes: Tensor, places: Tensor, stride: int) -> PixelRows:
    """The code of each pixel's own class, at one level of the network.

    Each pixel has its own row if a cell has one pixel, or if a gradient is needed.

    Args:
        codes: (R, width), all of them.
        places: (B, h, w), `code_places` of the level's pixels.
        stride: of the level.
    """
    if torch.is_grad_enabled() or stride >= STYLE_CELL:
        return PixelRows(codes[places].flatten(0, 2), None)
    if not _can_count(places):
        return PixelRows(codes, places)
    flat = places.flatten()
    present = torch.zeros(len(codes), dtype=torch.bool).index_fill_(0, flat, True)
    number = present.cumsum(0, dtype=torch.int32).sub_(1)
    used = whole_rows(present.nonzero().squeeze(1))
    return PixelRows(codes.index_select(0, used), number.index_select(0, flat).view(places.shape))


def _can_count(places: Tensor) -> bool:
    """Whether to find out which codes occur, for which the host would have to wait for a GPU."""
    return places.device.type == "cpu"


class StyleModulation(nn.Module):
    """From codes to the scales and shifts of one layer's features, see `affine.apply_looks`; zeros at first."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.scale_shift = nn.Linear(width, 2 * channels, bias=False)
        nn.init.zeros_(self.scale_shift.weight)

    def forward(self, codes: PixelRows) -> PixelRows:
        """From codes (R, width) to scales and shifts (R, 2 * channels)."""
        return codes._replace(table=self.scale_shift(codes.table))
