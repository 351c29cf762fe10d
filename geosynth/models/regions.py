"""Regions: connected pixels of a class each of which is one thing, such as a roof, and has one look.

Styles are drawn for objects on a lattice (`field.look_field`), which would cut a roof in two tones. So each cell of a
region takes the style that was drawn where the middle of the region is. A region wider than `REGION_SIDE` keeps what
was drawn, as no window could see where it ends. All others are whole for any window that sees the labels `REGION_SIDE`
pixels around it, so that what is painted does not depend on how a raster is cut. (Beyond a raster's edge its last
labels are repeated, so that a region which touches it is wide.) Where regions of a class share a cell, it has the look
of one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from geosynth.config.networks import REGION_SIDE
from geosynth.models.looks import STYLE_CELL

_CELLS = REGION_SIDE // STYLE_CELL
BORDER = _CELLS // 2  # so many cells beyond a window may lie the middle of a region that reaches into it


def ways_to_middles(labels: npt.NDArray[Any], classes: Sequence[int]) -> npt.NDArray[np.int8]:
    """For each cell of a window, how far it is to the cell in the middle of the region that lies in it.

    Of several regions of a class in one cell it is the one with the last middle, row by row.

    Args:
        labels: (H + 2 * REGION_SIDE, W + 2 * REGION_SIDE) class indices of the window and around it, (H, W) if there
            are no such classes; H and W multiples of `STYLE_CELL`, as are the absolute positions where windows begin.
        classes: whose regions have one look each.

    Returns:
        (len(classes), 2, H / 8, W / 8): cells down and across, 0 in cells without a region.
    """
    down, across = (side // STYLE_CELL for side in labels.shape)
    if not classes:
        return np.empty((0, 2, down, across), np.int8)
    own = np.arange(down * across).reshape(down, across)
    ways = []
    for number in classes:
        is_class = labels == number
        regions, count = ndimage.label(is_class)
        # First and last pixel of each run of the class in a row: boxes follow from these alone.
        runs = np.flatnonzero(np.diff(is_class, axis=1, prepend=False, append=False)).reshape(-1, 2)
        rows, columns = (part.astype(np.int32) for part in np.divmod(runs, labels.shape[1] + 1))
        columns[:, 1] -= 1
        region_of = regions[rows[:, 0], columns[:, 0]]
        first, last = np.full((2, count + 1), labels.size, np.int32), np.zeros((2, count + 1), np.int32)
        for side, places in enumerate((rows, columns)):
            np.minimum.at(first[side], region_of, places[:, 0])
            np.maximum.at(last[side], region_of, places[:, 1])
        row, column = (first + last + 1) // 2 // STYLE_CELL
        middle_of = np.where((last - first).max(0) < REGION_SIDE, row * across + column, -1)
        middle_of[0] = -1  # of what is no region
        middles = middle_of[regions].reshape(down, STYLE_CELL, -1).max(1).reshape(down, across, STYLE_CELL).max(2)
        middles = np.where(middles < 0, own, middles)
        ways.append(np.stack(np.divmod(middles, across)) - np.stack(np.divmod(own, across)))
    inner = slice(_CELLS, -_CELLS)
    return np.stack(ways)[..., inner, inner].astype(np.int8)


def in_one_look(styles: Tensor, ways: Tensor, classes: Sequence[int]) -> Tensor:
    """Styles of a window in which each region has that of its middle.

    Args:
        styles: (B, num_classes, style_size, h + 2 * BORDER, w + 2 * BORDER) of the cells of the window and around it.
        ways: (B, len(classes), 2, h, w) as `ways_to_middles` gives them.
        classes: likewise.

    Returns:
        (B, num_classes, style_size, h, w).
    """
    height, width = ways.shape[3:]
    inner = styles[..., BORDER : BORDER + height, BORDER : BORDER + width].clone()
    rows, columns = (
        torch.arange(BORDER, BORDER + length, device=styles.device).view(shape)
        for length, shape in ((height, (-1, 1)), (width, (1, -1)))
    )
    middles = (rows + ways[:, :, 0]) * styles.shape[4] + (columns + ways[:, :, 1])
    for number, cells in zip(classes, middles.flatten(2).unbind(1), strict=True):
        drawn = styles[:, number].flatten(2)
        taken = drawn.gather(2, cells.unsqueeze(1).expand(-1, drawn.shape[1], -1))
        inner[:, number] = taken.view(*drawn.shape[:2], height, width)
    return inner
