"""BlockPlan: how a raster is cut into blocks that lie on one lattice of absolute positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

from geosynth.grid.window import Window


@dataclass(frozen=True, slots=True)
class BlockPlan(Sequence[Window]):
    """Blocks of `size` x `size` pixels whose edges are absolute multiples of `size`, cropped to the raster; row by row.

    Rasters on one pixel grid are cut along the same lines, so that what is painted block by block is the same in both.

    Attributes:
        height, width: of the raster, pixels.
        origin: absolute (row, column) of the raster's first pixel.
        size: of a block, pixels.
    """

    height: int
    width: int
    origin: tuple[int, int]
    size: int

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        """The block of this number, in the raster's pixel coordinates."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index % len(self), len(self.columns))
        (top, height), (left, width) = self.rows[row], self.columns[column]
        return Window(top, left, height, width)

    def touching(self, window: Window) -> list[int]:
        """Numbers of the blocks that share pixels with a window."""
        rows = [
            index for index, (top, height) in enumerate(self.rows) if top < window.bottom and top + height > window.row
        ]
        columns = [
            index
            for index, (left, width) in enumerate(self.columns)
            if left < window.right and left + width > window.column
        ]
        return [row * len(self.columns) + column for row in rows for column in columns]

    @property
    def rows(self) -> list[tuple[int, int]]:
        """(first row, height) of each row of blocks."""
        return cut(0, self.height, self.origin[0], self.size)

    @property
    def columns(self) -> list[tuple[int, int]]:
        """(first column, width) of each column of blocks."""
        return cut(0, self.width, self.origin[1], self.size)


def cut(start: int, stop: int, origin: int, size: int) -> list[tuple[int, int]]:
    """(start, length) of the pieces of [start, stop) between positions where start + origin is a multiple of size."""
    edges = [start, *range((start + origin) // size * size + size - origin, stop, size), stop]
    return [(first, last - first) for first, last in pairwise(edges)]
