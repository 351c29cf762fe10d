"""Labels on a grid of other pixels: class codes resampled window by window, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.errors import GridError, SettingsError
from geosynth.grid import TilePlan, Window, ground_sampling_distance
from geosynth.raster.like import RasterLike, check_inside
from geosynth.raster.read import Array

Resampling = Literal["nearest", "mode"]

_SOURCE_BLOCK = 2048  # pixels; side of what is read at once
_EDGE = 1e-6  # of a pixel: an edge or centre that rounding puts beside a pixel border lies on it


class ResampledRaster:
    """Another raster's class codes at another pixel size, on the lattice of that size.

    Pixel borders lie on multiples of the new size from the origin of the CRS (in the grid's own directions), so that
    neighbouring rasters, resampled apart, stand on one grid. The new grid covers all of the old one.

    "nearest" takes the pixel below the new pixel's centre. "mode" takes the code with the largest area below the new
    pixel, among pixels with data; the smallest code where areas are equal.

    Attributes:
        path: of the source.
        geobox: the new grid.
        count: 1.
        dtype, nodata: of the source.
        source: the raster below.
    """

    count = 1

    def __init__(self, source: RasterLike, gsd: float, how: Resampling = "mode") -> None:
        """Lay the new grid over `source`.

        Args:
            source: single-band, in a projected CRS.
            gsd: metres a pixel of the new grid.
            how: see above.

        Raises:
            GridError: if pixels of the source cannot be told in metres.
        """
        old = source.geobox
        metres = ground_sampling_distance(old)
        if metres is None:
            raise GridError(f"{source.path}: its pixels are not in metres, so they cannot be resampled to {gsd:g} m")
        self.source, self.how = source, how
        self.path, self.dtype, self.nodata = source.path, source.dtype, source.nodata
        t = old.affine
        size = gsd * math.sqrt(abs(t.determinant)) / metres  # in units of the CRS
        # New pixels a source pixel, along (x, y).
        factors = (math.hypot(t.a, t.d) / size, math.hypot(t.b, t.e) / size)
        column, row = ~_linear(t) * (t.c, t.f)  # absolute position of the source's first pixel
        height, width = old.shape
        columns, rows = _Axis(column, width, factors[0]), _Axis(row, height, factors[1])
        self._rows, self._columns = rows, columns
        linear = _linear(t) * Affine.scale(1 / factors[0], 1 / factors[1])
        origin = linear * (columns.first, rows.first)
        transform = Affine(linear.a, linear.b, origin[0], linear.d, linear.e, origin[1])
        self.geobox = GeoBox((rows.count, columns.count), transform, old.crs)

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, *self.geobox.shape)

    def read(self, window: Window) -> Array:
        """(1, height, width) of codes; the nodata value, else 0, where there is no data."""
        values = np.full((1, window.height, window.width), 0 if self.nodata is None else self.nodata, self.dtype)
        for target, source, rows, columns in self._parts(window):
            codes, valid = self.source.read(source)[0], self.source.read_valid(source)
            if self.how == "nearest":
                picked, has = _nearest(codes, rows, columns), _nearest(valid, rows, columns)
                has &= rows.inside[:, None] & columns.inside
            else:
                picked, has = _mode(codes, valid, rows, columns)
            np.copyto(values[0][target], picked, where=has)
        return values

    def read_valid(self, window: Window) -> npt.NDArray[np.bool_]:
        """(height, width): where there is data."""
        result = np.zeros((window.height, window.width), dtype=bool)
        for target, source, rows, columns in self._parts(window):
            valid = self.source.read_valid(source)
            if self.how == "nearest":
                result[target] = _nearest(valid, rows, columns) & rows.inside[:, None] & columns.inside
            else:
                result[target] = _areas(valid, rows, columns) > _EDGE
        return result

    def _parts(self, window: Window) -> Iterator[tuple[tuple[slice, slice], Window, _Part, _Part]]:
        """Pieces of a window: place in it, source pixels below, and the new pixels' rows and columns on these."""
        check_inside(window, self.window, f"{self.path}, resampled")
        size = max(1, int(_SOURCE_BLOCK * min(self._rows.factor, self._columns.factor)))
        for piece in TilePlan(window.height, window.width, size):
            place = piece.shift(window.row, window.column)
            rows = self._rows.part(place.row, place.bottom)
            columns = self._columns.part(place.column, place.right)
            yield piece.slices, Window(rows.start, columns.start, rows.length, columns.length), rows, columns


def resample_labels(source: RasterLike, gsd: float, how: Resampling) -> RasterLike:
    """`source` at `gsd` metres a pixel; itself if it is so already. See `ResampledRaster`.

    Raises:
        SettingsError: if `how` is neither.
        GridError: if pixels of the source cannot be told in metres.
    """
    if how not in ("nearest", "mode"):
        raise SettingsError(f"labels are resampled by nearest or mode, not by {how!r}")
    metres = ground_sampling_distance(source.geobox)
    t = source.geobox.affine
    is_square = math.isclose(math.hypot(t.a, t.d), math.hypot(t.b, t.e), rel_tol=_EDGE)
    if metres is not None and math.isclose(metres, gsd, rel_tol=_EDGE) and is_square:
        return source
    return ResampledRaster(source, gsd, how)


class _Part(NamedTuple):
    """A run of new pixels along one axis, over source pixels `start` .. `start + length - 1`.

    Positions count source pixels from `start`: `edges` (new pixels + 1) are borders of new pixels, `nearest` (new
    pixels) is the source pixel below each one's centre, cropped to the source; `inside` tells where it was not.
    """

    start: int
    length: int
    edges: npt.NDArray[np.float64]
    nearest: npt.NDArray[np.int64]
    inside: npt.NDArray[np.bool_]


class _Axis:
    """New pixels along one axis: `factor` of them a source pixel; number `first` is the first, `count` in all."""

    def __init__(self, position: float, length: int, factor: float) -> None:
        self.position, self.length, self.factor = position, length, factor
        self.first = math.floor(position * factor + _EDGE)
        self.count = math.ceil((position + length) * factor - _EDGE) - self.first

    def part(self, start: int, stop: int) -> _Part:
        """New pixels `start` .. `stop - 1`, counted from `first`."""
        numbers = np.arange(self.first + start, self.first + stop + 1)
        edges = numbers / self.factor - self.position
        whole = np.round(edges)
        edges = np.where(np.abs(edges - whole) < _EDGE, whole, edges).clip(0, self.length)
        nearest = np.floor((numbers[:-1] + 0.5) / self.factor - self.position + _EDGE).astype(np.int64)
        inside = (nearest >= 0) & (nearest < self.length)
        nearest = nearest.clip(0, self.length - 1)
        low = min(int(edges[0]), int(nearest[0]))
        high = max(math.ceil(edges[-1]), int(nearest[-1]) + 1)
        return _Part(low, high - low, edges - low, nearest - low, inside)


def _linear(transform: Affine) -> Affine:
    return Affine(transform.a, transform.b, 0, transform.d, transform.e, 0)


def _nearest(values: Array, rows: _Part, columns: _Part) -> Array:
    picked: Array = values[np.ix_(rows.nearest, columns.nearest)]
    return picked


def _mode(codes: Array, valid: npt.NDArray[np.bool_], rows: _Part, columns: _Part) -> tuple[Array, Array]:
    """Codes of the largest area below each new pixel, and where there are any."""
    shape = (len(rows.nearest), len(columns.nearest))
    picked, largest = np.zeros(shape, codes.dtype), np.zeros(shape)
    for code in np.unique(codes[valid]):  # in rising order, so that the smallest stands where areas are equal
        area = _areas((codes == code) & valid, rows, columns)
        better = area > largest + _EDGE
        picked[better], largest[better] = code, area[better]
    return picked, largest > 0


def _areas(mask: npt.NDArray[np.bool_], rows: _Part, columns: _Part) -> npt.NDArray[np.float64]:
    """Area of `mask` below each new pixel, in source pixels: differences of running sums, along one axis at a time."""
    return _sums(_sums(mask.astype(np.float64), rows.edges).T, columns.edges).T


def _sums(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Integrals of piecewise constant columns of `values` between neighbouring edges: (len(edges) - 1, columns)."""
    running = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=running[1:])
    whole = np.floor(edges).astype(np.int64)
    inner = values[whole.clip(max=len(values) - 1)] * (edges - whole)[:, np.newaxis]
    sums: npt.NDArray[np.float64] = np.diff(running[whole] + inner, axis=0)
    return sums
