"""The edge effect: how the style of a class changes with the share of the class around a place.

Grass beside trees and houses is full of shadows, while that of a wide field is even; shallow water along a bank is
mottled, the middle of a lake is not. In Ohio, the share of its class around a cell explains a third of how spread and
detail of low vegetation differ from cell to cell, and up to half of those of water. A style that was observed in one
surrounding is therefore changed to that of the place where it is painted. Without this, open grass was painted with
dark marks that belong beside trees.

The change is linear in two numbers: the share, and how far it exceeds 0.9, as most of the change is close to the edge.
Spreads and detail change; colours do not, of which the share explains at most a tenth (a third in near infrared of
water), and directions do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geosynth.config.networks import EDGE_SIDE
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import STYLE_CELL, num_bands_of

_REACH = EDGE_SIDE // STYLE_CELL  # cells on each side of a cell, in which the share around it is measured
_INSIDE = 0.9  # share from which on a place counts as inside its object
_UNSURE = 0.1  # over the number of tiles, added to the variances of the two numbers: few tiles show a weak effect


def shares_around(labels: npt.NDArray[Any], num_classes: int) -> npt.NDArray[np.float32]:
    """The share of each class in the square of 9 x 9 cells around each cell, or in the part of it that is in `labels`.

    Args:
        labels: (H, W) uint8 class indices; H and W multiples of `STYLE_CELL`.
        num_classes: of the labels; indices from here on are pixels without a class, which count as others.

    Returns:
        (num_classes, H / 8, W / 8), in [0, 1].
    """
    down, across = (side // STYLE_CELL for side in labels.shape)
    labels = np.ascontiguousarray(labels, np.uint8)
    pixels = np.zeros((num_classes, down, across), np.int64)
    for number in range(num_classes):
        # Eight pixels of a row at once, as the bytes of a number: over 20 times as fast as a sum over two axes.
        eights = (labels == number).view(np.uint64).reshape(down, STYLE_CELL, across).sum(1)
        pixels[number] = (eights * np.uint64(0x0101010101010101)) >> np.uint64(56)
    area = _in_squares(np.full((1, down, across), STYLE_CELL**2))
    return (_in_squares(pixels) / area).astype(np.float32)


def _in_squares(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sums over the squares around each cell, (n, h, w); of whole numbers, so that they are exact."""
    for axis in (1, 2):
        ends = np.arange(values.shape[axis])
        before = np.insert(values.cumsum(axis), 0, 0, axis)
        first, last = (ends - _REACH).clip(0), (ends + _REACH + 1).clip(max=len(ends))
        values = before.take(last, axis) - before.take(first, axis)
    return values


def edge_change(share: Tensor, of_share: Tensor, of_inside: Tensor) -> Tensor:
    """The part of a style that depends on the share of its class around; tensors that broadcast."""
    return share * of_share + ((share - _INSIDE).clamp(min=0) / (1 - _INSIDE)) * of_inside


def of_edges(around: Tensor, effect: Tensor) -> Tensor:
    """The part of observed styles that depends on the share around them, (tiles, num_classes, objects, style_size).

    Args:
        around: the shares, (tiles, num_classes, objects).
        effect: (num_classes, 2, style_size).
    """
    return edge_change(around.unsqueeze(3), *effect.unsqueeze(2).unbind(1))


def without_edges(look: Look) -> tuple[Look, Tensor]:
    """A look without an edge effect, whose styles depart from the mean by what the shares around do not explain.

    Returns:
        the look, and the mean of what they explain, (num_classes, style_size).
    """
    if look.around is None or look.edge_effect is None:
        return look, torch.zeros_like(look.mean)
    explained = of_edges(look.around, look.edge_effect)
    usual = explained.mean((0, 2), keepdim=True)
    even = replace(look, departures=look.departures - (explained - usual), around=None, edge_effect=None)
    return even, usual[0, :, 0]


def fitted_edge_effect(styles: Tensor, shares: Tensor, without: Sequence[int] = ()) -> Tensor:
    """The edge effect of each class in observed styles, by least squares, (num_classes, 2, style_size).

    The two rows are the changes with the share and with what exceeds 0.9, as `edge_change` takes them; 0 for means and
    directions.

    Args:
        styles: (tiles, num_classes, objects, style_size).
        shares: of their class around them, (tiles, num_classes, objects).
        without: classes without an effect, such as those whose regions have one style each.
    """
    one, zero = shares.new_ones(()), shares.new_zeros(())
    numbers = torch.stack([edge_change(shares, *ways) for ways in ((one, zero), (zero, one))], -1).transpose(0, 1)
    known = numbers.flatten(1, 2) - numbers.flatten(1, 2).mean(1, keepdim=True)
    wanted = styles.transpose(0, 1).flatten(1, 2)
    unsure = _UNSURE / len(styles) * known.shape[1] * torch.eye(2, dtype=known.dtype)
    effect: Tensor = torch.linalg.solve(known.mT @ known + unsure, known.mT @ (wanted - wanted.mean(1, keepdim=True)))
    effect[..., : num_bands_of(effect.shape[2])] = 0
    effect[..., -2:] = 0
    effect[list(without)] = 0
    return effect
