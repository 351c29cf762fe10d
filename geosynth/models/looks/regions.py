"""Regions: connected pixels of a class that are one object, such as a roof, and have one look.

Styles are drawn for objects on a lattice (`look_field`), which could give a roof two tones. So each cell of a region
takes the style that was drawn for the middle of the region. Regions wider than `REGION_SIDE` are left unchanged, as no
window could see where they end. All others are seen whole by any window with the labels up to `REGION_SIDE` pixels
around it, so that the image does not depend on how a raster is cut. (Beyond a raster's edge its last labels are
repeated, so that a region which touches it is wide.) If regions of a class share a cell, it has the look of one of
them. Looks are measured in the same regions (`look_fit.TileStyles`): measured in small squares and painted in one
style, roofs would lose what differs from one part to another, such as their bright and their dark slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from geosynth.config.networks import REGION_SIDE
from geosynth.models.looks.styles import STYLE_CELL

_CELLS = REGION_SIDE // STYLE_CELL
BORDER = _CELLS // 2  # cells by which the middle of a region that extends into a window may be outside it


def ways_to_middles(labels: npt.NDArray[Any], classes: Sequence[int]) -> npt.NDArray[np.int8]:
    """For each cell of a window, the distance to the cell in the middle of its region.

    If several regions of a class are in one cell, it is the one whose middle comes last, row by row.

    Args:
        labels: (H + 2 * REGION_SIDE, W + 2 * REGION_SIDE) class indices of the window and around it; H and W multiples
            of `STYLE_CELL`, as are the absolute positions where windows begin.
        classes: whose regions have one look each, at least one.

    Returns:
        (len(classes), 2, H / 8, W / 8): distance in cells, down and across; 0 in cells without a region.
    """
    down, across = (side // STYLE_CELL for side in labels.shape)
    own = np.arange(down * across)
    ways = []
    for number in classes:
        middles = region_of_cells(labels == number).ravel()
        middles = np.where(middles < 0, own, middles)
        ways.append(np.stack(np.divmod(middles, across)) - np.stack(np.divmod(own, across)))
    inner = slice(_CELLS, -_CELLS)
    return np.stack(ways).reshape(-1, 2, down, across)[..., inner, inner].astype(np.int8)


def region_of_cells(is_class: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """For each cell, the number of the cell in the middle of its region; -1 if there is none, or it is too wide.

    Computed from the runs of the class in each row, which are a few thousand for a million pixels.

    Args:
        is_class: (H, W), whether a pixel has the class; H and W multiples of `STYLE_CELL`.

    Returns:
        (H / 8, W / 8); cells are numbered row by row.
    """
    down, across = (side // STYLE_CELL for side in is_class.shape)
    step = is_class.shape[1] + 1  # from a pixel to the one below: rows are parted, so that no run reaches into the next
    runs = np.flatnonzero(np.diff(is_class, axis=1, prepend=False, append=False)).reshape(-1, 2)
    first, last = runs[:, 0], runs[:, 1] - 1
    # Runs touch if they have a common column: in the next row, from the first run that does not end before.
    start, stop = np.searchsorted(last, first + step), np.searchsorted(first, last + step, "right")
    upper, nth = _each_of((stop - start).clip(0))
    touching = coo_array((np.ones(len(upper)), (upper, start[upper] + nth)), shape=(len(runs), len(runs)))
    count, region_of = connected_components(touching, directed=False)

    row, left = np.divmod(first, step)
    right = left + last - first
    low, high = np.full((2, count), is_class.size), np.zeros((2, count), np.int64)
    for side, (begin, end) in enumerate(((row, row), (left, right))):
        np.minimum.at(low[side], region_of, begin)
        np.maximum.at(high[side], region_of, end)
    middle_row, middle_column = (low + high + 1) // 2 // STYLE_CELL
    middle_of = np.where((high - low).max(0) < REGION_SIDE, middle_row * across + middle_column, -1)

    middles = np.full(down * across, -1)
    run, nth = _each_of(right // STYLE_CELL - left // STYLE_CELL + 1)
    cells = (row // STYLE_CELL * across + left // STYLE_CELL)[run] + nth
    np.maximum.at(middles, cells, middle_of[region_of[run]])
    return middles.reshape(down, across)


def _each_of(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For (n,) items with these numbers of parts: the item of each part, and the part's number in it, from 0."""
    thing = np.repeat(np.arange(len(counts)), counts)
    return thing, np.arange(len(thing)) - (np.cumsum(counts) - counts)[thing]


def in_one_look(styles: Tensor, ways: Tensor, classes: Sequence[int]) -> Tensor:
    """Styles of a window, where each region has the style of its middle.

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
