"""Windows at absolute positions: what noise and looks are computed for.

Positions are absolute: (row, column) of a pixel counted from the origin of its coordinate reference system.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor


class Windows(NamedTuple):
    """Windows of one size at absolute positions, one for each sample of a batch; in pixels."""

    row: Tensor
    """(B,) int64, the first row of each."""
    column: Tensor
    """(B,) int64, likewise."""
    height: int
    width: int

    @classmethod
    def at(cls, row: int, column: int, height: int, width: int, device: torch.device | str = "cpu") -> Self:
        """One window; without reading from the device or a blocking copy to it."""
        first_row, first_column = (torch.full((1,), place, dtype=torch.int64, device=device) for place in (row, column))
        return cls(first_row, first_column, height, width)

    def buffer(self, pixels: int) -> Self:
        """The windows with so many pixels more on each side; with fewer, if negative."""
        height, width = (side + 2 * pixels for side in (self.height, self.width))
        return type(self)(self.row - pixels, self.column - pixels, height, width)

    def in_cells(self, stride: int) -> Self:
        """The same windows counted in cells of `stride` pixels, of which all numbers are multiples."""
        return type(self)(self.row // stride, self.column // stride, self.height // stride, self.width // stride)


def middles_of_cells(start: Tensor, count: int, stride: int) -> Tensor:
    """The middles of `count` cells from (B,) start on, (B, count); float64, as positions reach 10^7 pixels."""
    steps = torch.arange(count, dtype=torch.float64, device=start.device) * stride
    return steps + start.view(-1, 1) + stride / 2
