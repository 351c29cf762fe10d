"""TilePlan: how a raster is cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geosynth.errors import GridError
from geosynth.grid.window import Window


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Blocks of `size` x `size` pixels from the raster's first pixel on, those at the far edges cropped.

    Every pixel lies in exactly one block.

    Raises:
        GridError: if a size is not positive.
    """

    height: int
    width: int
    size: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.size) <= 0:
            raise GridError(f"cannot cut {self.height} x {self.width} px into blocks of {self.size} px")

    def __len__(self) -> int:
        return -(-self.height // self.size) * -(-self.width // self.size)

    def __iter__(self) -> Iterator[Window]:
        """Blocks row by row."""
        for row in range(0, self.height, self.size):
            for column in range(0, self.width, self.size):
                yield Window(row, column, min(self.size, self.height - row), min(self.size, self.width - column))
