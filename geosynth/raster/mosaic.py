"""Rasters on one pixel grid, and how they are laid over each other: the later one counts where it has data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geosynth.errors import DataError, GridError
from geosynth.grid import Window, WindowIndex, crop, offset_in
from geosynth.grid.alignment import is_nowhere
from geosynth.grid.groups import alike_groups
from geosynth.raster.class_table import ClassTable
from geosynth.raster.read import SCAN_BLOCK, Array, Mask, Raster, View, check_inside


def lay_over(values: Array, valid: Mask, place: tuple[slice, slice], later: Array, has_data: Mask) -> None:
    """Lay pixels over others, in place: the later ones count, except where they have no data.

    Args:
        values: (bands, height, width), changed in place.
        valid: (height, width), where `values` have data; changed in place.
        place: rows and columns of `values` that are covered.
        later: (bands, height, width) of this place.
        has_data: (height, width), where `later` has data.
    """
    np.copyto(values[(slice(None), *place)], later, where=has_data | ~valid[place])
    valid[place] |= has_data


class TileMosaic(Raster):
    """Single-band tiles as one raster: no data between tiles, the later tile where they overlap."""

    def __init__(self, tiles: Sequence[Raster], path: str) -> None:
        """Join the tiles; no pixel is read.

        Args:
            tiles: in the order in which they are laid over each other.
            path: their common name in messages.

        Raises:
            GridError: if one is on another grid than the first; it names the tile.
            DataError: if one has several bands, if some contain colours and others codes, or if no integer type holds
                the values of all.
        """
        self.path = path
        self.tiles = tuple(tiles)
        first = tiles[0].geobox
        windows = []
        for tile in tiles:
            if tile.count != 1:
                raise DataError(
                    f"{tile.path}: has {tile.count} bands; label tiles have one band of class codes, or red, green and"
                    " blue bytes in the colours of their classes"
                )
            if tile.holds_colours != tiles[0].holds_colours:
                raise DataError(f"{tile.path} and {tiles[0].path}: one tells classes by codes, the other by colours")
            if len(tiles) > 1 and is_nowhere(tile.geobox):
                raise GridError(f"{tile.path}: has no georeference, so its place among the other tiles is unknown")
            windows.append(tile.window.shift(*offset_in(first, tile.geobox, tile.path)))
        self.dtype: np.dtype[Any] = np.result_type(*{tile.dtype for tile in tiles})
        """A type that holds the codes of all tiles."""
        if self.dtype.kind == "f" and all(tile.dtype.kind != "f" for tile in tiles):
            raise DataError(f"{path}: its tiles are both int64 and uint64; no integer type holds both")
        nodata = {tile.nodata for tile in tiles}
        self.nodata = nodata.pop() if len(nodata) == 1 else None
        """The nodata value that all tiles declare; None if they differ."""
        whole = Window.around(windows)
        self.geobox = crop(first, whole)
        """The smallest rectangle around all tiles, on the grid of the first."""
        self.places = WindowIndex([window.shift(-whole.row, -whole.column) for window in windows])
        """Windows of the tiles in the mosaic."""
        self.tags, self.holds_colours = tiles[0].tags, tiles[0].holds_colours

    @property
    def files(self) -> tuple[str, ...]:
        """The files of all tiles."""
        return tuple(file for tile in self.tiles for file in (tile.path, *tile.files))

    @property
    def class_table(self) -> ClassTable:
        """That of the first tile."""
        return self.tiles[0].class_table

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where a tile has data (height, width); see `Raster.read`."""
        check_inside(window, self)
        values = np.full((1, window.height, window.width), 0 if self.nodata is None else self.nodata, self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        for number, part, place in self.places.touching(window):
            lay_over(values, valid, place, *self.tiles[number].read(part))
        return values, valid

    def count_disagreements(self) -> int:
        """Number of pixels where two tiles have data and differ; reads only the overlaps."""
        differing = 0
        for number, own in enumerate(self.places.windows):
            for other, shared, _ in self.places.touching(own):
                if other <= number:
                    continue
                theirs = self.places.windows[other]
                for local in shared.pieces(SCAN_BLOCK):
                    codes, valid = self.tiles[other].read(local)
                    below = local.shift(theirs.row - own.row, theirs.column - own.column)
                    own_codes, own_valid = self.tiles[number].read(below)
                    differing += int(((codes != own_codes)[0] & valid & own_valid).sum())
        return differing


class TileInMosaic(View):
    """One tile of a mosaic, as a raster that knows its surroundings.

    Where tiles overlap, it has the codes of the mosaic, so that neighbours agree; where the tile itself has no data,
    there is none.

    Args:
        mosaic: all tiles.
        number: index of the tile, from 0.
    """

    def __init__(self, mosaic: TileMosaic, number: int) -> None:
        super().__init__(mosaic.tiles[number])
        self.mosaic, self.place, self.dtype = mosaic, mosaic.places.windows[number], mosaic.dtype

    @property
    def files(self) -> tuple[str, ...]:
        """The files of all tiles."""
        return self.mosaic.files

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes of the mosaic (1, height, width), and where the tile has data (height, width); see `Raster.read`."""
        check_inside(window, self)
        return self.mosaic.read(window.shift(self.place.row, self.place.column))[0], self.source.read(window)[1]


def _are_neighbours(tile: Raster, other: Raster) -> bool:
    """Whether two label files are on one pixel grid, and tell classes in the same way."""
    if type(tile) is not type(other) or any(one.count != 1 or is_nowhere(one.geobox) for one in (tile, other)):
        return False
    try:
        offset_in(tile.geobox, other.geobox)
    except GridError:
        return False
    return True


def with_neighbours(tiles: Sequence[Raster]) -> list[Raster]:
    """Each of many label files, together with those of the others that are on its pixel grid.

    Args:
        tiles: on one or several grids. Files without georeference, and images, get no neighbours; codes and colours are
            kept apart.

    Returns:
        in the same order.
    """
    result = list(tiles)
    for group in alike_groups(tiles, _are_neighbours):
        if len(group) > 1:
            mosaic = TileMosaic([tiles[index] for index in group], tiles[group[0]].path)
            for number, index in enumerate(group):
                result[index] = TileInMosaic(mosaic, number)
    return result
