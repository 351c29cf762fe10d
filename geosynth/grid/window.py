"""Windows: rectangles of whole pixels, validated once so that later code need not check again; and plans of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from geosynth.errors import GridError


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """Rows `row` to `row + height - 1`, columns `column` to `column + width - 1`.

    Row and column may be negative, as a halo may exceed its raster.

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
        """(rows, columns) as slices, for windows without a negative origin."""
        return slice(self.row, self.bottom), slice(self.column, self.right)

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """(rows, columns) of this window, as slices of an array with the pixels of `outer`, which contains it."""
        return self.shift(-outer.row, -outer.column).slices

    def buffer(self, pixels: int) -> Window:
        """The window extended by `pixels` on each side; a negative number makes it smaller."""
        return Window(self.row - pixels, self.column - pixels, self.height + 2 * pixels, self.width + 2 * pixels)

    def shift(self, rows: int, columns: int) -> Window:
        """The window moved down by `rows` and right by `columns`."""
        return Window(self.row + rows, self.column + columns, self.height, self.width)

    def intersection(self, other: Window) -> Window | None:
        """The common rectangle; None if there is none."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        height, width = min(self.bottom, other.bottom) - row, min(self.right, other.right) - column
        return Window(row, column, height, width) if height > 0 and width > 0 else None

    def overlap(self, other: Window) -> Window:
        """The rectangle that it has in common with another window.

        Raises:
            GridError: if they have no pixel in common.
        """
        common = self.intersection(other)
        if common is None:
            raise GridError(f"{self} and {other} have no pixel in common")
        return common

    def middle(self, height: int, width: int) -> Window:
        """The part in its middle, of at most this height and width."""
        height, width = min(height, self.height), min(width, self.width)
        return Window(self.row + (self.height - height) // 2, self.column + (self.width - width) // 2, height, width)

    def pieces(self, size: int) -> list[Window]:
        """The window as squares of `size` pixels from its first pixel on, cropped at its far edges, row by row."""
        return [piece.shift(self.row, self.column) for piece in TilePlan(self.height, self.width, size)]

    @staticmethod
    def around(windows: Sequence[Window]) -> Window:
        """The smallest rectangle that contains all of some windows (at least one)."""
        row, column = min(window.row for window in windows), min(window.column for window in windows)
        bottom, right = max(window.bottom for window in windows), max(window.right for window in windows)
        return Window(row, column, bottom - row, right - column)

    def contains(self, other: Window) -> bool:
        """Whether `other` is inside."""
        return self.intersection(other) == other

    def __str__(self) -> str:
        return f"rows {self.row}-{self.bottom - 1}, columns {self.column}-{self.right - 1}"


def as_array(windows: Sequence[Window]) -> npt.NDArray[np.int64]:
    """Windows as an array (n, 4): row, column, height, width."""
    rows = [(window.row, window.column, window.height, window.width) for window in windows]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


class WindowIndex:
    """Many windows of one grid, to find those that overlap another one: microseconds for a thousand."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = tuple(windows)
        first, sides = np.hsplit(as_array(windows), 2)
        self._edges = np.hstack([first, first + sides])

    def touching(self, window: Window) -> Iterator[tuple[int, Window, tuple[slice, slice]]]:
        """The windows that share pixels with another one.

        Yields:
            number of the window, the shared part in its own pixels, and the shared part as slices of the other one.
        """
        top, left, bottom, right = self._edges.T
        near = (top < window.bottom) & (left < window.right) & (bottom > window.row) & (right > window.column)
        for number in np.flatnonzero(near).tolist():
            own = self.windows[number]
            part = own.overlap(window)
            yield number, part.shift(-own.row, -own.column), part.slices_in(window)


Edge = Literal["crop", "align", "skip"]


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles of `size` x `size` pixels every `stride` pixels, from the raster's first pixel on, row by row.

    If the last full tile does not end at the raster's far edge, `edge` says what happens to the rest:

    - "crop": one more tile, cropped at the edge;
    - "align": one more full tile that ends at the edge, so that it overlaps the previous one more than others do;
    - "skip": nothing, the rest is in no tile.

    A raster smaller than a tile has one cropped tile with "crop", else none.

    Raises:
        GridError: if a size or the stride is not positive.
    """

    height: int
    """Of the raster, in pixels."""
    width: int
    """Of the raster, in pixels."""
    size: int
    """Side of a tile in pixels."""
    stride: int | None = None
    """Pixels from one tile to the next; None for `size`, so that tiles do not overlap."""
    edge: Edge = "crop"
    """What happens at the far edges, see above."""

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


@dataclass(frozen=True)
class BlockPlan(Sequence[Window]):
    """Blocks of `size` x `size` pixels, with edges at absolute multiples of `size`, cropped to the raster, row by row.

    Rasters on one pixel grid are cut along the same lines, so that what is painted block by block is the same in all.
    """

    height: int
    """Of the raster, in pixels."""
    width: int
    """Of the raster, in pixels."""
    origin: tuple[int, int]
    """Absolute (row, column) of the raster's first pixel."""
    size: int
    """Side of a block in pixels."""
    least: int = 0
    """In pixels: a strip at an edge of the raster that is narrower than this is joined to the neighbouring block."""

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
        place = divmod(index % len(self), len(self.columns))
        (row, height), (column, width) = self.rows[place[0]], self.columns[place[1]]
        return Window(row, column, height, width)

    def touching(self, window: Window) -> list[int]:
        """Numbers of the blocks that overlap a window."""
        inside = window.intersection(Window(0, 0, self.height, self.width))
        if inside is None:
            return []
        rows, columns = (
            range(bisect_right(starts, first) - 1, bisect_left(starts, stop))
            for starts, first, stop in (
                ([row for row, _ in self.rows], inside.row, inside.bottom),
                ([column for column, _ in self.columns], inside.column, inside.right),
            )
        )
        return [row * len(self.columns) + column for row in rows for column in columns]

    @cached_property
    def rows(self) -> list[tuple[int, int]]:
        """(first row, height) of each row of blocks."""
        return cut(0, self.height, self.origin[0], self.size, self.least)

    @cached_property
    def columns(self) -> list[tuple[int, int]]:
        """(first column, width) of each column of blocks."""
        return cut(0, self.width, self.origin[1], self.size, self.least)


def cut(start: int, stop: int, origin: int, size: int, least: int = 0) -> list[tuple[int, int]]:
    """(start, length) of the pieces of [start, stop), cut where position + origin is a multiple of `size`.

    A first or last piece shorter than `least` is joined to its neighbour.
    """
    edges = [start, *range((start + origin) // size * size + size - origin, stop, size), stop]
    for inner, end in ((-2, stop), (1, start)):
        if len(edges) > 2 and abs(edges[inner] - end) < least:
            del edges[inner]
    return [(first, last - first) for first, last in pairwise(edges)]
