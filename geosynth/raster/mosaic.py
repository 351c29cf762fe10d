"""Many raster tiles on one pixel grid, read as one raster."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError
from geosynth.grid import TilePlan, Window, offset_in
from geosynth.raster.read import Array, Mask, RasterFile, check_inside, open_raster

_LOG = logging.getLogger(__name__)
_SCAN_BLOCK = 2048


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
    """Single-band tiles, seamless: what lies between them is nodata, what overlaps is the later tile's.

    A tile is later if its name sorts later; its own nodata hides nothing. Files are opened when a window needs them,
    and few at a time stay open.

    Attributes:
        path: what messages call it.
        geobox: of all tiles together, on the grid of the first.
        count: 1.
        dtype: that holds the codes of all tiles.
        nodata: what all tiles declare, or None where they differ.
        tiles: the rasters, in the order in which they are laid down.
    """

    count = 1

    def __init__(self, tiles: Sequence[str | Path | RasterFile], path: str) -> None:
        """Read what the tiles say of themselves, not their pixels.

        Raises:
            RasterError: if one cannot be opened.
            GridError: if one lies on another grid than the first; names it.
            DataError: if one has several bands, or their dtypes have no integer type in common.
        """
        self.path = path
        self.tiles = [tile if isinstance(tile, RasterFile) else open_raster(tile) for tile in tiles]
        first = self.tiles[0].geobox
        places = []
        for tile in self.tiles:
            if tile.count != 1:
                raise DataError(f"{tile.path}: has {tile.count} bands; label tiles have one band of class codes")
            if len(self.tiles) > 1 and tile.geobox.crs is None and tile.geobox.affine.is_identity:
                raise GridError(f"{tile.path}: has no georeference, so its place among the other tiles is unknown")
            row, column = offset_in(first, tile.geobox, tile.path)
            places.append((row, column, row + tile.window.height, column + tile.window.width))
        self.dtype: np.dtype[Any] = np.result_type(*{tile.dtype for tile in self.tiles})
        if self.dtype.kind == "f" and all(tile.dtype.kind != "f" for tile in self.tiles):
            raise DataError(f"{path}: its tiles are both int64 and uint64; no integer type holds both")
        nodata = {tile.nodata for tile in self.tiles}
        self.nodata = nodata.pop() if len(nodata) == 1 else None
        bounds = np.asarray(places, dtype=np.int64)
        top, left, bottom, right = (int(value) for value in (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0)))
        transform = first.affine @ first.affine.translation(left, top)
        self.geobox = GeoBox((bottom - top, right - left), transform, first.crs)
        # Row, column of the first pixel and of the first pixel beyond, of each tile: the index that finds tiles.
        self._bounds = bounds - (top, left, top, left)

    @property
    def window(self) -> Window:
        """The smallest rectangle around all tiles."""
        return Window(0, 0, *self.geobox.shape)

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where a tile has data (height, width); see `Raster.read`."""
        values = np.full((1, window.height, window.width), 0 if self.nodata is None else self.nodata, self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        for tile, source, target in self._touching(window):
            lay_over(values, valid, target, *tile.read(source))
        return values, valid

    def place_of(self, index: int) -> Window:
        """Where a tile lies in the mosaic."""
        top, left, bottom, right = (int(value) for value in self._bounds[index])
        return Window(top, left, bottom - top, right - left)

    def count_disagreements(self) -> int:
        """Pixels where two tiles have data and differ; reads the overlaps only."""
        differing = 0
        for index in range(len(self.tiles)):
            own = self.place_of(index)
            for other in np.flatnonzero(self._overlaps(own)):
                common = own.intersection(self.place_of(int(other))) if other > index else None
                if common is None:
                    continue
                for part in TilePlan(common.height, common.width, _SCAN_BLOCK):
                    place = part.shift(common.row, common.column)
                    codes, valid = [], np.ones((part.height, part.width), dtype=bool)
                    for one in (index, int(other)):
                        source = place.shift(-int(self._bounds[one, 0]), -int(self._bounds[one, 1]))
                        values, has = self.tiles[one].read(source)
                        codes.append(values[0])
                        valid &= has
                    differing += int(((codes[0] != codes[1]) & valid).sum())
        return differing

    def _overlaps(self, window: Window) -> npt.NDArray[np.bool_]:
        """Of each tile, whether it shares pixels with the window: one pass over all, microseconds a thousand."""
        top, left, bottom, right = self._bounds.T
        rows = (top < window.bottom) & (bottom > window.row)
        return np.asarray(rows & (left < window.right) & (right > window.column))

    def _touching(self, window: Window) -> list[tuple[RasterFile, Window, tuple[slice, slice]]]:
        """Tiles that share pixels with the window: the tile, the part in its own pixels, its place in the window."""
        check_inside(window, self.window, self.path)
        found = []
        for index in np.flatnonzero(self._overlaps(window)):
            own = self.place_of(int(index))
            part = own.intersection(window)
            assert part is not None
            target = part.shift(-window.row, -window.column).slices
            found.append((self.tiles[index], part.shift(-own.row, -own.column), target))
        return found


@dataclass(frozen=True)
class TileInMosaic:
    """One tile of a mosaic, as a raster of its own that knows what lies around it.

    Where tiles overlap, its codes are those of the mosaic, so that neighbours agree; where it has no data itself, it
    has none.

    Attributes:
        tile: the file.
        mosaic: all tiles.
        place: of the tile in the mosaic.
    """

    tile: RasterFile
    mosaic: TileMosaic
    place: Window

    count = 1

    @property
    def path(self) -> str:
        """Of the tile."""
        return self.tile.path

    @property
    def geobox(self) -> GeoBox:
        """Of the tile."""
        return self.tile.geobox

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the mosaic."""
        return self.mosaic.dtype

    @property
    def nodata(self) -> float | None:
        """Of the tile."""
        return self.tile.nodata

    @property
    def window(self) -> Window:
        """The whole tile."""
        return self.tile.window

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes of the mosaic (1, height, width), and where the tile has data (height, width); see `Raster.read`."""
        check_inside(window, self.window, self.path)
        return self.mosaic.read(window.shift(self.place.row, self.place.column))[0], self.tile.read(window)[1]


def with_neighbours(tiles: Sequence[RasterFile]) -> list[RasterFile | TileInMosaic]:
    """Each of many label files, together with those of the others that lie on its pixel grid.

    Args:
        tiles: on one grid or on several; files without georeference, and images, stay alone.

    Returns:
        in the same order.
    """
    groups: list[list[int]] = []
    for index, tile in enumerate(tiles):
        if tile.count != 1 or (tile.geobox.crs is None and tile.geobox.affine.is_identity):
            continue
        for group in groups:
            try:
                offset_in(tiles[group[0]].geobox, tile.geobox, tile.path)
            except GridError:
                continue
            group.append(index)
            break
        else:
            groups.append([index])
    result: list[RasterFile | TileInMosaic] = list(tiles)
    for group in groups:
        if len(group) > 1:
            mosaic = TileMosaic([tiles[index] for index in group], tiles[group[0]].path)
            for number, index in enumerate(group):
                result[index] = TileInMosaic(tiles[index], mosaic, mosaic.place_of(number))
    return result
