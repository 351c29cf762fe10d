"""TilePlan: how a raster is cut into blocks, or into overlapping tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from geosynth.errors import GridError
from geosynth.grid.window import Window

Edge = Literal["crop", "align", "skip"]


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles of `size` x `size` pixels every `stride` pixels, from the raster's first pixel on, row by row.

    Where the last full tile does not end at the raster's far edge, `edge` says what becomes of the rest:
        "crop": one more tile, cut off at the edge;
        "align": one more full tile that ends at the edge, so it overlaps the one before more than others do;
        "skip": nothing, the rest is in no tile.
    A raster smaller than a tile is one cropped tile with "crop", else has none.

    Attributes:
        height, width: of the raster, pixels.
        size: of a tile, pixels.
        stride: pixels from one tile to the next; None: `size`, so that every pixel lies in exactly one block.
        edge: see above.

    Raises:
        GridError: if a size or the stride is not positive.
    """

    height: int
    width: int
    size: int
    stride: int | None = None
    edge: Edge = "crop"

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.size) <= 0:
            raise GridError(f"cannot cut {self.height} x {self.width} px into blocks of {self.size} px")
        if self.stride is not None and self.stride <= 0:
            raise GridError(f"a stride needs to be positive, got {self.stride} px")

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Window]:
        for row in self.rows:
            for column in self.columns:
                yield Window(row, column, min(self.size, self.height - row), min(self.size, self.width - column))

    @property
    def rows(self) -> list[int]:
        """First rows of the tiles."""
        return self._starts(self.height)

    @property
    def columns(self) -> list[int]:
        """First columns of the tiles."""
        return self._starts(self.width)

    def _starts(self, length: int) -> list[int]:
        stride = self.stride or self.size
        starts = list(range(0, length - self.size + 1, stride))
        rest = length - (starts[-1] + self.size) if starts else length
        if rest > 0 and self.edge == "crop":
            starts.append(starts[-1] + stride if starts else 0)
        elif rest > 0 and self.edge == "align" and starts:
            starts.append(length - self.size)
        return [start for start in starts if start < length]
