"""What is evaluated, as tiles: a window of real and synthetic pixels and their classes, and the place it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from geosynth.evaluation.inputs import Block, Inputs
from geosynth.grid import TilePlan, Window
from geosynth.legend import Legend

_READ_SIZE = 1024  # pixels of a raster read at once, at least
MAX_UNITS = 100


class Tile(NamedTuple):
    """A square, or what the edge of the area leaves of one.

    Attributes:
        number: counts the tiles of the pair, 0 first.
        window: as `TilePair.read` takes it.
        unit: the place that the tile belongs to: what is drawn for intervals.
    """

    number: int
    window: Window
    unit: int


class Piece(NamedTuple):
    """What is read at once.

    Attributes:
        block: its pixels; of a raster with one more row and column where the area goes on.
        tiles: each with its window inside `block`.
        seam_origin: (row, column) of the first pixel in the raster that was made of blocks; None: there is none.
        shape: height and width of the block proper.
    """

    block: Block
    tiles: list[tuple[Tile, Window]]
    seam_origin: tuple[int, int] | None
    shape: tuple[int, int]


class TilePair(Protocol):
    """Real and synthetic imagery with labels, as tiles that do not overlap.

    Attributes:
        legend, bands, tile_size: of the tiles.
        num_tiles: whole ones and others.
        num_units: places.
        unit_kind: what a place is, in words.
        num_pieces: that `pieces` yields.
    """

    legend: Legend
    bands: tuple[str, ...]
    tile_size: int
    num_tiles: int
    num_units: int
    unit_kind: str
    num_pieces: int

    def pieces(self) -> Iterator[Piece]:
        """Each tile once, in an order that is always the same."""

    def read(self, window: Window) -> Block:
        """The pixels of a window inside of what is evaluated."""

    def frame(self, window: Window, height: int, width: int) -> Window:
        """A window of about that size around another's middle, moved and cropped to lie inside."""

    def describe(self, window: Window) -> str:
        """Where the window lies, for people."""


class RasterTiles:
    """Tiles of the common area of three rasters; a place is a tile, or a square of tiles where there are many.

    Args:
        inputs: the rasters.
        tile_size: pixels.
    """

    def __init__(self, inputs: Inputs, tile_size: int) -> None:
        self.inputs, self.tile_size = inputs, tile_size
        self.legend, self.bands = inputs.legend, inputs.bands
        self._rows, self._columns = -(-inputs.area.height // tile_size), -(-inputs.area.width // tile_size)
        self._group, self._units_across, self.num_units = square_groups(self._rows, self._columns)
        self.num_tiles = self._rows * self._columns
        side = self._group * tile_size
        self.unit_kind = f"squares of {side} px, which touch: intervals may be too narrow"
        self._plan = TilePlan(inputs.area.height, inputs.area.width, tile_size * max(1, _READ_SIZE // tile_size))
        self.num_pieces = len(self._plan)

    def pieces(self) -> Iterator[Piece]:  # noqa: D102
        area = self.inputs.area
        whole = Window(0, 0, area.height, area.width)
        row, column = self.inputs.synthetic_origin
        for window in self._plan:
            # One more row and column, for the steps to the neighbouring blocks.
            grown = whole.intersection(Window(window.row, window.column, window.height + 1, window.width + 1))
            assert grown is not None
            tiles = [
                (self._tile(inside.shift(window.row, window.column)), inside)
                for inside in TilePlan(window.height, window.width, self.tile_size)
            ]
            origin = row + window.row, column + window.column
            yield Piece(self.inputs.read(grown), tiles, origin, (window.height, window.width))

    def read(self, window: Window) -> Block:  # noqa: D102
        return self.inputs.read(window)

    def frame(self, window: Window, height: int, width: int) -> Window:  # noqa: D102
        area = self.inputs.area
        return centred(window, Window(0, 0, area.height, area.width), height, width)

    def describe(self, window: Window) -> str:  # noqa: D102
        area = self.inputs.area
        return f"real raster, {window.shift(area.row, area.column)}"

    def _tile(self, window: Window) -> Tile:
        row, column = window.row // self.tile_size, window.column // self.tile_size
        unit = row // self._group * self._units_across + column // self._group
        return Tile(row * self._columns + column, window, unit)


def square_groups(rows: int, columns: int) -> tuple[int, int, int]:
    """Side (tiles), number across and number of the smallest squares of tiles of which there are at most 100."""
    side = next(side for side in range(1, rows + columns + 1) if -(-rows // side) * -(-columns // side) <= MAX_UNITS)
    return side, -(-columns // side), -(-rows // side) * -(-columns // side)


def centred(window: Window, inside: Window, height: int, width: int) -> Window:
    """A window around the middle of another, moved (and where too large, cropped) to lie inside of a third."""
    height, width = min(height, inside.height), min(width, inside.width)
    row = window.row + window.height // 2 - height // 2
    column = window.column + window.width // 2 - width // 2
    return Window(
        min(max(row, inside.row), inside.bottom - height),
        min(max(column, inside.column), inside.right - width),
        height,
        width,
    )


def is_whole(block: Block, num_classes: int, tile_size: int) -> bool:
    """Whether a tile is a full square of which every pixel has a class and both images."""
    return block.indices.shape == (tile_size, tile_size) and bool((block.indices < num_classes).all())
