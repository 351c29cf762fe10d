"""Window: a rectangle of whole pixels, validated once so that later code never checks again."""

from __future__ import annotations

from dataclasses import dataclass

from geosynth.errors import GridError


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """Rows `row` .. `row + height - 1`, columns `column` .. `column + width - 1`.

    Row and column may be negative (a halo reaches beyond its raster).

    Raises:
        GridError: if height or width is not positive.
    """

    row: int
    column: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise GridError(f"a window needs a positive size, got {self.height} x {self.width} px")

    @property
    def bottom(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """First column right of the window."""
        return self.column + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns), for windows without negative origin."""
        return slice(self.row, self.bottom), slice(self.column, self.right)

    def buffer(self, pixels: int) -> Window:
        """Grown by `pixels` on each side."""
        return Window(self.row - pixels, self.column - pixels, self.height + 2 * pixels, self.width + 2 * pixels)

    def shift(self, rows: int, columns: int) -> Window:
        """Moved down and right."""
        return Window(self.row + rows, self.column + columns, self.height, self.width)

    def intersection(self, other: Window) -> Window | None:
        """The common rectangle; None if there is none."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        height, width = min(self.bottom, other.bottom) - row, min(self.right, other.right) - column
        return Window(row, column, height, width) if height > 0 and width > 0 else None

    def contains(self, other: Window) -> bool:
        """Whether `other` lies inside."""
        return self.intersection(other) == other

    def __str__(self) -> str:
        return f"rows {self.row}-{self.bottom - 1}, columns {self.column}-{self.right - 1}"
