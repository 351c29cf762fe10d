"""Rasters that lie on one pixel grid, and how they are laid over each other: later ones win, where they have data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geosynth.errors import DataError, GridError
from geosynth.grid import Window, WindowIndex, crop, offset_in
from geosynth.grid.alignment import is_nowhere
from geosynth.raster.colours import ColourLabels
from geosynth.raster.read import SCAN_BLOCK, Array, Mask, Raster, check_inside


def lay_over(values: Array, valid: Mask, place: tuple[slice, slice], later: Array, has_data: Mask) -> None:
    """Lay pixels over others, in place: the later ones win, but where they have no data they hide none.

    Args:
        values: (bands, height, width) to lay them on.
        valid: (height, width): where these have data.
        place: rows and columns of `values` that are covered.
        later: (bands, height, width) of the place.
        has_data: (height, width): where these have data.
    """
    np.copyto(values[(slice(None), *place)], later, where=has_data | ~valid[place])
    valid[place] |= has_data


class TileMosaic:
    """Single-band tiles, seamless: what lies between them is nodata, what overlaps is the later tile's. A `Raster`."""

    count = 1

    def __init__(self, tiles: Sequence[Raster], path: str) -> None:
        """Lay the tiles down; none of their pixels is read.

        Args:
            tiles: in the order in which they are laid down.
            path: what messages call them all.

        Raises:
            GridError: if one lies on another grid than the first; names it.
            DataError: if one has several bands, some hold colours and others codes, or their dtypes have no integer
                type in common.
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
            if isinstance(tile, ColourLabels) != isinstance(tiles[0], ColourLabels):
                raise DataError(f"{tile.path} and {tiles[0].path}: one tells classes by codes, the other by colours")
            if len(tiles) > 1 and is_nowhere(tile.geobox):
                raise GridError(f"{tile.path}: has no georeference, so its place among the other tiles is unknown")
            windows.append(tile.window.shift(*offset_in(first, tile.geobox, tile.path)))
        self.dtype: np.dtype[Any] = np.result_type(*{tile.dtype for tile in tiles})
        """That holds the codes of all tiles."""
        if self.dtype.kind == "f" and all(tile.dtype.kind != "f" for tile in tiles):
            raise DataError(f"{path}: its tiles are both int64 and uint64; no integer type holds both")
        nodata = {tile.nodata for tile in tiles}
        self.nodata = nodata.pop() if len(nodata) == 1 else None
        """What all tiles declare, or None where they differ."""
        whole = Window.around(windows)
        self.geobox = crop(first, whole)
        """The smallest rectangle around all tiles, on the grid of the first."""
        self.window = Window(0, 0, *self.geobox.shape)
        self.places = WindowIndex([window.shift(-whole.row, -whole.column) for window in windows])
        """Of the tiles in the mosaic."""

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where a tile has data (height, width); see `Raster.read`."""
        check_inside(window, self)
        values = np.full((1, window.height, window.width), 0 if self.nodata is None else self.nodata, self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        for number, part, place in self.places.touching(window):
            lay_over(values, valid, place, *self.tiles[number].read(part))
        return values, valid

    def count_disagreements(self) -> int:
        """Pixels where two tiles have data and differ; reads the overlaps only."""
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


class TileInMosaic:
    """One tile of a mosaic, as a raster of its own that knows what lies around it. A `Raster`.

    Where tiles overlap, its codes are those of the mosaic, so that neighbours agree; where it has no data itself, it
    has none.

    Args:
        mosaic: all tiles.
        number: of the tile.
    """

    count = 1

    def __init__(self, mosaic: TileMosaic, number: int) -> None:
        self.mosaic, self.tile, self.place = mosaic, mosaic.tiles[number], mosaic.places.windows[number]
        self.path, self.geobox, self.window = self.tile.path, self.tile.geobox, self.tile.window
        self.dtype, self.nodata = mosaic.dtype, self.tile.nodata

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes of the mosaic (1, height, width), and where the tile has data (height, width); see `Raster.read`."""
        check_inside(window, self)
        return self.mosaic.read(window.shift(self.place.row, self.place.column))[0], self.tile.read(window)[1]


def with_neighbours(tiles: Sequence[Raster]) -> list[Raster]:
    """Each of many label files, together with those of the others that lie on its pixel grid.

    Args:
        tiles: on one grid or on several; files without georeference, and images, stay alone; codes and colours apart.

    Returns:
        in the same order.
    """
    groups: list[list[int]] = []
    for index, tile in enumerate(tiles):
        if tile.count != 1 or is_nowhere(tile.geobox):
            continue
        for group in groups:
            if type(tiles[group[0]]) is not type(tile):
                continue
            try:
                offset_in(tiles[group[0]].geobox, tile.geobox, tile.path)
            except GridError:
                continue
            group.append(index)
            break
        else:
            groups.append([index])
    result = list(tiles)
    for group in groups:
        if len(group) > 1:
            mosaic = TileMosaic([tiles[index] for index in group], tiles[group[0]].path)
            for number, index in enumerate(group):
                result[index] = TileInMosaic(mosaic, number)
    return result
