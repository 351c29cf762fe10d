"""How looks condition a generator: codes of styles, which scale and shift the features of its blocks.

A pixel takes the code of its own class, so that looks end where labels end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.models.affine import PixelRows
from geosynth.models.device import product_type
from geosynth.models.looks.styles import STYLE_CELL, style_size
from geosynth.models.patterns import whole_rows


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
