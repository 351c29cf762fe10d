"""TilePlan: how a raster is cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geosynth.errors import GridError
from geosynth.grid.window import Window


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Blocks of `size` pixels on a lattice, cropped to the raster.

    Every pixel lies in exactly one block. The lattice is fixed to absolute positions: `origin` is the absolute (row,
    column) of the raster's first pixel, and block edges stand on absolute multiples of `size`, so two rasters on one
    pixel grid are cut along the same lines.

    Raises:
        GridError: if a size is not positive.
    """

    height: int
    width: int
    size: int
    origin: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.size) <= 0:
            raise GridError(f"cannot cut {self.height} x {self.width} px into blocks of {self.size} px")

    def __len__(self) -> int:
        return len(self._edges(0)) * len(self._edges(1))

    def __iter__(self) -> Iterator[Window]:
        """Blocks row by row, in the raster's own pixel coordinates."""
        for top, bottom in self._edges(0):
            for left, right in self._edges(1):
                yield Window(top, left, bottom - top, right - left)

    def _edges(self, axis: int) -> list[tuple[int, int]]:
        length, origin = (self.height, self.width)[axis], self.origin[axis]
        starts = range(-(origin % self.size), length, self.size)
        return [(max(start, 0), min(start + self.size, length)) for start in starts]
